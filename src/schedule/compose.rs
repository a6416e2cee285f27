//! Schedules made of several. Each evaluates its parts at steps of their own, which [`reach`](Curve::reach) tells.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Schedule;
use super::curve::Curve;
use crate::check::Check;
use crate::check::Shown;
use crate::error::Error;

/// One after the other: part `i` from step `at[i - 1]` on, which is its own step 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// The parts.
    pub parts: Vec<Schedule>,
    /// Where each but the first begins, ascending, above 0.
    pub at: Vec<f64>,
}

/// `lr(t) = parts[0].lr(base, t) * parts[1].lr(1, t) * ...`: all but the first are factors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// The factors.
    pub parts: Vec<Schedule>,
}

/// `lr(t) = parts[0].lr(base, t) + parts[1].lr(base, t) + ...`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    /// The terms.
    pub parts: Vec<Schedule>,
}

/// Those of the scales that belong to a part.
fn share<'a>(parts: &[Schedule], part: usize, scales: &'a [f64]) -> &'a [f64] {
    if scales.is_empty() {
        return scales;
    }
    let before: usize = parts.iter().take(part).map(Schedule::plateau_count).sum();
    scales.get(before..).unwrap_or_default()
}

fn join(out: &mut fmt::Formatter<'_>, parts: &[Schedule], between: &str) -> fmt::Result {
    out.write_str("(")?;
    for (index, part) in parts.iter().enumerate() {
        write!(out, "{}{part}", if index == 0 { "" } else { between })?;
    }
    out.write_str(")")
}

/// The longest length, if all have one.
fn longest(parts: &[Schedule]) -> Option<f64> {
    parts.iter().map(Schedule::length).try_fold(0.0, |longest, length| length.map(|length| f64::max(longest, length)))
}

/// The sum; not `Iterator::sum`, which begins at -0.
fn add(rates: impl Iterator<Item = f64>) -> f64 {
    rates.fold(0.0, |sum, rate| sum + rate)
}

fn not_empty(name: &'static str, parts: &[Schedule]) -> Result<(), Error> {
    Check(name).that(!parts.is_empty(), "parts", &(parts.len() as f64), "at least one schedule")
}

impl Sequence {
    /// The part that a step is in, and the step at which that began.
    fn place(&self, step: f64) -> (usize, f64) {
        let part = self.at.partition_point(|at| *at <= step);
        (part, if part == 0 { 0.0 } else { self.at[part - 1] })
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            match index.checked_sub(1).and_then(|before| self.at.get(before)) {
                Some(at) => write!(out, ".then({part}, at={})", Shown(at))?,
                None => write!(out, "{part}")?,
            }
        }
        Ok(())
    }
}

impl Curve for Sequence {
    const NAME: &'static str = "then";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        check.ascending("at", &self.at)?;
        let good = self.parts.len() == self.at.len() + 1;
        check.that(good, "at", &self.at, "one step less than there are parts")
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        self.lr_scaled(base, step, &[])
    }

    fn length(&self) -> Option<f64> {
        Some(self.at.last()? + self.parts.last()?.length()?)
    }

    fn parts(&self) -> &[Schedule] {
        &self.parts
    }

    fn reach(&self, step: f64) -> Vec<(usize, f64)> {
        let (part, start) = self.place(step);
        vec![(part, step - start)]
    }

    fn lr_scaled(&self, base: f64, step: f64, scales: &[f64]) -> f64 {
        let (part, start) = self.place(step);
        let scales = share(&self.parts, part, scales);
        self.parts.get(part).map_or(f64::NAN, |schedule| schedule.lr_scaled(base, step - start, scales))
    }
}

/// A curve of parts that all are at the same step: how they read, the base of each, and what becomes of their rates.
macro_rules! curve_of_all {
    ($name:ty, $word:literal, $sign:literal, $base:expr, $rate:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                join(out, &self.parts, $sign)
            }
        }

        impl Curve for $name {
            const NAME: &'static str = $word;

            fn check(&self) -> Result<(), Error> {
                not_empty(Self::NAME, &self.parts)
            }

            fn lr(&self, base: f64, step: f64) -> f64 {
                self.lr_scaled(base, step, &[])
            }

            fn length(&self) -> Option<f64> {
                longest(&self.parts)
            }

            fn parts(&self) -> &[Schedule] {
                &self.parts
            }

            fn reach(&self, step: f64) -> Vec<(usize, f64)> {
                (0..self.parts.len()).map(|part| (part, step)).collect()
            }

            fn lr_scaled(&self, base: f64, step: f64, scales: &[f64]) -> f64 {
                let rate = |(index, part): (usize, &Schedule)| {
                    part.lr_scaled($base(base, index), step, share(&self.parts, index, scales))
                };
                $rate(self.parts.iter().enumerate().map(rate))
            }
        }
    };
}

curve_of_all!(Product, "product", " * ", |base, index| if index == 0 { base } else { 1.0 }, Iterator::product::<f64>);
curve_of_all!(Sum, "sum", " + ", |base, _| base, add);
