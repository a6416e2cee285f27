//! Schedules made of one other: what each changes about its base, its step and its rate.

use std::fmt;
use std::slice::from_ref;

use serde::{Deserialize, Serialize};

use super::Schedule;
use super::curve::Curve;
use crate::check::Check;
use crate::check::Shown;
use crate::error::Error;

/// What a schedule of one part changes; all else is alike for all.
trait Change {
    const WORD: &'static str;

    fn check(&self) -> Result<(), Error>;

    /// The part's base.
    fn base(&self, base: f64) -> f64 {
        base
    }

    /// The part's step.
    fn step(&self, step: f64) -> f64 {
        step
    }

    /// The rate, from the part's.
    fn rate(&self, rate: f64) -> f64 {
        rate
    }

    /// The length, from the part's.
    fn end(&self, length: Option<f64>) -> Option<f64> {
        length
    }
}

macro_rules! curve_with_change {
    ($name:ty, $first:ident $(, $field:ident)*) => {
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                let word = <Self as Change>::WORD;
                write!(out, concat!("{}.{}(", stringify!($first), "={}"), self.schedule, word, Shown(&self.$first))?;
                $(write!(out, concat!(", ", stringify!($field), "={}"), Shown(&self.$field))?;)*
                out.write_str(")")
            }
        }

        impl Curve for $name {
            const NAME: &'static str = <Self as Change>::WORD;

            fn check(&self) -> Result<(), Error> {
                Change::check(self)
            }

            fn lr(&self, base: f64, step: f64) -> f64 {
                self.lr_scaled(base, step, &[])
            }

            fn length(&self) -> Option<f64> {
                self.end(self.schedule.length())
            }

            fn parts(&self) -> &[Schedule] {
                from_ref(&self.schedule)
            }

            fn reach(&self, step: f64) -> Vec<(usize, f64)> {
                vec![(0, self.step(step))]
            }

            fn lr_scaled(&self, base: f64, step: f64, scales: &[f64]) -> f64 {
                self.rate(self.schedule.lr_scaled(self.base(base), self.step(step), scales))
            }
        }
    };
}

/// `lr(t) = min(max(schedule.lr(base, t), low), high)`; the bounds are rates, not in units of the base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clamp {
    /// What is bounded.
    pub schedule: Schedule,
    /// The least rate, if any.
    pub low: Option<f64>,
    /// The greatest rate, if any.
    pub high: Option<f64>,
}

curve_with_change!(Clamp, low, high);

impl Change for Clamp {
    const WORD: &'static str = "clamp";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::WORD);
        self.low.map_or(Ok(()), |low| check.finite("low", low))?;
        self.high.map_or(Ok(()), |high| check.finite("high", high))?;
        let (low, high) = (self.low.unwrap_or(f64::MIN), self.high.unwrap_or(f64::MAX));
        check.that(low <= high, "low", &self.low, "None or a number <= high")
    }

    fn rate(&self, rate: f64) -> f64 {
        // Not `max` and `min`, which would hide a NaN.
        let rate = self.low.map_or(rate, |low| if rate < low { low } else { rate });
        self.high.map_or(rate, |high| if rate > high { high } else { rate })
    }
}

/// `lr(t) = schedule.lr(base, t mod every)`, `times` times or for ever; afterwards the rate at step `every`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// What is repeated.
    pub schedule: Schedule,
    /// The steps of one time, above 0.
    pub every: f64,
    /// How many times, whole, above 0; none for ever.
    pub times: Option<f64>,
}

curve_with_change!(Repeat, every, times);

impl Change for Repeat {
    const WORD: &'static str = "repeat";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::WORD);
        check.positive("every", self.every)?;
        let good = self.times.is_none_or(|times| times >= 1.0 && times.fract() == 0.0);
        check.that(good, "times", &self.times, "None or a whole number >= 1")?;
        let good = self.times.is_none_or(|times| (times * self.every).is_finite());
        check.that(good, "every", &self.every, "a finite product of every and times")
    }

    fn step(&self, step: f64) -> f64 {
        match self.times {
            Some(times) if step >= times * self.every => self.every,
            _ => step % self.every,
        }
    }

    fn end(&self, _length: Option<f64>) -> Option<f64> {
        self.times.map(|times| times * self.every)
    }
}

/// `lr(t) = factor * schedule.lr(base, t)`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// What is multiplied.
    pub schedule: Schedule,
    /// By what.
    pub factor: f64,
}

curve_with_change!(Scale, factor);

impl Change for Scale {
    const WORD: &'static str = "scale";

    fn check(&self) -> Result<(), Error> {
        Check(Self::WORD).finite("factor", self.factor)
    }

    fn rate(&self, rate: f64) -> f64 {
        self.factor * rate
    }
}

/// `lr(t) = schedule.lr(base, max(t - steps, 0))`: later, or earlier where `steps` is negative.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shift {
    /// What is moved.
    pub schedule: Schedule,
    /// By how many steps.
    pub steps: f64,
}

curve_with_change!(Shift, steps);

impl Change for Shift {
    const WORD: &'static str = "shift";

    fn check(&self) -> Result<(), Error> {
        Check(Self::WORD).finite("steps", self.steps)
    }

    fn step(&self, step: f64) -> f64 {
        (step - self.steps).max(0.0)
    }

    fn end(&self, length: Option<f64>) -> Option<f64> {
        length.map(|length| (length + self.steps).max(0.0))
    }
}

/// `lr(t) = schedule.lr(base, max(steps - t, 0))`: backwards, and then the first rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reverse {
    /// What is reversed.
    pub schedule: Schedule,
    /// Where it begins, above 0.
    pub steps: f64,
}

curve_with_change!(Reverse, steps);

impl Change for Reverse {
    const WORD: &'static str = "reverse";

    fn check(&self) -> Result<(), Error> {
        Check(Self::WORD).positive("steps", self.steps)
    }

    fn step(&self, step: f64) -> f64 {
        (self.steps - step).max(0.0)
    }

    fn end(&self, _length: Option<f64>) -> Option<f64> {
        Some(self.steps)
    }
}

/// `lr(t) = low + schedule.lr(base - low, t)`: a decay to 0 becomes one to the rate `low`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Above {
    /// What is raised.
    pub schedule: Schedule,
    /// The rate in the place of 0.
    pub low: f64,
}

curve_with_change!(Above, low);

impl Change for Above {
    const WORD: &'static str = "above";

    fn check(&self) -> Result<(), Error> {
        Check(Self::WORD).finite("low", self.low)
    }

    fn base(&self, base: f64) -> f64 {
        base - self.low
    }

    fn rate(&self, rate: f64) -> f64 {
        self.low + rate
    }
}

/// `lr(t) = schedule.lr(base, t)` with a base of its own, whatever the base asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebase {
    /// What gets the base.
    pub schedule: Schedule,
    /// The base.
    pub base: f64,
}

curve_with_change!(Rebase, base);

impl Change for Rebase {
    const WORD: &'static str = "rebase";

    fn check(&self) -> Result<(), Error> {
        Check(Self::WORD).finite("base", self.base)
    }

    fn base(&self, _base: f64) -> f64 {
        self.base
    }
}
