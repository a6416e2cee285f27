//! Decay with the root of time.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, reads_as_call};
use crate::check::Check;
use crate::error::Error;

/// `lr(t) = base * max(1 / sqrt(1 + t / timescale), floor)`
///
/// After a warmup of as many steps as the time scale this is the decay of the transformer paper (Vaswani et al., 2017),
/// there with its peak at the base.
///
/// ```
/// use torchpace::schedule::{Curve, InverseSqrt};
/// assert_eq!(InverseSqrt { timescale: 100.0, floor: 0.0 }.lr(1.0, 300.0), 0.5);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InverseSqrt {
    /// The steps after which the rate has fallen to `1 / sqrt(2)`, above 0.
    pub timescale: f64,
    /// The least rate, in units of the base.
    pub floor: f64,
}

reads_as_call!(InverseSqrt, timescale, floor);

impl Curve for InverseSqrt {
    const NAME: &'static str = "inverse_sqrt";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.positive("timescale", self.timescale)?;
        check.not_negative("floor", self.floor)
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        base * (1.0 / (1.0 + step / self.timescale).sqrt()).max(self.floor)
    }

    fn length(&self) -> Option<f64> {
        None
    }
}
