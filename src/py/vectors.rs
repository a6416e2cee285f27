//! Lists of tensors as vectors, for Python. What uses them is `torchpace.control`.

use pyo3::prelude::*;

use super::torch::{Tensor, Torch};
use crate::cpu::{Pairs, Threads, Unfit};
use crate::tensor::View;

/// Work of at least this many elements is done without the GIL, and on several threads.
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
    // From here on no Python code runs, so what is read stays true.
    let (Some(x_views), Some(y_views)) = (views(py, torch, &xs), views(py, torch, &ys)) else { return Ok(None) };
    let pairs = match Pairs::<WRITES>::new(&x_views, &y_views) {
        Ok(pairs) => pairs,
        Err(Unfit::Refused(..)) => return Ok(None),
        Err(Unfit::Wrong(error)) => return Err(error.into()),
    };
    let threads = torch.threads(threads);
    let done = if pairs.total() < MUCH { work(&pairs, &threads) } else { py.detach(|| work(&pairs, &threads)) };
    if WRITES {
        torch.increment_version(&pyo3::types::PyList::new(py, y)?)?;
    }
    Ok(Some(done))
}

/// The objects as tensors, if all are plain ones that hold their elements as they are.
fn plain(torch: &Torch, objects: &[Bound<'_, PyAny>]) -> PyResult<Option<Vec<Tensor>>> {
    let mut tensors = Vec::with_capacity(objects.len());
    for object in objects {
        let py = object.py();
        let Some(tensor) = torch.plain(object) else { return Ok(None) };
        if torch.is_negative_view(py, &tensor)? {
            return Ok(None);
        }
        let is_complex = torch.view(py, &tensor).is_ok_and(|(view, _)| view.dtype().parts() == 2);
        if is_complex && tensor.is_conjugate_view(py)? {
            return Ok(None);
        }
        tensors.push(tensor);
    }
    Ok(Some(tensors))
}

/// The memory of the tensors, if torch describes all.
fn views<'a>(py: Python<'_>, torch: &Torch, tensors: &'a [Tensor]) -> Option<Vec<View<'a>>> {
    tensors.iter().map(|tensor| torch.view(py, tensor).ok().map(|(view, _)| view)).collect()
}
