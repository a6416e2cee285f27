//! Constant pieces of chosen values.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, reads_as_call};
use crate::check::Check;
use crate::error::Error;

/// `lr(t) = base * values[number of milestones <= t]`
///
/// ```
/// use torchpace::schedule::{Curve, Piecewise};
/// let pieces = Piecewise { milestones: vec![10.0, 20.0], values: vec![1.0, 0.5, 2.0] };
/// assert_eq!([0.0, 9.0, 10.0, 20.0].map(|t| pieces.lr(0.1, t)), [0.1, 0.1, 0.05, 0.2]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piecewise {
    /// The steps at which the next piece begins, ascending, above 0.
    pub milestones: Vec<f64>,
    /// The rates, in units of the base: one more than milestones.
    pub values: Vec<f64>,
}

reads_as_call!(Piecewise, milestones, values);

impl Curve for Piecewise {
    const NAME: &'static str = "piecewise";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.ascending("milestones", &self.milestones)?;
        let good = self.values.len() == self.milestones.len() + 1 && self.values.iter().all(|value| value.is_finite());
        check.that(good, "values", &self.values, "finite numbers, one more than milestones")
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        let passed = self.milestones.partition_point(|milestone| *milestone <= step);
        base * self.values.get(passed).copied().unwrap_or(f64::NAN)
    }

    fn length(&self) -> Option<f64> {
        self.milestones.last().copied()
    }
}
