//! The plan of a Python optimizer: what it knows of groups, parameters and state from one step to the next.

use std::sync::{Mutex, PoisonError};

use pyo3::PyTraverseError;
use pyo3::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};

use super::options::describe_type;
use super::step::{Call, Scaling, Steps};
use super::torch::Torch;
use crate::error::Error;
use crate::rule::Rule;
use crate::rules::{self, Visitor};

/// A plan of steps by one update rule. It holds nothing that a step depends on: whatever it finds changed it looks at
/// anew, so it may be dropped at any time.
#[pyclass(frozen, module = "torchpace._native")]
pub struct Plan {
    rule: String,
    /// None while a step is under way: another one, from another thread or from within, then makes a plan of its own.
    known: Mutex<Option<Box<dyn AnySteps>>>,
}

/// The steps of a rule whose type is known only by its name.
pub trait AnySteps: Send {
    /// One step.
    fn step(&mut self, call: &Call<'_>) -> Result<Path, Stop>;
    /// Shows the garbage collector all objects held.
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

/// Which way a step went.
pub enum Path {
    /// All is done; with the norm of the gradients and whether it had the step left out, if they are in a GPU's memory.
    Fused(Option<Py<PyAny>>),
    /// Nothing is done, for this reason.
    Skipped(String),
    /// Nothing is done: a gradient is spread over several processes, and the norm of all must be given.
    NormWanted,
}

/// The norm of the gradients.
#[derive(IntoPyObject)]
pub enum Norm {
    /// As the host knows it.
    Number(f64),
    /// As a tensor on a GPU, with 1 behind it if it had the step left out, else 0.
    Tensor(Py<PyAny>),
}

/// Why a step is not taken here: an error, or a reason to leave it to torch.
pub enum Stop {
    /// It must not be taken.
    Error(PyErr),
    /// torch's own code takes it.
    Torch(String),
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Stop::Error(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error.into())
    }
}

struct Make;

impl Visitor for Make {
    type Output = Box<dyn AnySteps>;

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) -> Self::Output {
        Box::new(Steps::<R, C, S>::new())
    }
}

#[pymethods]
impl Plan {
    #[new]
    fn new(rule: String) -> PyResult<Self> {
        let known = Mutex::new(Some(rules::visit(&rule, Make)?));
        Ok(Self { rule, known })
    }

    /// Steps on all parameters that have a gradient.
    ///
    /// Returns the way it went and the norm of the gradients, if it was asked for. The way is "fused" when done; else
    /// nothing was written: "torch: " and the reason, where a tensor or an option is one that only torch's own
    /// implementation handles; "skipped: " and the reason; "norm wanted", where it must be called again with the norm.
    ///
    /// `new_state(param, group, names)` makes the tensors of a parameter that has no state yet, as a dict. With
    /// `unscale` the gradients are multiplied by it, in memory too; a GPU divides by the tensor `grad_scale` instead, and
    /// leaves the step out if the tensor `found_inf`, there too, is not 0.
    #[pyo3(signature = (param_groups, state, new_state, threads, unscale=None, grad_scale=None, found_inf=None, norm=None))]
    #[allow(clippy::too_many_arguments)]
    fn step(
        &self,
        py: Python<'_>,
        param_groups: Bound<'_, PyAny>,
        state: Bound<'_, PyAny>,
        new_state: Bound<'_, PyAny>,
        threads: usize,
        unscale: Option<f64>,
        grad_scale: Option<Bound<'_, PyAny>>,
        found_inf: Option<Bound<'_, PyAny>>,
        norm: Option<f64>,
    ) -> PyResult<(String, Option<Norm>)> {
        let torch = Torch::get(py)?;
        let left =
            |name: &str, object: &Bound<'_, PyAny>| Ok((format!("torch: {name} is {}", describe_type(object)), None));
        let Some(state) = torch.plain_dict(&state) else { return left("state", &state) };
        let Ok(param_groups) = param_groups.cast::<PyList>() else { return left("param_groups", &param_groups) };
        let norm = std::cell::Cell::new(norm);
        let scaling = Scaling { unscale, grad_scale: grad_scale.as_ref(), found_inf: found_inf.as_ref() };
        let call = Call { py, torch, param_groups, state, new_state: &new_state, threads, scaling, norm: &norm };
        let mut steps = match self.take() {
            Some(steps) => steps,
            None => rules::visit(&self.rule, Make)?,
        };
        let path = steps.step(&call);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(steps);
        match path {
            Ok(Path::Fused(tensor)) => {
                Ok(("fused".to_owned(), tensor.map(Norm::Tensor).or(norm.get().map(Norm::Number))))
            }
            Ok(Path::Skipped(reason)) => Ok((format!("skipped: {reason}"), norm.get().map(Norm::Number))),
            Ok(Path::NormWanted) => Ok(("norm wanted".to_owned(), None)),
            Err(Stop::Torch(reason)) => Ok((format!("torch: {reason}"), None)),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    /// A copy knows nothing yet.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (String,)) {
        (slf.get_type(), (slf.get().rule.clone(),))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.known.try_lock().as_deref() {
            Ok(Some(steps)) => steps.traverse(&visit),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        drop(self.take());
    }
}

impl Plan {
    fn take(&self) -> Option<Box<dyn AnySteps>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
