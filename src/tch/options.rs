//! The options of one parameter group, by name: what the rules read, schedules and users write, and checkpoints keep.

use std::collections::BTreeMap;

use super::error::Error;
use crate::batch::{Clip, Nonfinite};
use crate::error::Error as CoreError;
use crate::rule::{self, Learned};

/// The option of schedule-free rules that says which mode they are in.
pub const TRAIN_MODE: &str = "train_mode";

/// The value of an option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    Number(f64),
    Pair([f64; 2]),
    Triple([f64; 3]),
    Flag(bool),
    /// `max_grad_norm`, `clip_value` and `skip_grad_norm`: off without a number.
    Bound(Option<f64>),
    Nonfinite(Nonfinite),
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<[f64; 2]> for Value {
    fn from(pair: [f64; 2]) -> Self {
        Self::Pair(pair)
    }
}

impl From<[f64; 3]> for Value {
    fn from(triple: [f64; 3]) -> Self {
        Self::Triple(triple)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Option<f64>> for Value {
    fn from(bound: Option<f64>) -> Self {
        Self::Bound(bound)
    }
}

impl From<Nonfinite> for Value {
    fn from(nonfinite: Nonfinite) -> Self {
        Self::Nonfinite(nonfinite)
    }
}

/// A group's options.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The group's number.
    pub group: usize,
    /// `lr` first; the order of the others is that of their declaration.
    pub entries: Vec<(&'static str, Value)>,
    /// What scheduled options were before a schedule took them over, by name: the Python face's `initial_lr` and so on.
    pub bases: BTreeMap<String, f64>,
}

/// Where a number is: in an option of its own or at a place of a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    entry: usize,
    index: Option<usize>,
}

/// The options of the group of this number.
pub fn table(tables: &[Table], group: usize) -> Result<&Table, Error> {
    tables.get(group).ok_or(Error::UnknownGroup { found: group, count: tables.len() })
}

impl Table {
    /// The options of a group, checked.
    pub fn new(group: usize, lr: f64, entries: Vec<(&'static str, Value)>) -> Result<Self, Error> {
        let entries = std::iter::once(("lr", Value::Number(lr))).chain(entries).collect();
        let table = Self { group, entries, bases: BTreeMap::new() };
        table.check()?;
        Ok(table)
    }

    /// An option.
    pub fn get(&self, name: &str) -> Option<Value> {
        self.entries.iter().find(|entry| entry.0 == name).map(|entry| entry.1)
    }

    fn flagged(&self, name: &str) -> bool {
        self.get(name) == Some(Value::Flag(true))
    }

    fn is_zero(&self, name: &str) -> bool {
        self.get(name) == Some(Value::Number(0.0))
    }

    /// That all options are in their ranges, which are torch's.
    pub fn check(&self) -> Result<(), Error> {
        for &(name, value) in &self.entries {
            let (good, expected) = match value {
                Value::Number(number) if name == "dampening" || name == "d_numerator" => (!number.is_nan(), "a number"),
                Value::Number(number) if name == "rho" => ((0.0..=1.0).contains(&number), "a number >= 0 and <= 1"),
                Value::Number(number) if name == "d0" => (number > 0.0, "a number > 0"),
                Value::Number(number) if name == "growth_rate" => (number >= 1.0, "a number >= 1"),
                Value::Number(number) => (number >= 0.0, "a number >= 0"),
                Value::Pair([minus, plus]) if name == "etas" => {
                    (0.0 < minus && minus < 1.0 && 1.0 < plus, "two numbers, one > 0 and < 1 and one > 1")
                }
                Value::Pair(pair) if name == "step_sizes" => {
                    (pair.iter().all(|number| *number >= 0.0), "two numbers >= 0")
                }
                Value::Pair(pair) => {
                    (pair.iter().all(|number| (0.0..1.0).contains(number)), "two numbers >= 0 and < 1")
                }
                Value::Triple(triple) => {
                    (triple.iter().all(|number| (0.0..1.0).contains(number)), "three numbers >= 0 and < 1")
                }
                Value::Bound(bound) if name == "skip_grad_norm" => {
                    (bound.is_none_or(|bound| bound > 0.0), "None or a number > 0")
                }
                Value::Bound(bound) => (bound.is_none_or(|bound| bound >= 0.0), "None or a number >= 0"),
                Value::Flag(_) | Value::Nonfinite(_) => continue,
            };
            if !good {
                return Err(self.wrong(name, value.to_string(), expected));
            }
        }
        if self.flagged("cautious_weight_decay") && self.get("decoupled_weight_decay") == Some(Value::Flag(false)) {
            return Err(self.wrong("cautious_weight_decay", "true".to_owned(), "false where decay is not decoupled"));
        }
        if self.get(TRAIN_MODE).is_some() {
            let beta = self.averaging()?;
            if !(0.0 < beta && beta < 1.0) {
                return Err(self.wrong(self.averaging_name(), beta.to_string(), "a number > 0 and < 1"));
            }
        }
        for name in ["nesterov", "averaged"] {
            if self.flagged(name) && (self.is_zero("momentum") || !self.is_zero("dampening")) {
                return Err(self.wrong(name, "true".to_owned(), "false where momentum is 0 or dampening is not"));
            }
        }
        Ok(())
    }

    /// Whether a schedule-free rule is in train mode; `None` for another.
    pub fn train_mode(&self) -> Option<bool> {
        match self.get(TRAIN_MODE) {
            Some(Value::Flag(mode)) => Some(mode),
            _ => None,
        }
    }

    /// Takes over what a step has learned.
    pub fn learn(&mut self, learned: &Learned) {
        for (name, value) in &mut self.entries {
            if let Some(&(_, new)) = learned.iter().find(|(learned, _)| learned == name) {
                *value = Value::Number(new);
            }
        }
    }

    /// Puts a schedule-free rule into this mode.
    pub fn set_train_mode(&mut self, mode: bool) {
        for (_, value) in self.entries.iter_mut().filter(|entry| entry.0 == TRAIN_MODE) {
            *value = Value::Flag(mode);
        }
    }

    /// The share of the average in a schedule-free rule's parameters in train mode.
    pub fn averaging(&self) -> Result<f64, Error> {
        Ok(self.read(self.place(self.averaging_name())?))
    }

    fn averaging_name(&self) -> &'static str {
        if self.get("momentum").is_some() { "momentum" } else { "betas[0]" }
    }

    fn wrong(&self, name: &str, found: String, expected: &'static str) -> Error {
        Error::Option { group: self.group, name: name.to_owned(), found, expected }
    }

    /// Where a number of this name is: `lr`, `momentum`, `betas[0]`.
    pub fn place(&self, name: &str) -> Result<Place, Error> {
        let (option, index) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            // One name for each: a schedule takes the place of the one of the same name.
            Some((option, index)) => (option, ["0", "1", "2"].iter().position(|&one| one == index)),
            None => (name, None),
        };
        let entry = self.entries.iter().position(|entry| entry.0 == option);
        let indexed = option != name;
        entry
            .filter(|&entry| match self.entries[entry].1 {
                Value::Number(_) | Value::Bound(Some(_)) => !indexed,
                Value::Pair(_) => index.is_some_and(|index| index < 2),
                Value::Triple(_) => index.is_some(),
                Value::Bound(None) | Value::Flag(_) | Value::Nonfinite(_) => false,
            })
            .map(|entry| Place { entry, index })
            .ok_or_else(|| Error::UnknownOption { group: self.group, name: name.to_owned(), expected: self.numbers() })
    }

    /// The names of all numbers.
    fn numbers(&self) -> Vec<String> {
        let names = self.entries.iter().flat_map(|&(name, value)| match value {
            Value::Number(_) | Value::Bound(Some(_)) => vec![name.to_owned()],
            Value::Pair(_) => (0..2).map(|index| format!("{name}[{index}]")).collect(),
            Value::Triple(_) => (0..3).map(|index| format!("{name}[{index}]")).collect(),
            Value::Bound(None) | Value::Flag(_) | Value::Nonfinite(_) => Vec::new(),
        });
        names.collect()
    }

    /// The number at a place.
    pub fn read(&self, place: Place) -> f64 {
        match (self.entries[place.entry].1, place.index) {
            (Value::Number(number) | Value::Bound(Some(number)), _) => number,
            (Value::Pair(pair), Some(index)) => pair[index],
            (Value::Triple(triple), Some(index)) => triple[index],
            // `place` gives no other.
            _ => f64::NAN,
        }
    }

    /// Puts a number at a place, unchecked.
    pub fn write(&mut self, place: Place, number: f64) {
        match (&mut self.entries[place.entry].1, place.index) {
            (Value::Number(old) | Value::Bound(Some(old)), _) => *old = number,
            (Value::Pair(pair), Some(index)) => pair[index] = number,
            (Value::Triple(triple), Some(index)) => triple[index] = number,
            _ => {}
        }
    }

    /// What the norm of the gradients does.
    pub fn clip(&self) -> Clip {
        let bound = |name| match self.get(name) {
            Some(Value::Bound(bound)) => bound,
            _ => None,
        };
        let nonfinite = match self.get("nonfinite_norm") {
            Some(Value::Nonfinite(nonfinite)) => nonfinite,
            _ => Nonfinite::Propagate,
        };
        Clip { max_norm: bound("max_grad_norm"), skip_norm: bound("skip_grad_norm"), nonfinite }
    }

    /// The group in a message.
    pub fn name(&self) -> String {
        format!("group {}", self.group)
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) | Self::Bound(Some(number)) => write!(out, "{number}"),
            Self::Pair(pair) => write!(out, "{pair:?}"),
            Self::Triple(triple) => write!(out, "{triple:?}"),
            Self::Flag(flag) => write!(out, "{flag}"),
            Self::Bound(None) => out.write_str("None"),
            Self::Nonfinite(nonfinite) => write!(out, "{nonfinite:?}"),
        }
    }
}

impl rule::Options for Table {
    fn number(&self, name: &'static str) -> Result<f64, CoreError> {
        match self.get(name) {
            Some(Value::Number(number)) => Ok(number),
            _ => Err(CoreError::MissingOption { place: self.name(), name }),
        }
    }

    fn optional(&self, name: &'static str) -> Result<Option<f64>, CoreError> {
        match self.get(name) {
            Some(Value::Bound(bound)) => Ok(bound),
            _ => Err(CoreError::MissingOption { place: self.name(), name }),
        }
    }

    fn numbers(&self, name: &'static str, into: &mut [f64]) -> Result<(), CoreError> {
        match self.get(name) {
            Some(Value::Pair(pair)) if into.len() == 2 => into.copy_from_slice(&pair),
            Some(Value::Triple(triple)) if into.len() == 3 => into.copy_from_slice(&triple),
            _ => return Err(CoreError::MissingOption { place: self.name(), name }),
        }
        Ok(())
    }

    fn flag(&self, name: &'static str) -> Result<bool, CoreError> {
        match self.get(name) {
            Some(Value::Flag(flag)) => Ok(flag),
            _ => Err(CoreError::MissingOption { place: self.name(), name }),
        }
    }

    fn extra(&self, name: &'static str) -> Result<bool, CoreError> {
        Ok(self.flagged(name))
    }
}
