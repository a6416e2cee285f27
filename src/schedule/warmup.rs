//! From a small rate to the base.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, named, reads_as_call};
use super::shape::{between, cosine_down, power, progress};
use crate::check::Check;
use crate::error::Error;

named! {
    /// The form of a warmup.
    Ramp, "warmup", "shape", "'linear', 'cosine', 'exponential' or 'constant'", {
        /// A straight line.
        Linear = "linear",
        /// Half a cosine wave.
        Cosine = "cosine",
        /// Equal factors in equal times.
        Exponential = "exponential",
        /// The start, and at the end of the warmup the base.
        Constant = "constant",
    }
}

/// From `start * base` at step 0 to the base at step `steps`, and then the base.
///
/// With `x = min(t / steps, 1)`, in units of the base: linear `start + (1 - start) * x`, cosine
/// `start + (1 - start) * (1 - cos(pi * x)) / 2`, exponential `start^(1 - x)`, constant `start` where `x < 1`.
///
/// ```
/// use torchpace::schedule::{Curve, Ramp, Warmup};
/// let warmup = Warmup { steps: 10.0, start: 0.01, shape: Ramp::Exponential };
/// assert!((warmup.lr(1.0, 5.0) - 0.1).abs() < 1e-15);
/// assert_eq!(warmup.lr(1.0, 10.0), 1.0);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// The length, in steps, above 0.
    pub steps: f64,
    /// The rate at step 0, in units of the base; above 0 if exponential.
    pub start: f64,
    /// The form.
    pub shape: Ramp,
}

reads_as_call!(Warmup, steps, start, shape);

impl Curve for Warmup {
    const NAME: &'static str = "warmup";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.positive("steps", self.steps)?;
        check.not_negative("start", self.start)?;
        let good = self.start > 0.0 || self.shape != Ramp::Exponential;
        check.that(good, "start", &self.start, "a finite number > 0 where shape is 'exponential'")
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        let share = progress(step, self.steps);
        base * match self.shape {
            Ramp::Linear => between(self.start, 1.0, share),
            Ramp::Cosine => between(1.0, self.start, cosine_down(share)),
            Ramp::Exponential => power(self.start, 1.0 - share),
            Ramp::Constant if share < 1.0 => self.start,
            Ramp::Constant => 1.0,
        }
    }

    fn length(&self) -> Option<f64> {
        Some(self.steps)
    }
}
