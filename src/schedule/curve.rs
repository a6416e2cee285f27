//! What a schedule is, and how its arguments are checked and read.

use std::fmt;

use super::Schedule;
use crate::error::Error;

/// A rate as a function of the step, without memory.
///
/// Steps count from 0, and may be fractions: training moves in whole steps, and epochs, samples and pictures fall
/// between them. An `f64` holds every whole step up to 2^53.
pub trait Curve: fmt::Display {
    /// The name, in JSON, in errors and in the Python face.
    const NAME: &'static str;

    /// Refuses arguments out of their range.
    fn check(&self) -> Result<(), Error>;

    /// The rate at a step.
    fn lr(&self, base: f64, step: f64) -> f64;

    /// The step from which on the rate no longer changes, if there is one.
    fn length(&self) -> Option<f64>;

    /// The schedules that this one is made of.
    fn parts(&self) -> &[Schedule] {
        &[]
    }

    /// Which parts the rate at a step depends on, and at which step of theirs.
    fn reach(&self, _step: f64) -> Vec<(usize, f64)> {
        Vec::new()
    }

    /// The rate at a step where the plateaus inside, in the order of writing, have come to these scales.
    fn lr_scaled(&self, base: f64, step: f64, _scales: &[f64]) -> f64 {
        self.lr(base, step)
    }
}

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

/// A literal where `{}` is wanted.
pub struct Shown<'a, T>(pub &'a T);

impl<T: Literal> fmt::Display for Shown<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(out)
    }
}

/// `Display` of a curve as a call of the Python function of its name, all arguments by keyword.
macro_rules! reads_as_call {
    ($curve:ty, $first:ident $(, $field:ident)*) => {
        impl std::fmt::Display for $curve {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                use $crate::schedule::curve::{Curve, Literal};
                write!(out, concat!("{}(", stringify!($first), "="), Self::NAME)?;
                self.$first.write(out)?;
                $(
                    out.write_str(concat!(", ", stringify!($field), "="))?;
                    self.$field.write(out)?;
                )*
                out.write_str(")")
            }
        }
    };
}

/// An enum whose variants have names, in JSON and in Python.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $schedule:literal, $argument:literal, $expected:literal,
     { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::error::Error;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|one| one.name() == word).ok_or_else(|| {
                    $crate::error::Error::Argument {
                        schedule: $schedule,
                        name: $argument,
                        found: format!("{word:?}"),
                        expected: $expected,
                    }
                })
            }
        }

        impl $crate::schedule::curve::Literal for $name {
            fn write(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(out, "'{}'", self.name())
            }
        }
    };
}

pub(crate) use {named, reads_as_call};
