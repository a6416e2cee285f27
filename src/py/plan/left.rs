//! The parameters of a step that only torch's own code can step on.

use std::collections::{BTreeSet, HashSet};

use pyo3::prelude::*;
use pyo3::types::PyType;

use super::super::end::Stop;

/// Them, by group and index.
#[derive(Default)]
pub struct Left {
    /// Those that the caller has seen to.
    agreed: HashSet<(usize, usize)>,
    /// Those that it does not know of.
    found: BTreeSet<(usize, usize)>,
    /// The first that was found, and why, if that was told.
    first: Option<((usize, usize), Option<String>)>,
    /// Types of parameters that have turned out to be torch's; what is of them is, too.
    types: Vec<Py<PyType>>,
}

/// So many types are remembered. Whoever makes more pays for it with a second look.
const TYPES: usize = 16;

impl Left {
    /// Begins a step, in which the caller has seen to these.
    pub fn begin(&mut self, agreed: &[(usize, usize)]) {
        self.agreed.clear();
        self.agreed.extend(agreed);
        self.found.clear();
        self.first = None;
    }

    /// Adds one. Why may be told later.
    pub fn add(&mut self, place: (usize, usize), reason: Option<String>) {
        self.found.insert(place);
        self.first.get_or_insert((place, reason));
    }

    /// Adds the parameter if that is what stopped it; what was found of it else.
    pub fn unless_left<T>(&mut self, place: (usize, usize), found: Result<T, Stop>) -> Result<Option<T>, Stop> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Stop::One(reason)) => {
                self.add(place, Some(reason));
                Ok(None)
            }
            Err(stop) => Err(stop),
        }
    }

    /// Remembers a type, of which all parameters are left that have a gradient.
    pub fn add_type(&mut self, class: Py<PyType>) {
        if self.types.len() < TYPES {
            self.types.push(class);
        }
    }

    /// Whether this parameter is left.
    #[inline]
    pub fn has(&self, place: (usize, usize)) -> bool {
        self.is_any() && (self.found.contains(&place) || self.agreed.contains(&place))
    }

    /// Whether an object is of such a type.
    #[inline]
    pub fn has_type_of(&self, object: &Bound<'_, PyAny>) -> bool {
        self.types.iter().any(|class| class.as_ptr() == object.get_type_ptr().cast())
    }

    /// Whether there is any.
    #[inline]
    pub fn is_any(&self) -> bool {
        !(self.found.is_empty() && self.agreed.is_empty())
    }

    /// Those that the caller does not know of, in order.
    pub fn found(&self) -> &BTreeSet<(usize, usize)> {
        &self.found
    }

    /// The first that was found, and why if that was told.
    pub fn first(&self) -> Option<&((usize, usize), Option<String>)> {
        self.first.as_ref()
    }
}
