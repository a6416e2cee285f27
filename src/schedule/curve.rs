//! What a schedule is, and how it reads.

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

/// `Display` of a curve as a call of the Python function of its name, all arguments by keyword.
macro_rules! reads_as_call {
    ($curve:ty, $first:ident $(, $field:ident)*) => {
        impl std::fmt::Display for $curve {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                use $crate::check::Literal;
                use $crate::schedule::curve::Curve;
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

        impl $crate::check::Literal for $name {
            fn write(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(out, "'{}'", self.name())
            }
        }
    };
}

pub(crate) use {named, reads_as_call};
