//! The gradients of an optimizer, let go.
#![allow(unsafe_code)]

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::list;
use super::torch::Torch;

/// How many parameters ahead the processor fetches a gradient.
const AHEAD: usize = 4;

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
            list::fetch_ahead(torch, list, index);
            if index + AHEAD < list.len()
                && let Some(ahead) = list::item(list, index + AHEAD).filter(|ahead| torch.is_plain(ahead))
            {
                // SAFETY: a tensor, which its list holds.
                unsafe { torch.prefetch_grad(torch.spot(ahead.as_ptr())) };
            }
            torch.clear_grad(&param)?;
            index += 1;
        }
    }
    Ok(())
}
