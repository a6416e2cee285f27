//! Objects that may not be plain tensors: held, and asked for their memory. Python code may run here.
#![allow(unsafe_code)]

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::super::call::Call;
use super::super::describe::{describe, describe_type};
use super::super::end::Stop;
use super::super::plan::members::Owned;
use super::super::plan::parts::Role;
use super::super::torch::{Spot, Torch};
use crate::error::Error;

/// A parameter and its gradient, if it has one.
pub fn param(
    call: &Call<'_>,
    owned: &mut Owned,
    param: &Bound<'_, PyAny>,
    (group, index): (usize, usize),
) -> Result<Option<(Spot, Spot)>, Stop> {
    let grad = call.torch.grad(param)?;
    if grad.is_none() {
        return Ok(None);
    }
    let place = || call.place(group, index);
    let spot = object(call, owned, param, Role::Param, None, &place)?;
    Ok(Some((spot, object(call, owned, &grad, Role::Grad, Some(param), &place)?)))
}

/// One of a parameter's tensors; `param` is the parameter, if it has to be spread as that is.
pub fn object(
    call: &Call<'_>,
    owned: &mut Owned,
    object: &Bound<'_, PyAny>,
    role: Role,
    param: Option<&Bound<'_, PyAny>>,
    place: &dyn Fn() -> String,
) -> Result<Spot, Stop> {
    let torch = call.torch;
    let left = |what: &str| Stop::One(format!("{}: {} is {what}", place(), role.name()));
    owned.objects.push(object.clone().unbind());
    let tensor = if torch.is_plain(object) {
        object.clone()
    } else if is_dtensor(object)? {
        owned.was_needed = true;
        let local = object.getattr(intern!(call.py, "_local_tensor"))?;
        if !torch.is_plain(&local) {
            return Err(left("spread, and its part is no plain tensor"));
        }
        owned.objects.push(local.clone().unbind());
        if role != Role::Grad {
            owned.spread.push(object.clone().unbind());
        } else {
            owned.spread_grads.push(object.clone().unbind());
        }
        local
    } else if matches!(role, Role::State(_)) && !torch.is_tensor(object)? {
        let (name, found) = (role.name(), describe(object));
        return Err(Error::StateType { place: place(), name, found, expected: "a tensor" }.into());
    } else {
        return Err(left(&describe_type(object)));
    };
    if let Some(param) = param
        && !same_placement(torch, object, param)?
    {
        return Err(left("placed unlike the parameter"));
    }
    // SAFETY: a plain tensor, which `owned` holds.
    Ok(unsafe { torch.spot(tensor.as_ptr()) })
}

/// Finds out why a look at a tensor showed nothing. Where it is all right, DLPack describes it.
pub fn examine(call: &Call<'_>, tensor: &Bound<'_, PyAny>, role: Role, place: &dyn Fn() -> String) -> Result<(), Stop> {
    let Call { py, torch, .. } = *call;
    let left = |what: &str| Stop::One(format!("{}: {} is {what}", place(), role.name()));
    let Some(tensor) = torch.plain(tensor) else { return Err(left(&describe_type(tensor))) };
    let Ok(view) = torch.memory(py, &tensor) else {
        // torch describes no tensor that is not plain memory: sparse, meta, quantized.
        let found = tensor.kind(py)?;
        return Err(match role {
            Role::State(name) => Error::NotPlain { place: place(), name, found }.into(),
            _ => left(&format!("not plain memory ({found})")),
        });
    };
    if torch.is_negative_view(py, &tensor)? {
        return Err(left("a negative view"));
    }
    if view.dtype().parts() == 2 && tensor.is_conjugate_view(py)? {
        return Err(left("a conjugate view"));
    }
    if tensor.is_inference(py)? && !torch.is_inference_mode(py)? {
        return Err(left("a tensor of inference mode"));
    }
    Ok(())
}

/// That the storage of a tensor without memory was not freed.
pub fn check_freed(
    call: &Call<'_>,
    tensor: &Bound<'_, PyAny>,
    role: Role,
    place: &dyn Fn() -> String,
) -> Result<(), Stop> {
    let Some(plain) = call.torch.plain(tensor) else { return Ok(()) };
    if plain.is_freed(call.py)? {
        let expected = tensor.call_method0("numel")?.extract()?;
        return Err(Error::FreedStorage { place: place(), name: role.name(), expected }.into());
    }
    Ok(())
}

/// Whether the object is a tensor spread over a mesh of processes, of exactly torch's type for that.
pub fn is_dtensor(object: &Bound<'_, PyAny>) -> PyResult<bool> {
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
