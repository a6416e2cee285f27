//! Lists of parameters, walked.
#![allow(unsafe_code)]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::torch::{Torch, prefetch};

/// How many parameters ahead the processor fetches an object, then the tensor that it points to.
const AHEAD: [usize; 2] = [12, 8];

/// An item of a list, as long as no Python code runs.
#[inline]
pub fn item<'a, 'py>(list: &'a Bound<'py, PyList>, index: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
    // SAFETY: a list, of which this is an item or beyond the end; the list has a reference.
    unsafe {
        let item = ffi::PyList_GetItem(list.as_ptr(), index as ffi::Py_ssize_t);
        if item.is_null() {
            drop(PyErr::take(list.py()));
            return None;
        }
        Some(Borrowed::from_ptr(list.py(), item))
    }
}

/// Has the processor fetch parameters ahead of this one.
#[inline]
pub fn fetch_ahead(torch: &Torch, params: &Bound<'_, PyList>, index: usize) {
    let ahead = |by: usize| if index + by < params.len() { item(params, index + by) } else { None };
    if let Some(param) = ahead(AHEAD[0]) {
        prefetch(param.as_ptr());
    }
    if let Some(param) = ahead(AHEAD[1]).filter(|param| torch.is_plain(param)) {
        // SAFETY: a tensor, which its list holds.
        unsafe { torch.prefetch(torch.spot(param.as_ptr())) };
    }
}
