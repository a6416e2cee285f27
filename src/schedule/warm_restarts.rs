//! Cosine decay that starts over.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, reads_as_call};
use super::shape::{between, cosine_down, power};
use crate::check::Check;
use crate::error::Error;

/// Cosine decay with warm restarts (Loshchilov and Hutter, 2017). Cycle `n` is `period * growth^n` steps long and falls
/// from `max(decay^n, floor)` to `floor`, in units of the base.
///
/// Shrinking periods (`growth` below 1) come to an end at step `period / (1 - growth)`, and the rate then stays at
/// `floor`.
///
/// ```
/// use torchpace::schedule::{Curve, WarmRestarts};
/// let restarts = WarmRestarts { period: 10.0, growth: 2.0, decay: 0.5, floor: 0.0 };
/// assert_eq!([0.0, 10.0, 30.0].map(|t| restarts.lr(1.0, t)), [1.0, 0.5, 0.25]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmRestarts {
    /// The steps of the first cycle, above 0.
    pub period: f64,
    /// The length of each cycle over that of the one before, above 0.
    pub growth: f64,
    /// The peak of each cycle over that of the one before, above 0 and at most 1.
    pub decay: f64,
    /// The rate at the end of each cycle, in units of the base, at most 1.
    pub floor: f64,
}

reads_as_call!(WarmRestarts, period, growth, decay, floor);

impl WarmRestarts {
    /// The cycle that a step is in, and how much of it has passed; none after the end of shrinking cycles.
    fn cycle(&self, step: f64) -> Option<(f64, f64)> {
        let (period, growth) = (self.period, self.growth);
        if self.length().is_some_and(|length| step >= length) {
            return None;
        }
        if growth == 1.0 {
            let within = step % period;
            return Some((((step - within) / period).round(), within / period));
        }
        let start = |cycle: f64| period * (growth.powf(cycle) - 1.0) / (growth - 1.0);
        let estimate = (1.0 + step * (growth - 1.0) / period).ln() / growth.ln();
        // The logarithms may round across a restart.
        let mut cycle = estimate.floor();
        if step < start(cycle) {
            cycle -= 1.0;
        } else if step >= start(cycle + 1.0) {
            cycle += 1.0;
        }
        let share = (step - start(cycle)) / (period * growth.powf(cycle));
        (cycle.is_finite() && share.is_finite()).then_some((cycle, share.clamp(0.0, 1.0)))
    }
}

impl Curve for WarmRestarts {
    const NAME: &'static str = "warm_restarts";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.positive("period", self.period)?;
        check.positive("growth", self.growth)?;
        check.positive_share("decay", self.decay)?;
        check.share("floor", self.floor)
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        let Some((cycle, share)) = self.cycle(step) else {
            return base * self.floor;
        };
        base * between(self.floor, power(self.decay, cycle).max(self.floor), cosine_down(share))
    }

    fn length(&self) -> Option<f64> {
        (self.growth < 1.0).then(|| self.period / (1.0 - self.growth))
    }
}
