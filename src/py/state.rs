//! A parameter's entry in `optimizer.state`.

use core::array;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::options::{describe, describe_type};
use super::step::Stop;
use super::torch::{Tensor, Torch};
use crate::error::Error;
use crate::rule::Rule;

const STEP: &str = "step";

/// What a rule keeps for a parameter: the keys of its entry.
pub struct Keys<'py, const S: usize> {
    step: Option<Bound<'py, PyString>>,
    /// `None` for a slot that is not live.
    slots: [Option<Bound<'py, PyString>>; S],
    names: Vec<&'static str>,
}

/// A parameter's state tensors.
pub struct State<'py, const S: usize> {
    /// Its step count, if the rule keeps one.
    pub step: Option<Tensor<'py>>,
    /// Its slots, `None` where one is not live.
    pub slots: [Option<Tensor<'py>>; S],
}

impl<'py, const S: usize> Keys<'py, S> {
    /// The keys of `rule`.
    pub fn of<R: Rule<C, S>, const C: usize>(py: Python<'py>, rule: &R) -> Self {
        let live = rule.live();
        let slots: [_; S] = array::from_fn(|k| live[k].then_some(R::SLOTS[k]));
        let step = R::COUNTED.then_some(STEP);
        Self {
            step: step.map(|name| PyString::intern(py, name)),
            slots: slots.map(|slot| slot.map(|name| PyString::intern(py, name))),
            names: step.into_iter().chain(slots.into_iter().flatten()).collect(),
        }
    }

    /// The keys as text, in torch's order.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }
}

impl<'py, const S: usize> State<'py, S> {
    /// No tensors.
    pub fn none() -> Self {
        Self { step: None, slots: [const { None }; S] }
    }

    /// The tensors of an entry; `None` if it has none of those that the rule keeps. `place` names the parameter.
    pub fn read(
        entry: &Bound<'py, PyDict>,
        keys: &Keys<'py, S>,
        torch: &Torch,
        place: &dyn Fn() -> String,
    ) -> Result<Option<Self>, Stop> {
        let mut names = keys.names.iter();
        let (mut found, mut missing) = (0, None);
        let mut get = |key: &Option<Bound<'py, PyString>>| -> Result<Option<Tensor<'py>>, Stop> {
            let (Some(key), Some(&name)) = (key, key.as_ref().and_then(|_| names.next())) else {
                return Ok(None);
            };
            let value = entry.get_item(key)?.filter(|value| !value.is_none());
            let Some(value) = value else {
                missing = missing.or(Some(name));
                return Ok(None);
            };
            found += 1;
            match torch.plain(&value) {
                Some(tensor) => Ok(Some(tensor)),
                None if torch.is_tensor(&value)? => {
                    Err(Stop::Torch(format!("{}: {name} is {}", place(), describe_type(&value))))
                }
                None => {
                    Err(Error::StateType { place: place(), name, found: describe(&value), expected: "a tensor" }.into())
                }
            }
        };
        let mut state = Self { step: get(&keys.step)?, slots: [const { None }; S] };
        for (slot, key) in state.slots.iter_mut().zip(&keys.slots) {
            *slot = get(key)?;
        }
        match missing {
            None => Ok(Some(state)),
            Some(_) if found == 0 => Ok(None),
            // torch looks its entries up one by one, and fails at the same one.
            Some(name) => {
                let there = |key: &&str| entry.contains(*key).unwrap_or(false);
                let found = keys.names.iter().copied().filter(there).collect();
                Err(Error::MissingState { place: place(), name, found }.into())
            }
        }
    }

    /// All tensors.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor<'py>> {
        self.step.iter().chain(self.slots.iter().flatten())
    }
}
