//! Up and down for ever.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, named, reads_as_call};
use super::shape::{cosine_down, power};
use crate::check::Check;
use crate::error::Error;

named! {
    /// The form of a cycle, and what becomes of its height.
    Wave, "cyclic", "shape", "'triangular', 'triangular2', 'exp_range' or 'sine'", {
        /// Straight up, straight down.
        Triangular = "triangular",
        /// The same, and each cycle half as high as the one before.
        Triangular2 = "triangular2",
        /// The same, and the height falls with `gamma^t`.
        ExpRange = "exp_range",
        /// A sine wave of equal height.
        Sine = "sine",
    }
}

/// Cycles (Smith, 2017) between `low` and `high`, `up` steps one way and `down` the other:
/// `lr(t) = base * (low + (high - low) * wave(t) * height(t))`, where `wave` goes from 0 to 1 and back.
///
/// ```
/// use torchpace::schedule::{Curve, Cyclic, Wave};
/// let cyclic = Cyclic { up: 10.0, down: 10.0, low: 0.0, high: 1.0, shape: Wave::Triangular2, gamma: 1.0 };
/// assert_eq!([0.0, 5.0, 10.0, 20.0, 30.0].map(|t| cyclic.lr(1.0, t)), [0.0, 0.5, 1.0, 0.0, 0.5]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cyclic {
    /// The steps from `low` to `high`, above 0.
    pub up: f64,
    /// The steps back, above 0.
    pub down: f64,
    /// The rate at the start of a cycle, in units of the base.
    pub low: f64,
    /// The rate at the turn of the first, in units of the base.
    pub high: f64,
    /// The form.
    pub shape: Wave,
    /// What a step multiplies the height by under `exp_range`, above 0 and at most 1; 1 elsewhere.
    pub gamma: f64,
}

reads_as_call!(Cyclic, up, down, low, high, shape, gamma);

impl Curve for Cyclic {
    const NAME: &'static str = "cyclic";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.positive("up", self.up)?;
        check.positive("down", self.down)?;
        check.that((self.up + self.down).is_finite(), "down", &self.down, "a finite sum of up and down")?;
        check.not_negative("low", self.low)?;
        check.not_negative("high", self.high)?;
        check.positive_share("gamma", self.gamma)?;
        let good = self.gamma == 1.0 || self.shape == Wave::ExpRange;
        check.that(good, "gamma", &self.gamma, "1 unless shape is 'exp_range'")
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        let period = self.up + self.down;
        let within = step % period;
        let ramp = if within < self.up { within / self.up } else { (period - within) / self.down };
        let wave = match self.shape {
            Wave::Triangular => ramp,
            Wave::Triangular2 => ramp * (-((step - within) / period).round()).exp2(),
            Wave::ExpRange => ramp * power(self.gamma, step),
            Wave::Sine => 1.0 - cosine_down(ramp),
        };
        base * (self.low + (self.high - self.low) * wave)
    }

    fn length(&self) -> Option<f64> {
        None
    }
}
