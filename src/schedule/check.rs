//! The ranges of arguments: each check names the schedule, the argument, its value and what is allowed.

use super::curve::{Literal, Shown};
use crate::error::Error;

/// The arguments of one schedule.
pub struct Check(pub &'static str);

impl Check {
    /// Refuses a value that is not in order.
    pub fn that<T: Literal>(
        &self,
        good: bool,
        name: &'static str,
        value: &T,
        expected: &'static str,
    ) -> Result<(), Error> {
        if good {
            return Ok(());
        }
        Err(Error::Argument { schedule: self.0, name, found: Shown(value).to_string(), expected })
    }

    /// A number of any sign.
    pub fn finite(&self, name: &'static str, value: f64) -> Result<(), Error> {
        self.that(value.is_finite(), name, &value, "a finite number")
    }

    /// A number that is not negative.
    pub fn not_negative(&self, name: &'static str, value: f64) -> Result<(), Error> {
        self.that(value.is_finite() && value >= 0.0, name, &value, "a finite number >= 0")
    }

    /// A length, or a factor that must not vanish.
    pub fn positive(&self, name: &'static str, value: f64) -> Result<(), Error> {
        self.that(value.is_finite() && value > 0.0, name, &value, "a finite number > 0")
    }

    /// A share of the whole.
    pub fn share(&self, name: &'static str, value: f64) -> Result<(), Error> {
        self.that((0.0..=1.0).contains(&value), name, &value, "a number from 0 to 1")
    }

    /// A share of the whole that must not vanish.
    pub fn positive_share(&self, name: &'static str, value: f64) -> Result<(), Error> {
        self.that(value > 0.0 && value <= 1.0, name, &value, "a number > 0 and <= 1")
    }

    /// Steps, one after the other.
    pub fn ascending(&self, name: &'static str, steps: &Vec<f64>) -> Result<(), Error> {
        let good = !steps.is_empty()
            && steps.iter().all(|step| step.is_finite() && *step > 0.0)
            && steps.windows(2).all(|pair| pair[0] < pair[1]);
        self.that(good, name, steps, "at least one step, each finite, > 0 and greater than the one before")
    }
}
