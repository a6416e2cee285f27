//! Lists of tensors as vectors, for Python. What uses them is `torchpace.control`.

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::plain::{Lists, MUCH};
use super::torch::Torch;
use crate::batch::Unfit;
use crate::cpu::{Pairs, Threads};

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
    let Some(lists) = Lists::of(torch, &[x, y])? else { return Ok(None) };
    let Some(views) = lists.views(py, torch)? else { return Ok(None) };
    // From the last reading on no Python code runs, so what was read stays true.
    let pairs = match Pairs::<WRITES>::new(&views[0], &views[1]) {
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
