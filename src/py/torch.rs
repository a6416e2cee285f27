//! The few things of torch that a step calls, looked up once.
#![allow(unsafe_code)]

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFloat, PyList, PyType};

use super::dlpack::Reader;
use super::threads::{Pool, TorchThreads};
use crate::tensor::View;

/// torch as this binding knows it.
pub struct Torch {
    tensor: Py<PyType>,
    parameter: Py<PyType>,
    increment_version: Py<PyAny>,
    defaultdict: Py<PyType>,
    reader: Reader,
    pool: Option<Pool>,
}

/// An object of exactly the type `torch.Tensor` or `torch.nn.Parameter`: no subclass, whose memory may not be what it
/// seems.
#[derive(Clone)]
pub struct Tensor<'py>(Bound<'py, PyAny>);

impl Torch {
    /// torch, imported if need be.
    pub fn get(py: Python<'_>) -> PyResult<&Self> {
        static TORCH: PyOnceLock<Torch> = PyOnceLock::new();
        TORCH.get_or_try_init(py, || {
            let module = py.import("torch")?;
            let tensor = module.getattr("Tensor")?;
            Ok(Self {
                reader: Reader::of(&tensor)?,
                pool: Pool::find(&module),
                tensor: tensor.cast_into::<PyType>()?.unbind(),
                parameter: py.import("torch.nn")?.getattr("Parameter")?.cast_into::<PyType>()?.unbind(),
                defaultdict: py.import("collections")?.getattr("defaultdict")?.cast_into::<PyType>()?.unbind(),
                increment_version: py.import("torch.autograd.graph")?.getattr("increment_version")?.unbind(),
            })
        })
    }

    /// At most `count` threads.
    pub fn threads(&self, count: usize) -> TorchThreads<'_> {
        TorchThreads::new(self.pool.as_ref(), count)
    }

    /// The object as a plain tensor, if it is one.
    pub fn plain<'py>(&self, object: &Bound<'py, PyAny>) -> Option<Tensor<'py>> {
        let exact = object.get_type_ptr().cast();
        (exact == self.parameter.as_ptr() || exact == self.tensor.as_ptr()).then(|| Tensor(object.clone()))
    }

    /// Whether the object is a tensor, of a subclass too.
    pub fn is_tensor(&self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        if object.is_exact_instance_of::<PyFloat>() {
            return Ok(false);
        }
        object.is_instance(self.tensor.bind(object.py()))
    }

    /// The object as a dict or defaultdict, if it is one: no subclass, which may keep its entries elsewhere.
    pub fn plain_dict<'a, 'py>(&self, object: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyDict>> {
        let plain = object.is_exact_instance_of::<PyDict>() || object.get_type().is(&self.defaultdict);
        if plain { object.cast().ok() } else { None }
    }

    /// The memory of a tensor, for as long as the object is borrowed.
    ///
    /// # Errors
    ///
    /// torch's, for a tensor that is not plain memory.
    pub fn view<'a>(&self, tensor: &'a Tensor<'_>) -> PyResult<View<'a>> {
        // SAFETY: `plain` checked the type. The reference keeps the tensor alive. That nobody swaps its memory during a
        // step is what torch's own operators ask for too: they hold the tensor, not its storage.
        unsafe { self.reader.read(&tensor.0) }
    }

    /// Tells autograd that these tensors are written to.
    pub fn increment_version<'a, 'py: 'a>(
        &self,
        py: Python<'py>,
        tensors: impl Iterator<Item = &'a Tensor<'py>>,
    ) -> PyResult<()> {
        let tensors: Vec<_> = tensors.map(|tensor| &tensor.0).collect();
        self.increment_version.call1(py, (PyList::new(py, tensors)?,)).map(drop)
    }
}

impl<'py> Tensor<'py> {
    /// The Python object.
    pub fn object(&self) -> &Bound<'py, PyAny> {
        &self.0
    }

    /// Whether the elements are the negatives of what lies in memory (a lazy view of a conjugate's imaginary part).
    pub fn is_negative_view(&self) -> PyResult<bool> {
        self.0.call_method0(intern!(self.0.py(), "is_neg"))?.is_truthy()
    }

    /// Its layout and device, in words.
    pub fn kind(&self) -> PyResult<String> {
        let text = |name| Ok::<_, PyErr>(self.0.getattr(name)?.str()?.to_string());
        Ok(format!("layout {}, device {}", text("layout")?, text("device")?))
    }

    /// Whether its storage holds nothing. A lazy zero has no memory either, and a storage of the usual size.
    pub fn is_freed(&self) -> PyResult<bool> {
        Ok(self.0.call_method0("untyped_storage")?.call_method0("nbytes")?.extract::<usize>()? == 0)
    }
}
