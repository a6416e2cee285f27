//! A straight line, and then its end.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, reads_as_call};
use super::shape::{between, progress};
use crate::check::Check;
use crate::error::Error;

/// `lr(t) = base * (start + (end - start) * min(t / steps, 1))`
///
/// ```
/// use torchpace::schedule::{Curve, Linear};
/// let linear = Linear { steps: 10.0, start: 1.0, end: 0.0 };
/// assert_eq!(linear.lr(0.5, 5.0), 0.25);
/// assert_eq!(linear.lr(0.5, 1e300), 0.0);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// The length, in steps, above 0.
    pub steps: f64,
    /// The rate at step 0, in units of the base.
    pub start: f64,
    /// The rate from step `steps` on, in units of the base.
    pub end: f64,
}

reads_as_call!(Linear, steps, start, end);

impl Curve for Linear {
    const NAME: &'static str = "linear";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.positive("steps", self.steps)?;
        check.finite("start", self.start)?;
        check.finite("end", self.end)
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        base * between(self.start, self.end, progress(step, self.steps))
    }

    fn length(&self) -> Option<f64> {
        Some(self.steps)
    }
}
