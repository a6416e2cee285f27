//! The optimizer's `state`: a dict of dicts of tensors, read without running Python code.
#![allow(unsafe_code)]

use std::collections::HashMap;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::super::describe::{describe, describe_type};
use super::super::end::Stop;
use super::super::torch::{Torch, prefetch};
use super::members::Lacks;
use crate::error::Error;
use crate::rule::Rule;

const STEP: &str = "step";

/// The keys of what a rule keeps for a parameter.
pub struct Keys {
    names: Vec<&'static str>,
    /// Key objects and what they stand for; first one for each name, then others of the same text.
    known: Vec<(Py<PyString>, Part)>,
    /// The slots that an option may bring to life in mid-training.
    late: Vec<bool>,
}

/// A part of a parameter's state.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Step,
    Slot(usize),
}

/// The entries of a state, in the dict's order.
#[derive(Default)]
pub struct Table {
    entries: Vec<(Address, Address)>,
    /// The places of the keys, once a search had to be made.
    places: Option<HashMap<usize, u32>>,
}

/// An object of a dict, only good for comparing, and for use while no Python code can run.
type Address = *mut ffi::PyObject;

// SAFETY: addresses are compared, and followed only while the dict that they came from is borrowed.
unsafe impl Send for Table {}

/// A parameter's state as objects.
pub struct Found<'py, const S: usize> {
    /// Its step count, if the rule keeps one.
    pub step: Option<Borrowed<'py, 'py, PyAny>>,
    /// Its slots, `None` where one is not live.
    pub slots: [Option<Borrowed<'py, 'py, PyAny>>; S],
    /// What is missing of both.
    pub lacks: Lacks,
}

impl Keys {
    /// The keys of `rule`.
    pub fn of<R: Rule<C, S>, const C: usize, const S: usize>(py: Python<'_>, rule: &R) -> Self {
        let live = rule.live();
        let step = R::COUNTED.then_some((STEP, Part::Step));
        let slots = (0..S).filter(|&k| live[k] || R::SCALARS[k]).map(|k| (R::SLOTS[k], Part::Slot(k)));
        let all: Vec<_> = step.into_iter().chain(slots).collect();
        Self {
            names: all.iter().map(|part| part.0).collect(),
            known: all.iter().map(|&(name, part)| (PyString::intern(py, name).unbind(), part)).collect(),
            late: R::LATE.to_vec(),
        }
    }

    /// The keys as text, in torch's order.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// The keys of what is missing, as objects.
    pub fn objects(&self, lacks: Lacks) -> Vec<&Py<PyString>> {
        let is_missing = |part: Part| match (lacks, part) {
            (Lacks::All, _) => true,
            (Lacks::Slots(bits), Part::Slot(slot)) => bits & 1 << slot != 0,
            _ => false,
        };
        self.known[..self.names.len()].iter().filter(|known| is_missing(known.1)).map(|known| &known.0).collect()
    }

    #[inline]
    fn part(&mut self, key: Borrowed<'_, '_, PyAny>) -> Option<Part> {
        let known = self.known.iter().find(|known| known.0.as_ptr() == key.as_ptr());
        known.map(|known| known.1).or_else(|| self.learn(key))
    }

    /// The part that a key of the same text stands for: one that came out of a file is another string.
    fn learn(&mut self, key: Borrowed<'_, '_, PyAny>) -> Option<Part> {
        let key = key.cast_exact::<PyString>().ok()?;
        let text = key.to_str().ok()?;
        let place = self.names.iter().position(|&name| name == text)?;
        let part = self.known[place].1;
        // One more for each name is enough for a file; whoever makes new keys for each parameter pays for it.
        if self.known.len() < 2 * self.names.len() {
            self.known.push((key.to_owned().unbind(), part));
        }
        Some(part)
    }
}

impl Table {
    /// Reads the dict anew.
    pub fn read(&mut self, state: &Bound<'_, PyDict>) {
        self.entries.clear();
        self.places = None;
        each_item(state.as_any().as_borrowed(), |key, entry| {
            self.entries.push((key.as_ptr(), entry.as_ptr()));
            true
        });
    }

    /// The entry under the object at `key`, which was last found at `place`. A tensor is looked up by its identity, as by
    /// its hash.
    #[inline]
    pub fn find<'py>(&mut self, py: Python<'py>, key: usize, place: &mut u32) -> Option<Borrowed<'_, 'py, PyAny>> {
        if self.entries.get(*place as usize).is_none_or(|entry| entry.0.addr() != key) {
            let places = self.places.get_or_insert_with(|| {
                self.entries.iter().enumerate().map(|(place, (key, _))| (key.addr(), place as u32)).collect()
            });
            *place = *places.get(&key)?;
        }
        let entry = self.entries[*place as usize].1;
        if let Some((_, next)) = self.entries.get(*place as usize + 8) {
            prefetch(*next);
        }
        // SAFETY: the dict has a reference, and no Python code runs before the caller is done with it.
        Some(unsafe { Borrowed::from_ptr(py, entry) })
    }
}

impl<'py, const S: usize> Found<'py, S> {
    /// No tensors.
    pub const NONE: Self = Self { step: None, slots: [None; S], lacks: Lacks::All };

    /// The tensors of an entry. `place` names the parameter.
    #[inline]
    pub fn read(
        entry: Borrowed<'_, 'py, PyAny>,
        keys: &mut Keys,
        torch: &Torch,
        place: &dyn Fn() -> String,
    ) -> Result<Self, Stop> {
        let py = entry.py();
        if !torch.is_plain_dict(&entry) {
            // Its own reference: describing it may run Python code.
            let entry = entry.to_owned();
            return Err(if entry.is_instance_of::<PyDict>() {
                Stop::One(format!("{}: its state is {}", place(), describe_type(&entry)))
            } else {
                let (found, expected) = (describe(&entry), "a dict");
                Error::StateType { place: place(), name: "entry", found, expected }.into()
            });
        }
        let (mut step, mut slots) = (None, [None; S]);
        let mut left = keys.names.len();
        each_item(entry, |key, value| {
            let into = match keys.part(key) {
                Some(Part::Step) => &mut step,
                Some(Part::Slot(slot)) => &mut slots[slot],
                None => return true,
            };
            // SAFETY: the dict has a reference, and no Python code runs before the caller takes its own.
            let value = unsafe { Borrowed::from_ptr(py, value.as_ptr()) };
            *into = Some(value).filter(|value| !value.is_none());
            left -= usize::from(into.is_some());
            left > 0
        });
        if left == 0 {
            return Ok(Self { step, slots, lacks: Lacks::Nothing });
        }
        if left == keys.names.len() {
            return Ok(Self::NONE);
        }
        let is_there = |part: Part| match part {
            Part::Step => step.is_some(),
            Part::Slot(slot) => slots[slot].is_some(),
        };
        let parts = || keys.names.iter().zip(&keys.known).map(|(name, known)| (*name, known.1));
        let late = |part: Part| matches!(part, Part::Slot(slot) if keys.late[slot]);
        let missing = || parts().filter(|&(_, part)| !is_there(part));
        // torch looks its entries up one by one, and fails at the same one.
        if let Some((name, _)) = missing().find(|&(_, part)| !late(part)) {
            let found = parts().filter(|&(_, part)| is_there(part)).map(|there| there.0).collect();
            return Err(Error::MissingState { place: place(), name, found }.into());
        }
        let bits = missing().fold(0, |bits, (_, part)| match part {
            Part::Slot(slot) => bits | 1 << slot,
            Part::Step => bits,
        });
        Ok(Self { step, slots, lacks: Lacks::Slots(bits) })
    }
}

/// Calls `visit` with the keys and values of a dict, while it says true. It must not run Python code.
#[inline]
pub fn each_item<'py>(
    dict: Borrowed<'_, 'py, PyAny>,
    mut visit: impl FnMut(Borrowed<'_, 'py, PyAny>, Borrowed<'_, 'py, PyAny>) -> bool,
) {
    let (mut at, mut key, mut value) = (0, core::ptr::null_mut(), core::ptr::null_mut());
    // SAFETY: a dict, which nobody changes meanwhile.
    while unsafe { ffi::PyDict_Next(dict.as_ptr(), &raw mut at, &raw mut key, &raw mut value) } != 0 {
        // SAFETY: the dict has references.
        if !unsafe { visit(Borrowed::from_ptr(dict.py(), key), Borrowed::from_ptr(dict.py(), value)) } {
            return;
        }
    }
}
