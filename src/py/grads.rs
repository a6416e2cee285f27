//! The gradients of an optimizer, let go.
#![allow(unsafe_code)]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::torch::{Torch, prefetch};

/// How many parameters ahead the processor fetches an object, then the tensor that it points to, then its gradient.
const AHEAD: [usize; 3] = [12, 8, 4];

/// Sets the gradient of every parameter of the groups to None.
#[pyfunction]
pub fn clear_grads(py: Python<'_>, param_groups: &Bound<'_, PyAny>) -> PyResult<()> {
    let torch = Torch::get(py)?;
    for group in param_groups.try_iter()? {
        let params = group?.get_item("params")?;
        let Ok(list) = params.cast_exact::<PyList>() else {
            for param in params.try_iter()? {
                torch.clear_grad(&param?)?;
            }
            continue;
        };
        let mut index = 0;
        // The last reference to a gradient may go, which may run Python code: so neither length nor items stay.
        while let Ok(param) = list.get_item(index) {
            fetch_ahead(torch, list, index);
            torch.clear_grad(&param)?;
            index += 1;
        }
    }
    Ok(())
}

#[inline]
fn fetch_ahead(torch: &Torch, params: &Bound<'_, PyList>, index: usize) {
    let ahead = |by: usize| {
        // SAFETY: a list and a place in it; no Python code runs while the item is looked at.
        (index + by < params.len()).then(|| unsafe { ffi::PyList_GetItem(params.as_ptr(), (index + by) as isize) })
    };
    if let Some(param) = ahead(AHEAD[0]) {
        prefetch(param);
    }
    // SAFETY: tensors, which the list holds.
    unsafe {
        if let Some(param) = ahead(AHEAD[1]).filter(|&param| torch.is_plain_type(ffi::Py_TYPE(param))) {
            torch.prefetch(torch.spot(param));
        }
        if let Some(param) = ahead(AHEAD[2]).filter(|&param| torch.is_plain_type(ffi::Py_TYPE(param))) {
            torch.prefetch_grad(torch.spot(param));
        }
    }
}
