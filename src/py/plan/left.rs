//! The parameters of a step that only torch's own code can step on.

use std::collections::HashSet;

use pyo3::prelude::*;
use pyo3::types::PyType;

use super::super::end::Stop;

/// Them, by group and index.
#[derive(Default)]
pub struct Left {
    places: HashSet<(usize, usize)>,
    /// How many of them the caller has seen to.
    agreed: usize,
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
        self.places.clear();
        self.places.extend(agreed);
        self.agreed = self.places.len();
        self.first = None;
    }

    /// Adds one. Why may be told later.
    pub fn add(&mut self, place: (usize, usize), reason: Option<String>) {
        self.places.insert(place);
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

    /// Remembers a type.
    pub fn add_type(&mut self, class: Py<PyType>) {
        if self.types.len() < TYPES {
            self.types.push(class);
        }
    }

    /// Whether this parameter is left.
    #[inline]
    pub fn has(&self, place: (usize, usize)) -> bool {
        !self.places.is_empty() && self.places.contains(&place)
    }

    /// Whether all parameters of an object's type are left.
    #[inline]
    pub fn has_type_of(&self, object: &Bound<'_, PyAny>) -> bool {
        self.types.iter().any(|class| class.as_ptr() == object.get_type_ptr().cast())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is any.
    pub fn is_any(&self) -> bool {
        !self.places.is_empty()
    }

    /// Whether there is one that the caller does not know of.
    pub fn is_new(&self) -> bool {
        self.places.len() > self.agreed
    }

    /// The first that was found, and why if that was told.
    pub fn first(&self) -> Option<&((usize, usize), Option<String>)> {
        self.first.as_ref()
    }

    /// All places, in order.
    pub fn places(&self) -> Vec<(usize, usize)> {
        let mut all: Vec<_> = self.places.iter().copied().collect();
        all.sort_unstable();
        all
    }
}
