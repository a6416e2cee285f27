//! Decay in steps of equal length.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, reads_as_call};
use super::shape::power;
use crate::check::Check;
use crate::error::Error;

/// `lr(t) = base * max(factor^floor(t / period), floor)`
///
/// ```
/// use torchpace::schedule::{Curve, Step};
/// let step = Step { period: 10.0, factor: 0.5, floor: 0.0 };
/// assert_eq!([9.0, 10.0, 20.0].map(|t| step.lr(0.1, t)), [0.1, 0.05, 0.025]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The steps between two changes, above 0.
    pub period: f64,
    /// What each period multiplies the rate by, above 0 and at most 1.
    pub factor: f64,
    /// The least rate, in units of the base.
    pub floor: f64,
}

reads_as_call!(Step, period, factor, floor);

impl Curve for Step {
    const NAME: &'static str = "step";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.positive("period", self.period)?;
        check.positive_share("factor", self.factor)?;
        check.not_negative("floor", self.floor)
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        base * power(self.factor, (step / self.period).floor()).max(self.floor)
    }

    fn length(&self) -> Option<f64> {
        None
    }
}
