//! Lists of tensors as vectors, for Python. What uses them is `torchpace.control`.

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::torch::{Tensor, Torch};
use crate::batch::Unfit;
use crate::cpu::{Pairs, Threads};
use crate::tensor::View;

/// Work of at least this many elements is done without the GIL.
const MUCH: usize = 1 << 15;

/// The inner product, or None if only torch can do it.
#[pyfunction]
pub fn dot(
    py: Python<'_>,
    x: Vec<Bound<'_, PyAny>>,
    y: Vec<Bound<'_, PyAny>>,
    threads: usize,
) -> PyResult<Option<f64>> {
    with::<false, _>(py, &x, &y, threads, |pairs, threads| pairs.dot(threads))
}

/// `y += a * x`; whether it was done.
#[pyfunction]
pub fn axpy(
    py: Python<'_>,
    a: f64,
    x: Vec<Bound<'_, PyAny>>,
    y: Vec<Bound<'_, PyAny>>,
    threads: usize,
) -> PyResult<bool> {
    Ok(with::<true, _>(py, &x, &y, threads, |pairs, threads| pairs.axpy(a, threads))?.is_some())
}

/// `y = a * x`; whether it was done.
#[pyfunction]
pub fn scale(
    py: Python<'_>,
    a: f64,
    x: Vec<Bound<'_, PyAny>>,
    y: Vec<Bound<'_, PyAny>>,
    threads: usize,
) -> PyResult<bool> {
    Ok(with::<true, _>(py, &x, &y, threads, |pairs, threads| pairs.scale(a, threads))?.is_some())
}

/// Does `work` on the two lists, if all their tensors are plain memory.
fn with<const WRITES: bool, T: Send>(
    py: Python<'_>,
    x: &[Bound<'_, PyAny>],
    y: &[Bound<'_, PyAny>],
    threads: usize,
    work: impl Fn(&Pairs<'_, WRITES>, &dyn Threads) -> T + Send + Sync,
) -> PyResult<Option<T>> {
    let torch = Torch::get(py)?;
    let (Some(xs), Some(ys)) = (plain(torch, x)?, plain(torch, y)?) else { return Ok(None) };
    let read = || Some((views(py, torch, &xs)?, views(py, torch, &ys)?));
    let Some((mut x_views, mut y_views)) = read() else { return Ok(None) };
    if x_views.iter().chain(&y_views).any(|view| view.dtype().parts() == 2) {
        // Which may run Python code.
        for tensor in xs.iter().chain(&ys) {
            if tensor.is_conjugate_view(py)? {
                return Ok(None);
            }
        }
        let Some(again) = read() else { return Ok(None) };
        (x_views, y_views) = again;
    }
    // From the last reading on no Python code runs, so what was read stays true.
    let pairs = match Pairs::<WRITES>::new(&x_views, &y_views) {
        Ok(pairs) => pairs,
        Err(Unfit::Refused(..)) => return Ok(None),
        Err(Unfit::Wrong(error)) => return Err(error.into()),
    };
    let threads = torch.threads(threads);
    let done = if pairs.total() < MUCH { work(&pairs, &threads) } else { py.detach(|| work(&pairs, &threads)) };
    if WRITES {
        torch.increment_version(&PyList::new(py, y)?)?;
    }
    Ok(Some(done))
}

/// The objects as tensors, if all are plain ones and none is a negative view.
fn plain(torch: &Torch, objects: &[Bound<'_, PyAny>]) -> PyResult<Option<Vec<Tensor>>> {
    let mut tensors = Vec::with_capacity(objects.len());
    for object in objects {
        let py = object.py();
        let Some(tensor) = torch.plain(object) else { return Ok(None) };
        if torch.is_negative_view(py, &tensor)? {
            return Ok(None);
        }
        tensors.push(tensor);
    }
    Ok(Some(tensors))
}

/// The memory of the tensors, if torch describes all.
fn views<'a>(py: Python<'_>, torch: &Torch, tensors: &'a [Tensor]) -> Option<Vec<View<'a>>> {
    tensors.iter().map(|tensor| torch.memory(py, tensor).ok()).collect()
}
