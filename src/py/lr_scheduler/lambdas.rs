//! Learning rates out of the user's functions.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::fields::{Fields, copy, counts};

/// What a function's value is multiplied by.
#[derive(Clone, Copy, PartialEq)]
pub enum Times {
    /// The learning rate that a group began with.
    First,
    /// The one it has.
    Last,
}

/// A step. `None`, with nothing written, where torch has to take it.
///
/// The functions may look at the scheduler, and may raise, so the counts are written first, as in torch.
pub fn step<'py>(py: Python<'py>, fields: &Fields<'py>, times: Times) -> PyResult<Option<()>> {
    let plan = || {
        let (epoch, count) = counts(py, fields)?;
        let groups = fields.groups()?;
        let functions = fields.get(intern!(py, "lr_lambdas"))?.cast_into_exact::<PyList>().ok()?;
        let bases = fields.get(intern!(py, "base_lrs"))?.cast_into_exact::<PyList>().ok()?;
        // A tensor has arithmetic of its own.
        let plain = bases.iter().all(|base| super::fields::number(&base).is_some());
        (plain && functions.len() == groups.len()).then_some((epoch, count, groups, functions, bases))
    };
    let Some((epoch, count, groups, functions, bases)) = plan() else { return Ok(None) };
    fields.set(intern!(py, "_step_count"), count)?;
    fields.set(intern!(py, "last_epoch"), epoch)?;
    let epoch = epoch.into_pyobject(py)?;
    fields.set(intern!(py, "_get_lr_called_within_step"), true)?;
    let values = (0..groups.len())
        .map(|at| {
            let lr = match times {
                Times::First => bases.get_item(at)?,
                Times::Last => groups[at].lr_object().clone(),
            };
            lr.mul(functions.get_item(at)?.call1((&epoch,))?)
        })
        .collect::<PyResult<Vec<_>>>();
    fields.set(intern!(py, "_get_lr_called_within_step"), false)?;
    let values = values?;
    for (group, value) in groups.iter().zip(&values) {
        group.dict().set_item(intern!(py, "lr"), value)?;
    }
    let last = values.iter().map(copy).collect::<PyResult<Vec<_>>>()?;
    fields.set(intern!(py, "_last_lr"), last)?;
    Ok(Some(()))
}
