//! Functions of Python's as schedules.

use std::any::Any;
use std::cell::RefCell;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::arguments::float;
use super::describe::describe_type;
use crate::schedule::{Call, Function};

thread_local! {
    /// What a function raised: a rate has no room for it, so it waits here until the evaluation is over.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// What functions raised in this thread since the last call, as an error.
pub fn raised() -> PyResult<()> {
    RAISED.with_borrow_mut(Option::take).map_or(Ok(()), Err)
}

/// A callable object.
pub struct PyFunction(Py<PyAny>);

impl PyFunction {
    /// The function of an object.
    pub fn new(call: &Bound<'_, PyAny>) -> PyResult<Self> {
        if !call.is_callable() {
            let found = describe_type(call);
            return Err(PyTypeError::new_err(format!("function: call is {found}, expected a function of the step")));
        }
        Ok(Self(call.clone().unbind()))
    }

    /// The object of a function.
    pub fn object(function: &Function, py: Python<'_>) -> Option<Py<PyAny>> {
        Some(Self::of(function.here()?.as_ref())?.0.clone_ref(py))
    }

    /// What is called, if it is Python's.
    pub fn of(call: &dyn Call) -> Option<&Self> {
        (call as &dyn Any).downcast_ref()
    }

    /// The object that is held.
    pub fn held(&self) -> &Py<PyAny> {
        &self.0
    }

    fn rate(&self, py: Python<'_>, step: f64) -> PyResult<f64> {
        let call = self.0.bind(py);
        // Whole steps are ints, as a loop over steps has them; up to 2^53 none is lost.
        let whole = step.fract() == 0.0 && step <= 9_007_199_254_740_992.0;
        let rate = if whole { call.call1((step as i64,)) } else { call.call1((step,)) }?;
        float(&rate).map_err(|_| {
            let found = describe_type(&rate);
            PyTypeError::new_err(format!("{} returned {found} at step {step}, expected a number", self.name()))
        })
    }
}

impl Call for PyFunction {
    fn call(&self, step: f64) -> f64 {
        Python::attach(|py| {
            if RAISED.with_borrow(Option::is_some) {
                return f64::NAN;
            }
            self.rate(py, step).unwrap_or_else(|error| {
                RAISED.set(Some(error));
                f64::NAN
            })
        })
    }

    fn name(&self) -> String {
        Python::attach(|py| {
            let call = self.0.bind(py);
            let name = call.getattr("__qualname__").and_then(|name| name.extract::<String>());
            name.or_else(|_| call.repr().map(|text| text.to_string())).unwrap_or_else(|_| "?".to_owned())
        })
    }

    fn identity(&self) -> usize {
        self.0.as_ptr() as usize
    }
}
