//! Up once, and down once.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, named, reads_as_call};
use super::shape::{between, cosine_down, progress};
use crate::check::Check;
use crate::error::Error;

named! {
    /// The form of a way up or down.
    Anneal, "one_cycle", "shape", "'cosine' or 'linear'", {
        /// Half a cosine wave.
        Cosine = "cosine",
        /// A straight line.
        Linear = "linear",
    }
}

/// One cycle (Smith and Topin, 2018): from `start` up to `peak` at step `rise * steps`, then down to `end` at step
/// `steps`, each in units of the base and along a line or half a cosine wave.
///
/// The momentum's cycle is the same with `start` and `end` above `peak`.
///
/// ```
/// use torchpace::schedule::{Anneal, Curve, OneCycle};
/// let cycle = OneCycle { steps: 100.0, rise: 0.3, start: 0.04, peak: 1.0, end: 4e-6, shape: Anneal::Cosine };
/// assert_eq!([0.0, 30.0, 100.0].map(|t| cycle.lr(1.0, t)), [0.04, 1.0, 4e-6]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneCycle {
    /// The length, in steps, above 0.
    pub steps: f64,
    /// The share of the steps that go up, between 0 and 1.
    pub rise: f64,
    /// The rate at step 0, in units of the base.
    pub start: f64,
    /// The rate at the turn, in units of the base.
    pub peak: f64,
    /// The rate from step `steps` on, in units of the base.
    pub end: f64,
    /// The form of both ways.
    pub shape: Anneal,
}

reads_as_call!(OneCycle, steps, rise, start, peak, end, shape);

impl Curve for OneCycle {
    const NAME: &'static str = "one_cycle";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.positive("steps", self.steps)?;
        check.that(self.rise > 0.0 && self.rise < 1.0, "rise", &self.rise, "a number > 0 and < 1")?;
        check.not_negative("start", self.start)?;
        check.not_negative("peak", self.peak)?;
        check.not_negative("end", self.end)
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        let turn = self.rise * self.steps;
        let (from, to, share) = if step < turn {
            (self.start, self.peak, progress(step, turn))
        } else {
            (self.peak, self.end, progress(step - turn, self.steps - turn))
        };
        base * match self.shape {
            Anneal::Linear => between(from, to, share),
            Anneal::Cosine => between(to, from, cosine_down(share)),
        }
    }

    fn length(&self) -> Option<f64> {
        Some(self.steps)
    }
}
