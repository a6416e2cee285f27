//! A rate that never changes.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, reads_as_call};
use crate::check::Check;
use crate::error::Error;

/// `lr(t) = base * factor`
///
/// ```
/// use torchpace::schedule::{Constant, Curve};
/// assert_eq!(Constant { factor: 0.5 }.lr(0.1, 7.0), 0.05);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    /// The rate, in units of the base.
    pub factor: f64,
}

reads_as_call!(Constant, factor);

impl Curve for Constant {
    const NAME: &'static str = "constant";

    fn check(&self) -> Result<(), Error> {
        Check(Self::NAME).finite("factor", self.factor)
    }

    fn lr(&self, base: f64, _step: f64) -> f64 {
        base * self.factor
    }

    fn length(&self) -> Option<f64> {
        Some(0.0)
    }
}
