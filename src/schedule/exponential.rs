//! Smooth exponential decay.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, reads_as_call};
use super::shape::power;
use crate::check::Check;
use crate::error::Error;

/// `lr(t) = base * max(factor^(t / period), floor)`
///
/// ```
/// use torchpace::schedule::{Curve, Exponential};
/// let decay = Exponential { factor: 0.95, period: 1000.0, floor: 0.0 };
/// assert!((decay.lr(0.1, 500.0) - 0.0974679).abs() < 1e-7);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exponential {
    /// What a period multiplies the rate by, above 0; above 1 the rate grows.
    pub factor: f64,
    /// The steps in which the rate changes by `factor`, above 0.
    pub period: f64,
    /// The least rate, in units of the base.
    pub floor: f64,
}

reads_as_call!(Exponential, factor, period, floor);

impl Curve for Exponential {
    const NAME: &'static str = "exponential";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.positive("factor", self.factor)?;
        check.positive("period", self.period)?;
        check.not_negative("floor", self.floor)
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        base * power(self.factor, step / self.period).max(self.floor)
    }

    fn length(&self) -> Option<f64> {
        None
    }
}
