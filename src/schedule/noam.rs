//! The transformer paper's schedule.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, reads_as_call};
use crate::check::Check;
use crate::error::Error;

/// `lr(t) = base * model_size^-0.5 * min((t + 1)^-0.5, (t + 1) * warmup^-1.5)` (Vaswani et al., 2017)
///
/// The paper counts steps from 1, so that its rate is never 0; the base is usually 1, or another small number.
///
/// ```
/// use torchpace::schedule::{Curve, Noam};
/// let noam = Noam { model_size: 512.0, warmup: 4000.0 };
/// assert!((noam.lr(1.0, 3999.0) - 6.987712e-4).abs() < 1e-9);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noam {
    /// The width of the model, above 0.
    pub model_size: f64,
    /// The steps up to the peak, above 0.
    pub warmup: f64,
}

reads_as_call!(Noam, model_size, warmup);

impl Curve for Noam {
    const NAME: &'static str = "noam";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.positive("model_size", self.model_size)?;
        check.positive("warmup", self.warmup)
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        let count = step + 1.0;
        let rate = (1.0 / count.sqrt()).min(count * self.warmup.powf(-1.5));
        base * (rate / self.model_size.sqrt()).min(f64::MAX)
    }

    fn length(&self) -> Option<f64> {
        None
    }
}
