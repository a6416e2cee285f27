//! Lists of tensors as memory, where all are plain.

use pyo3::prelude::*;

use super::torch::{Tensor, Torch};
use crate::tensor::View;

/// Work of at least this many elements is done without the GIL.
pub const MUCH: usize = 1 << 15;

/// Lists of plain tensors, kept while their memory is used.
pub struct Lists(Vec<Vec<Tensor>>);

impl Lists {
    /// The objects as tensors; None if one is no plain tensor, or a negative view.
    pub fn of(torch: &Torch, lists: &[&[Bound<'_, PyAny>]]) -> PyResult<Option<Self>> {
        let mut all = Vec::with_capacity(lists.len());
        for list in lists {
            let mut tensors = Vec::with_capacity(list.len());
            for object in *list {
                let Some(tensor) = torch.plain(object) else { return Ok(None) };
                if torch.is_negative_view(object.py(), &tensor)? {
                    return Ok(None);
                }
                tensors.push(tensor);
            }
            all.push(tensors);
        }
        Ok(Some(Self(all)))
    }

    /// The memory of all, which stays true until Python code runs; None if torch describes one of them as no memory, or one
    /// is a conjugate view.
    pub fn views(&self, py: Python<'_>, torch: &Torch) -> PyResult<Option<Vec<Vec<View<'_>>>>> {
        let Some(views) = self.read(py, torch) else { return Ok(None) };
        if views.iter().flatten().all(|view| view.dtype().parts() == 1) {
            return Ok(Some(views));
        }
        // Which may run Python code.
        for tensor in self.0.iter().flatten() {
            if tensor.is_conjugate_view(py)? {
                return Ok(None);
            }
        }
        Ok(self.read(py, torch))
    }

    fn read(&self, py: Python<'_>, torch: &Torch) -> Option<Vec<Vec<View<'_>>>> {
        self.0.iter().map(|list| list.iter().map(|tensor| torch.memory(py, tensor).ok()).collect()).collect()
    }
}
