//! Decay with time.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, reads_as_call};
use crate::check::Check;
use crate::error::Error;

/// `lr(t) = base * max(1 / (1 + t / timescale), floor)`
///
/// Its sum diverges and the sum of its squares does not, the two conditions of Robbins and Monro (1951).
///
/// ```
/// use torchpace::schedule::{Curve, InverseTime};
/// assert_eq!(InverseTime { timescale: 100.0, floor: 0.0 }.lr(1.0, 300.0), 0.25);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InverseTime {
    /// The steps after which the rate has halved, above 0.
    pub timescale: f64,
    /// The least rate, in units of the base.
    pub floor: f64,
}

reads_as_call!(InverseTime, timescale, floor);

impl Curve for InverseTime {
    const NAME: &'static str = "inverse_time";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.positive("timescale", self.timescale)?;
        check.not_negative("floor", self.floor)
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        base * (1.0 / (1.0 + step / self.timescale)).max(self.floor)
    }

    fn length(&self) -> Option<f64> {
        None
    }
}
