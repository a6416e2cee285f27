//! The tensors that a plan knows from one step to the next.

use core::cell::Cell;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use super::describe::{describe, describe_type};
use super::dlpack::{Hold, Sight, prefetch};
use super::plan::Stop;
use super::torch::{Tensor, Torch};
use crate::error::Error;
use crate::tensor::{Device, View};

/// Tensors of at most this many elements stay with a plan between steps, so that an address means the same object in the
/// next step. Larger ones are let go, for nobody should wait for theirs to be freed: what is at the same address, of the
/// same type and with the same memory counts as the same, once it is clear that it is no negative or conjugate view.
pub const SMALL: usize = 4096;

/// An object among the parameters, gradients or state entries.
pub struct Held {
    address: usize,
    /// None while it is let go.
    object: Option<Py<PyAny>>,
    known: Option<Known>,
}

/// What was found out about an object.
struct Known {
    /// The object, or the local part of one that is spread over several processes; None while it is let go.
    tensor: Option<Tensor>,
    /// What its memory was.
    sight: Sight,
    /// Whether it was found to be another since.
    moved: Cell<bool>,
    /// Whether it was let go since, so that there may be another object.
    was_let_go: bool,
    /// Whether `tensor` is the object itself.
    itself: bool,
    hold: Option<Hold>,
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
        Self { address: object.as_ptr().addr(), object: Some(object), known: None }
    }

    /// The object, unless it is let go.
    pub fn object(&self) -> Option<&Py<PyAny>> {
        self.object.as_ref()
    }

    /// Whether it is this object, as far as its address tells. If it was let go, takes it up again.
    #[inline]
    pub fn meets(&mut self, torch: &Torch, object: Borrowed<'_, '_, PyAny>) -> bool {
        if self.address != object.as_ptr().addr() {
            return false;
        }
        if self.object.is_none() {
            let Some(known) = &mut self.known else { return false };
            known.tensor = torch.plain(&object);
            if known.tensor.is_none() {
                return false;
            }
            self.object = Some(object.to_owned().unbind());
        }
        true
    }

    /// Lets go of the object, and returns what is to be dropped; None if it cannot be known again.
    pub fn let_go(&mut self) -> Option<Held> {
        let known = self.known.as_mut().filter(|known| known.itself)?;
        (known.tensor, known.hold, known.was_let_go) = (None, None, true);
        self.object.take().map(Held::new)
    }

    /// Whether all that can be known without a look at its memory is known.
    #[inline]
    pub fn is_known(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.itself && !known.moved.get() && !known.was_let_go)
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
        let Some(object) = &self.object else { return Err(left("gone")) };
        let object = object.bind(py);
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
            && let Some(param) = &param.object
            && !same_placement(torch, object, param.bind(py))?
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
        let (tensor, moved) = (Some(tensor), Cell::new(false));
        self.known = Some(Known { tensor, sight, moved, was_let_go: false, itself, hold });
        Ok(())
    }

    /// Whether what was let go was found again, with the memory that it had. May run Python code.
    pub fn is_again(&mut self, py: Python<'_>, torch: &Torch) -> PyResult<bool> {
        let Some(known) = self.known.as_mut().filter(|known| known.was_let_go && !known.moved.get()) else {
            return Ok(false);
        };
        let Some(tensor) = &known.tensor else { return Ok(false) };
        let again = torch.is_as(py, tensor, &known.sight)
            && !torch.is_negative_view(py, tensor)?
            && !(known.sight.is_complex() && tensor.is_conjugate_view(py)?);
        known.was_let_go = !again;
        Ok(again)
    }

    /// Has the processor fetch what a look at it will read.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(self.address);
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
        let same = known.tensor.as_ref().is_some_and(|tensor| torch.is_as(py, tensor, &known.sight));
        if !same {
            known.moved.set(true);
        }
        same
    }

    /// Its memory; None if that is not what it was when it became known.
    pub fn view(&self, py: Python<'_>, torch: &Torch) -> Option<View<'_>> {
        let known = self.known.as_ref().filter(|_| self.is_unmoved(py, torch))?;
        torch.view(py, known.tensor.as_ref()?).ok().map(|seen| seen.0)
    }

    /// Where its memory was when it became known.
    pub fn device(&self) -> Option<Device> {
        self.known.as_ref().map(|known| known.sight.device())
    }

    /// Shows the garbage collector every reference held.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.object.as_ref().map_or(Ok(()), |object| visit.call(object))?;
        self.known.iter().filter_map(|known| known.tensor.as_ref()).try_for_each(|tensor| visit.call(tensor.object()))
    }

    /// The tensor, if it is not the object itself.
    pub fn local(&self) -> Option<&Py<PyAny>> {
        self.known.as_ref().filter(|known| !known.itself)?.tensor.as_ref().map(Tensor::object)
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
