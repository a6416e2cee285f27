//! Decay at chosen steps.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, reads_as_call};
use super::shape::power;
use crate::check::Check;
use crate::error::Error;

/// `lr(t) = base * max(factor^(number of milestones <= t), floor)`
///
/// ```
/// use torchpace::schedule::{Curve, MultiStep};
/// let decay = MultiStep { milestones: vec![30.0, 60.0], factor: 0.1, floor: 0.0 };
/// assert_eq!(decay.lr(1.0, 29.0), 1.0);
/// assert_eq!(decay.lr(1.0, 30.0), 0.1);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiStep {
    /// The steps at which the rate changes, ascending, above 0.
    pub milestones: Vec<f64>,
    /// What each milestone multiplies the rate by, above 0.
    pub factor: f64,
    /// The least rate, in units of the base.
    pub floor: f64,
}

reads_as_call!(MultiStep, milestones, factor, floor);

impl Curve for MultiStep {
    const NAME: &'static str = "multi_step";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.ascending("milestones", &self.milestones)?;
        check.positive("factor", self.factor)?;
        check.not_negative("floor", self.floor)
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        let passed = self.milestones.partition_point(|milestone| *milestone <= step);
        base * power(self.factor, passed as f64).max(self.floor)
    }

    fn length(&self) -> Option<f64> {
        self.milestones.last().copied()
    }
}
