//! The tensors that a plan knows from one step to the next.

use core::cell::Cell;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use super::dlpack::{Hold, Sight, prefetch};
use super::options::{describe, describe_type};
use super::plan::Stop;
use super::torch::{Tensor, Torch};
use crate::error::Error;
use crate::tensor::View;

/// Tensors of at most this many elements stay with a plan between steps, so that it may know them again by their address
/// and check only their memory. Larger ones are let go: nobody should wait for theirs to be freed.
pub const SMALL: usize = 4096;

/// An object among the parameters, gradients or state entries.
pub struct Held {
    object: Py<PyAny>,
    known: Option<Known>,
}

/// What was found out about an object.
struct Known {
    /// The object, or the local part of one that is spread over several processes.
    tensor: Tensor,
    /// What its memory was.
    sight: Sight,
    /// Whether it was found to be another since.
    moved: Cell<bool>,
    /// Whether `tensor` is the object itself.
    itself: bool,
    _hold: Option<Hold>,
}

/// Which of a parameter's tensors it is.
#[derive(Clone, Copy, PartialEq)]
pub enum Role {
    Param,
    Grad,
    State(&'static str),
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Param => "param",
            Role::Grad => "grad",
            Role::State(name) => name,
        }
    }
}

impl Held {
    /// An object of which nothing is known.
    pub fn new(object: Py<PyAny>) -> Self {
        Self { object, known: None }
    }

    /// The object.
    pub fn object(&self) -> &Py<PyAny> {
        &self.object
    }

    /// Whether all that can be known without a look at its memory is known.
    #[inline]
    pub fn is_known(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.itself && !known.moved.get())
    }

    /// Finds out what the object is. `param` is the parameter that it belongs to, if it is not that.
    ///
    /// May run Python code.
    pub fn know(
        &mut self,
        py: Python<'_>,
        torch: &Torch,
        role: Role,
        param: Option<&Held>,
        place: &dyn Fn() -> String,
    ) -> Result<(), Stop> {
        let left = |what: &str| Stop::Torch(format!("{}: {} is {what}", place(), role.name()));
        let object = self.object.bind(py);
        let (tensor, itself) = match torch.plain(object) {
            Some(tensor) => (tensor, true),
            None if is_dtensor(object)? => {
                let local = object.getattr(intern!(py, "_local_tensor"))?;
                let local = torch.plain(&local).ok_or_else(|| left("spread, and its part is no plain tensor"))?;
                (local, false)
            }
            None if matches!(role, Role::State(_)) && !torch.is_tensor(object)? => {
                let (name, found) = (role.name(), describe(object));
                return Err(Error::StateType { place: place(), name, found, expected: "a tensor" }.into());
            }
            None => return Err(left(&describe_type(object))),
        };
        if let Some(param) = param.filter(|_| role != Role::State("step"))
            && !same_placement(torch, object, param.object.bind(py))?
        {
            return Err(left("placed unlike the parameter"));
        }
        let (view, sight) = match torch.view(py, &tensor) {
            Ok(seen) => seen,
            Err(_) => {
                // torch describes no tensor that is not plain memory: sparse, meta, quantized.
                let found = tensor.kind(py)?;
                return Err(match role {
                    Role::State(name) => Error::NotPlain { place: place(), name, found }.into(),
                    _ => left(&format!("not plain memory ({found})")),
                });
            }
        };
        if !view.has_memory() && tensor.is_freed(py)? {
            return Err(Error::FreedStorage { place: place(), name: role.name(), expected: view.len() }.into());
        }
        if torch.is_negative_view(py, &tensor)? {
            return Err(left("a negative view"));
        }
        if view.dtype().parts() == 2 && tensor.is_conjugate_view(py)? {
            return Err(left("a conjugate view"));
        }
        let small = view.len() <= SMALL;
        // Not the parameter, for which `torch.utils.swap_tensors` wants no other reference, nor the gradient, which torch
        // itself holds so.
        let hold =
            if small && itself && matches!(role, Role::State(_)) { Some(torch.hold(py, &tensor)?) } else { None };
        self.known = Some(Known { tensor, sight, moved: Cell::new(false), itself, _hold: hold });
        Ok(())
    }

    /// Has the processor fetch what a look at it will read.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(self.object.as_ptr().addr());
        if let Some(known) = &self.known {
            known.sight.prefetch();
        }
    }

    /// The same for its elements.
    #[inline]
    pub fn prefetch_data(&self) {
        if let Some(known) = &self.known {
            known.sight.prefetch_data();
        }
    }

    /// Whether its memory is what it was when it became known.
    #[inline]
    pub fn is_unmoved(&self, py: Python<'_>, torch: &Torch) -> bool {
        let Some(known) = &self.known else { return false };
        let same = torch.is_as(py, &known.tensor, &known.sight);
        if !same {
            known.moved.set(true);
        }
        same
    }

    /// Its memory; None if that is not what it was when it became known.
    pub fn view(&self, py: Python<'_>, torch: &Torch) -> Option<View<'_>> {
        let known = self.known.as_ref().filter(|_| self.is_unmoved(py, torch))?;
        torch.view(py, &known.tensor).ok().map(|seen| seen.0)
    }

    /// Shows the garbage collector every reference held.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        self.known.as_ref().map_or(Ok(()), |known| visit.call(known.tensor.object()))
    }

    /// The tensor, if it is not the object itself.
    pub fn local(&self) -> Option<&Py<PyAny>> {
        self.known.as_ref().filter(|known| !known.itself).map(|known| known.tensor.object())
    }
}

/// Whether the object is a tensor spread over a mesh of processes, of exactly torch's type for that.
fn is_dtensor(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    // Not imported here: without that module there is none.
    let modules = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
    let Some(module) = modules.get_item(intern!(py, "torch.distributed.tensor"))? else { return Ok(false) };
    Ok(module.getattr(intern!(py, "DTensor")).is_ok_and(|class| object.get_type().is(&class)))
}

/// Whether two tensors are both on one process, or spread in the same way over the same processes.
fn same_placement(torch: &Torch, left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> PyResult<bool> {
    match (torch.is_plain(left), torch.is_plain(right)) {
        (true, true) => Ok(true),
        (false, false) => {
            let same = |name| left.getattr(name)?.eq(right.getattr(name)?);
            Ok(same("placements")? && same("device_mesh")?)
        }
        _ => Ok(false),
    }
}
