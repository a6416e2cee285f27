//! The plan of a Python optimizer: what it knows of groups, parameters and state from one step to the next.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};

use super::call::{Call, Scaling};
use super::describe::describe_type;
use super::end::{Path, Stop};
use super::plan::Known;
use super::step::step;
use super::torch::Torch;
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
}

/// The way a step went, the norm of the gradients, and the parameters that are left to torch.
type Answer = (String, Option<Norm>, Vec<(usize, usize)>);

/// The norm of the gradients.
#[derive(IntoPyObject)]
pub enum Norm {
    /// As the host knows it.
    Number(f64),
    /// As a tensor on a GPU, with 1 behind it if it had the step left out, else 0.
    Tensor(Py<PyAny>),
}

impl<R: Rule<C, S>, const C: usize, const S: usize> AnySteps for Known<R, C, S> {
    fn step(&mut self, call: &Call<'_>) -> Result<Path, Stop> {
        step(self, call)
    }
}

struct Make;

impl Visitor for Make {
    type Output = Box<dyn AnySteps>;

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) -> Self::Output {
        Box::new(Known::<R, C, S>::new())
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
    /// implementation handles; "skipped: " and the reason; "norm wanted", where it must be called again with the norm. Or
    /// the way is the reason why some parameters are left to torch; they come third, by group and index, and once torch
    /// has stepped on them it must be called again with them as `left`.
    ///
    /// `new_state(param, group, names)` makes the tensors of a parameter that has no state yet, as a dict. With
    /// `unscale` the gradients are multiplied by it, in memory too; a GPU divides by the tensor `grad_scale` instead, and
    /// leaves the step out if the tensor `found_inf`, there too, is not 0.
    #[pyo3(signature = (param_groups, state, new_state, threads, unscale=None, grad_scale=None, found_inf=None, norm=None, left=None))]
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
        left: Option<Vec<(usize, usize)>>,
    ) -> PyResult<Answer> {
        let torch = Torch::get(py)?;
        let all = |path: String| Ok((path, None, Vec::new()));
        let unlike = |name: &str, object: &Bound<'_, PyAny>| all(format!("torch: {name} is {}", describe_type(object)));
        let Some(state) = torch.plain_dict(&state) else { return unlike("state", &state) };
        let Ok(param_groups) = param_groups.cast::<PyList>() else { return unlike("param_groups", &param_groups) };
        let norm = std::cell::Cell::new(norm);
        let scaling = Scaling { unscale, grad_scale: grad_scale.as_ref(), found_inf: found_inf.as_ref() };
        let call = Call {
            py,
            torch,
            param_groups,
            state,
            new_state: &new_state,
            threads,
            scaling,
            norm: &norm,
            left: left.as_deref().unwrap_or_default(),
        };
        let mut steps = match self.take() {
            Some(steps) => steps,
            None => rules::visit(&self.rule, Make)?,
        };
        let path = steps.step(&call);
        // Another step may have put its own there. What goes with it may give up the GIL, so not under the lock.
        let other = self.known.lock().unwrap_or_else(PoisonError::into_inner).replace(steps);
        drop(other);
        let number = || norm.get().map(Norm::Number);
        match path {
            Ok(Path::Fused(tensor)) => Ok(("fused".to_owned(), tensor.map(Norm::Tensor).or_else(number), Vec::new())),
            Ok(Path::Skipped(reason)) => Ok((format!("skipped: {reason}"), number(), Vec::new())),
            Ok(Path::NormWanted) => all("norm wanted".to_owned()),
            Ok(Path::Left(reason, places)) => Ok((reason, None, places)),
            Err(Stop::Torch(reason) | Stop::One(reason)) => all(format!("torch: {reason}")),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    /// A copy knows nothing yet.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (String,)) {
        (slf.get_type(), (slf.get().rule.clone(),))
    }
}

impl Plan {
    fn take(&self) -> Option<Box<dyn AnySteps>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
