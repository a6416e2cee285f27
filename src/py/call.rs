//! What a step is called with.

use core::cell::Cell;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::options::GroupOptions;
use super::torch::Torch;

/// The arguments of one step.
pub struct Call<'py> {
    pub py: Python<'py>,
    pub torch: &'py Torch,
    pub param_groups: &'py Bound<'py, PyList>,
    pub state: &'py Bound<'py, PyDict>,
    pub new_state: &'py Bound<'py, PyAny>,
    pub threads: usize,
    pub scaling: Scaling<'py>,
    /// The norm of all gradients: as given, then as found.
    pub norm: &'py Cell<Option<f64>>,
    /// The parameters, by group and index, that the caller has seen to.
    pub left: &'py [(usize, usize)],
}

/// What a GradScaler asks for.
#[derive(Clone, Copy)]
pub struct Scaling<'py> {
    /// What the gradients are multiplied by, if the host knows.
    pub unscale: Option<f64>,
    /// What they are divided by, which a GPU reads itself.
    pub grad_scale: Option<&'py Bound<'py, PyAny>>,
    /// Not 0 if the step is to be left out, in a GPU's memory.
    pub found_inf: Option<&'py Bound<'py, PyAny>>,
}

impl Scaling<'_> {
    /// Whether anything is asked for.
    pub fn is_any(&self) -> bool {
        self.unscale.is_some() || self.grad_scale.is_some() || self.found_inf.is_some()
    }
}

impl<'py> Call<'py> {
    /// A parameter's name in a message. Runs Python code.
    pub fn place(&self, group: usize, index: usize) -> String {
        match self.param_groups.get_item(group).and_then(|dict| Ok(dict.cast_into::<PyDict>()?)) {
            Ok(dict) => GroupOptions::new(self.torch, dict, group).place_of(index),
            Err(_) => format!("param_groups[{group}]['params'][{index}]"),
        }
    }

    /// A parameter. Runs Python code.
    pub fn param(&self, group: usize, index: usize) -> PyResult<Bound<'py, PyAny>> {
        let dict = self.param_groups.get_item(group)?.cast_into::<PyDict>()?;
        GroupOptions::new(self.torch, dict, group).params()?.get_item(index)
    }

    /// The name of the optimizer's class. Runs Python code.
    pub fn optimizer_class(&self) -> PyResult<String> {
        self.new_state.getattr("__self__")?.get_type().name().map(|name| name.to_string())
    }
}
