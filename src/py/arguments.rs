//! Arguments of Python's as numbers, words and flags. An error has the argument's name in its text; pyo3 would put it
//! into a note, which a program that catches the error does not see, and Python 3.10 has none.

use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyFloat;

use super::describe::describe;
use super::torch::Torch;

/// Gives each argument of a call the number in it.
macro_rules! numbers {
    ($call:literal: $($name:ident),+) => {
        $(let $name = $crate::py::arguments::number(concat!($call, ": ", stringify!($name)), $name)?;)+
    };
}
pub(super) use numbers;

/// What Python's `float` makes of a number of any type, NumPy's and fractions too; not of a string.
pub fn float(value: &Bound<'_, PyAny>) -> PyResult<f64> {
    if let Ok(float) = value.cast_exact::<PyFloat>() {
        return Ok(float.value());
    }
    if Torch::get(value.py())?.is_tensor(value)? {
        // Not `float(value)`, which warns where the tensor requires a gradient.
        return value.call_method0("item")?.extract();
    }
    value.extract()
}

/// The number in an argument.
///
/// # Errors
/// TypeError where it is none, OverflowError where no float holds it; what else its conversion raised as it is.
#[pyfunction]
pub fn number(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    float(value).map_err(|error| {
        let py = value.py();
        let refused = if error.is_instance_of::<PyOverflowError>(py) {
            PyOverflowError::new_err(format!("{name} is {}, expected a number that a float can hold", describe(value)))
        } else if error.is_instance_of::<PyTypeError>(py)
            || error.is_instance_of::<PyValueError>(py)
            || error.is_instance_of::<PyRuntimeError>(py)
        {
            wrong(name, value, "a number")
        } else {
            return error;
        };
        refused.set_cause(py, Some(error));
        refused
    })
}

/// The number in an argument that may be None.
pub fn optional(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    if value.is_none() { Ok(None) } else { number(name, value).map(Some) }
}

/// The numbers in an argument that is a list of them, or anything that can be gone through.
pub fn list(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
    let items = value.try_iter().map_err(|_| wrong(name, value, "a list of numbers"))?;
    items.enumerate().map(|(index, item)| number(&format!("{name}[{index}]"), &item?)).collect()
}

/// The text in an argument.
pub fn text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<PyBackedStr> {
    value.extract().map_err(|_| wrong(name, value, "a string"))
}

/// The flag in an argument.
pub fn flag(name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.extract().map_err(|_| wrong(name, value, "True or False"))
}

fn wrong(name: &str, value: &Bound<'_, PyAny>, expected: &str) -> PyErr {
    PyTypeError::new_err(format!("{name} is {}, expected {expected}", describe(value)))
}
