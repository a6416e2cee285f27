//! Half a cosine wave down.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, reads_as_call};
use super::shape::{between, cosine_down, progress};
use crate::check::Check;
use crate::error::Error;

/// `lr(t) = base * (floor + (1 - floor) * (1 + cos(pi * min(t / steps, 1))) / 2)`
///
/// ```
/// use torchpace::schedule::{Cosine, Curve};
/// let cosine = Cosine { steps: 100.0, floor: 0.1 };
/// assert_eq!(cosine.lr(1.0, 0.0), 1.0);
/// assert!((cosine.lr(1.0, 50.0) - 0.55).abs() < 1e-15);
/// assert_eq!(cosine.lr(1.0, 100.0), 0.1);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosine {
    /// The length, in steps, above 0.
    pub steps: f64,
    /// The last rate, in units of the base.
    pub floor: f64,
}

reads_as_call!(Cosine, steps, floor);

impl Curve for Cosine {
    const NAME: &'static str = "cosine";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.positive("steps", self.steps)?;
        check.not_negative("floor", self.floor)
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        base * between(self.floor, 1.0, cosine_down(progress(step, self.steps)))
    }

    fn length(&self) -> Option<f64> {
        Some(self.steps)
    }
}
