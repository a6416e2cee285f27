//! The ranges of arguments: each check names the schedule or function, the argument, its value and what is allowed.

use std::fmt;

use crate::error::Error;

/// How a value reads in Python.
pub trait Literal {
    /// Writes it.
    fn write(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl Literal for f64 {
    fn write(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A zero without its sign, so that equal schedules read alike; whole numbers without a point.
        if self.fract() == 0.0 && self.abs() < 1e15 { write!(out, "{}", *self as i64) } else { write!(out, "{self:?}") }
    }
}

impl<T: Literal> Literal for Option<T> {
    fn write(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Some(value) => value.write(out),
            None => out.write_str("None"),
        }
    }
}

impl<T: Literal> Literal for Vec<T> {
    fn write(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[")?;
        for (index, value) in self.iter().enumerate() {
            out.write_str(if index == 0 { "" } else { ", " })?;
            value.write(out)?;
        }
        out.write_str("]")
    }
}

impl Literal for bool {
    fn write(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if *self { "True" } else { "False" })
    }
}

/// A literal where `{}` is wanted.
pub struct Shown<'a, T>(pub &'a T);

impl<T: Literal> fmt::Display for Shown<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(out)
    }
}

/// The arguments of one schedule or function.
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

    /// A factor on what is remembered.
    pub fn below_one(&self, name: &'static str, value: f64) -> Result<(), Error> {
        self.that((0.0..1.0).contains(&value), name, &value, "a number >= 0 and < 1")
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
