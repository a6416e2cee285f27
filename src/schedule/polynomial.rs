//! Decay along a power of what is left.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, reads_as_call};
use super::shape::{between, power, progress};
use crate::check::Check;
use crate::error::Error;

/// `lr(t) = base * (floor + (1 - floor) * (1 - min(t / steps, 1))^power)`
///
/// ```
/// use torchpace::schedule::{Curve, Polynomial};
/// let square = Polynomial { steps: 10.0, power: 2.0, floor: 0.0 };
/// assert_eq!(square.lr(1.0, 5.0), 0.25);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polynomial {
    /// The length, in steps, above 0.
    pub steps: f64,
    /// The exponent, above 0.
    pub power: f64,
    /// The last rate, in units of the base.
    pub floor: f64,
}

reads_as_call!(Polynomial, steps, power, floor);

impl Curve for Polynomial {
    const NAME: &'static str = "polynomial";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.positive("steps", self.steps)?;
        check.positive("power", self.power)?;
        check.not_negative("floor", self.floor)
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        base * between(self.floor, 1.0, power(1.0 - progress(step, self.steps), self.power))
    }

    fn length(&self) -> Option<f64> {
        Some(self.steps)
    }
}
