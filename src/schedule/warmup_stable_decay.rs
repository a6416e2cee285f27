//! Three phases: up, level, down.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, named, reads_as_call};
use super::shape::{between, cosine_down, progress};
use crate::check::Check;
use crate::error::Error;

named! {
    /// The form of the decay.
    Fall, "warmup_stable_decay", "shape", "'linear', 'cosine' or '1-sqrt'", {
        /// A straight line.
        Linear = "linear",
        /// Half a cosine wave.
        Cosine = "cosine",
        /// 1 minus the root of what has passed (Haegele et al., 2024).
        OneMinusSqrt = "1-sqrt",
    }
}

/// A linear warmup from `start`, the base, and a decay to `floor`, in units of the base.
///
/// With `x` from 0 to 1 over the decay: `floor + (1 - floor) * fall(x)`, where `fall` is `1 - x`, `(1 + cos(pi * x)) / 2`
/// or `1 - sqrt(x)`.
///
/// ```
/// use torchpace::schedule::{Curve, Fall, WarmupStableDecay};
/// let phases =
///     WarmupStableDecay { warmup: 10.0, stable: 80.0, decay: 16.0, start: 0.0, floor: 0.0, shape: Fall::OneMinusSqrt };
/// assert_eq!([5.0, 10.0, 90.0, 94.0, 106.0].map(|t| phases.lr(1.0, t)), [0.5, 1.0, 1.0, 0.5, 0.0]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmupStableDecay {
    /// The steps up; 0 for none.
    pub warmup: f64,
    /// The steps at the base; 0 for none.
    pub stable: f64,
    /// The steps down, above 0.
    pub decay: f64,
    /// The rate at step 0, in units of the base.
    pub start: f64,
    /// The last rate, in units of the base.
    pub floor: f64,
    /// The form of the decay.
    pub shape: Fall,
}

reads_as_call!(WarmupStableDecay, warmup, stable, decay, start, floor, shape);

impl Curve for WarmupStableDecay {
    const NAME: &'static str = "warmup_stable_decay";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.not_negative("warmup", self.warmup)?;
        check.not_negative("stable", self.stable)?;
        check.positive("decay", self.decay)?;
        let whole = self.warmup + self.stable + self.decay;
        check.that(whole.is_finite(), "decay", &self.decay, "a finite sum of warmup, stable and decay")?;
        check.not_negative("start", self.start)?;
        check.not_negative("floor", self.floor)
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        if step < self.warmup {
            return base * between(self.start, 1.0, progress(step, self.warmup));
        }
        let start = self.warmup + self.stable;
        // What is left of the sum may round to less than the decay.
        let share = if step >= start + self.decay { 1.0 } else { progress(step - start, self.decay) };
        let left = match self.shape {
            Fall::Linear => 1.0 - share,
            Fall::Cosine => cosine_down(share),
            Fall::OneMinusSqrt => 1.0 - share.sqrt(),
        };
        base * between(self.floor, 1.0, left)
    }

    fn length(&self) -> Option<f64> {
        Some(self.warmup + self.stable + self.decay)
    }
}
