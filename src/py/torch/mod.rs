//! The few things of torch that a step calls, looked up once.
#![allow(unsafe_code)]

mod attribute;
pub mod device;
mod dlpack;
mod handles;
mod learn;
mod library;
pub mod look;
#[cfg(feature = "simulated")]
pub mod simulated;

use core::ffi::c_void;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFloat, PyList, PyType};

use self::attribute::{Attribute, function};
use self::dlpack::Reader;
pub use self::handles::prefetch;
use self::handles::{Handle, Handles};
use self::look::Look;
use crate::cpu::{Pool, PoolThreads};
use crate::tensor::View;

/// torch as this binding knows it.
pub struct Torch {
    tensor: Py<PyType>,
    parameter: Py<PyType>,
    increment_version: Py<PyAny>,
    defaultdict: Py<PyType>,
    grad: Attribute,
    /// The method `is_neg` of some tensor, and the function behind it.
    is_neg: (Py<PyAny>, ffi::PyCFunction),
    reader: Reader,
    handles: Option<Handles>,
    pool: Option<Pool>,
}

/// A tensor in the midst of a step: its handle, or where torch allows none its Python object. Null for none.
///
/// It keeps nothing alive. Whoever follows one knows that the tensor is: it is in a list or dict, is the gradient of one
/// that is, or is held, and since it was found there no Python code has run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Spot(*const *const c_void);

// SAFETY: an address, which is followed only as said there.
unsafe impl Send for Spot {}

impl Spot {
    /// No tensor.
    pub const NONE: Self = Self(core::ptr::null());

    /// Its address, to be compared or fetched.
    #[inline]
    pub fn address(self) -> usize {
        self.0.addr()
    }

    /// Whether there is no tensor.
    #[inline]
    pub fn is_none(self) -> bool {
        self.0.is_null()
    }
}

/// A reference to a tensor that has no object.
pub struct Owned(handles::Owned);

impl Owned {
    /// The tensor.
    pub fn spot(&self) -> Spot {
        Spot(self.0.handle().0)
    }
}

/// A gradient, as far as it can be told.
pub enum Grad {
    None,
    Plain(Spot),
    Unknown,
}

/// An object of exactly the type `torch.Tensor` or `torch.nn.Parameter`: no subclass, whose memory may not be what it
/// seems.
pub struct Tensor(Py<PyAny>);

impl Torch {
    /// torch, imported if need be.
    pub fn get(py: Python<'_>) -> PyResult<&Self> {
        static TORCH: PyOnceLock<Torch> = PyOnceLock::new();
        TORCH.get_or_try_init(py, || {
            let module = py.import("torch")?;
            let tensor = module.getattr("Tensor")?;
            let some = module.call_method1("empty", (0,))?;
            Ok(Self {
                reader: Reader::of(&tensor)?,
                handles: Handles::learn(&module)?,
                pool: library::pool(&module),
                grad: Attribute::of(&module.getattr("_C")?.getattr("TensorBase")?, "grad")?,
                is_neg: function(some.getattr("is_neg")?)?,
                tensor: tensor.cast_into::<PyType>()?.unbind(),
                parameter: py.import("torch.nn")?.getattr("Parameter")?.cast_into::<PyType>()?.unbind(),
                defaultdict: py.import("collections")?.getattr("defaultdict")?.cast_into::<PyType>()?.unbind(),
                increment_version: module.getattr("_C")?.getattr("_increment_version")?.unbind(),
            })
        })
    }

    /// At most `count` threads.
    pub fn threads(&self, count: usize) -> PoolThreads<'_> {
        PoolThreads::new(self.pool.as_ref(), count)
    }

    /// The object as a plain tensor, if it is one.
    #[inline]
    pub fn plain(&self, object: &Bound<'_, PyAny>) -> Option<Tensor> {
        self.is_plain(object).then(|| Tensor(object.clone().unbind()))
    }

    /// Whether the object is a plain tensor.
    #[inline]
    pub fn is_plain(&self, object: &Bound<'_, PyAny>) -> bool {
        self.is_plain_type(object.get_type_ptr())
    }

    /// Whether objects of this type are plain tensors.
    #[inline]
    pub fn is_plain_type(&self, exact: *mut ffi::PyTypeObject) -> bool {
        exact.cast() == self.parameter.as_ptr() || exact.cast() == self.tensor.as_ptr()
    }

    /// Whether the object is a tensor, of a subclass too.
    pub fn is_tensor(&self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        if object.is_exact_instance_of::<PyFloat>() {
            return Ok(false);
        }
        object.is_instance(self.tensor.bind(object.py()))
    }

    /// Whether the object is a dict or defaultdict: no subclass, which may keep its entries elsewhere.
    #[inline]
    pub fn is_plain_dict(&self, object: &Bound<'_, PyAny>) -> bool {
        object.is_exact_instance_of::<PyDict>() || object.get_type_ptr().cast() == self.defaultdict.as_ptr()
    }

    /// The object as such a dict, if it is one.
    pub fn plain_dict<'a, 'py>(&self, object: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyDict>> {
        if self.is_plain_dict(object) { object.cast().ok() } else { None }
    }

    /// The gradient of an object with an attribute `grad`, or None.
    #[inline]
    pub fn grad<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        if !self.is_plain(object) {
            return object.getattr(intern!(py, "grad"));
        }
        // SAFETY: an object of this type, which has no other `grad`.
        unsafe { self.grad.get(object) }
    }

    /// Sets the gradient of an object with an attribute `grad` to None, unless it is. May run Python code.
    ///
    /// The gradient's object is held meanwhile: as the last reference to one goes, torch gives up the GIL while the parameter
    /// still points to it, and a thread that reads the gradient then, as a step does, reads freed memory.
    #[inline]
    pub fn clear_grad(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = object.py();
        if !self.is_plain(object) {
            let name = intern!(py, "grad");
            let grad = object.getattr(name)?;
            return if grad.is_none() { Ok(()) } else { object.setattr(name, py.None()) };
        }
        // SAFETY: a tensor, which the caller holds, as its gradient is by it.
        let held = unsafe {
            match &self.handles {
                Some(handles) => match handles.grad(handles.of(object.as_ptr())) {
                    None => return Ok(()),
                    Some(grad) => Bound::from_borrowed_ptr_or_opt(py, handles.object(grad)),
                },
                None => match self.grad.get(object)? {
                    grad if grad.is_none() => return Ok(()),
                    grad => Some(grad),
                },
            }
        };
        // SAFETY: an object of this type, which has no other `grad`.
        let cleared = unsafe { self.grad.clear(object) };
        drop(held);
        cleared
    }

    /// Whether a tensor, of a subclass too, has a gradient as torch has it; None where only Python could tell.
    #[inline]
    pub fn has_grad(&self, tensor: &Bound<'_, PyAny>) -> Option<bool> {
        // SAFETY: a tensor, which the caller holds.
        self.handles.as_ref().map(|handles| unsafe { handles.grad(handles.of(tensor.as_ptr())) }.is_some())
    }

    /// Whether a tensor's type has torch's own attribute `grad`.
    pub fn has_torchs_grad(&self, tensor: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.is_tensor(tensor)? && self.grad.is_of(&tensor.get_type())?)
    }

    /// The memory of a tensor, for as long as the object is borrowed.
    ///
    /// # Errors
    ///
    /// torch's, for a tensor that is not plain memory.
    pub fn memory<'a>(&self, py: Python<'_>, tensor: &'a Tensor) -> PyResult<View<'a>> {
        // SAFETY: `plain` checked the type. The reference keeps the tensor alive. That nobody swaps its memory during a
        // step is what torch's own operators ask for too: they hold the tensor, not its storage.
        Ok(unsafe { self.reader.read(py, tensor.0.as_ptr()) }?.view())
    }

    /// Whether a step can read tensors without their Python objects.
    pub fn has_handles(&self) -> bool {
        self.handles.is_some()
    }

    /// The tensor of an object.
    ///
    /// # Safety
    ///
    /// `object` must be a tensor.
    #[inline]
    pub unsafe fn spot(&self, object: *mut ffi::PyObject) -> Spot {
        match &self.handles {
            // SAFETY: the caller's promise.
            Some(handles) => Spot(unsafe { handles.of(object) }.0),
            None => Spot(object.cast_const().cast()),
        }
    }

    /// The gradient of a tensor as far as it can be told without Python: a plain tensor, none, or to be asked for as an
    /// object.
    ///
    /// # Safety
    ///
    /// `spot` must be of a tensor that is alive.
    #[inline]
    pub unsafe fn grad_of(&self, spot: Spot) -> Grad {
        let Some(handles) = &self.handles else { return Grad::Unknown };
        // SAFETY: the caller's promise; a gradient is alive as long as it is one.
        unsafe {
            let Some(grad) = handles.grad(Handle(spot.0)) else { return Grad::None };
            let object = handles.object(grad);
            if object.is_null() || self.is_plain_type(ffi::Py_TYPE(object)) {
                Grad::Plain(Spot(grad.0))
            } else {
                Grad::Unknown
            }
        }
    }

    /// A look at a tensor that runs no Python code; None if there is no memory to be seen by it.
    ///
    /// # Safety
    ///
    /// `spot` must be of a tensor that is alive, and the answer is good only as long as that is unchanged.
    #[inline]
    pub unsafe fn look<'a>(&self, spot: Spot) -> Option<Look<'a>> {
        // SAFETY: the caller's promise.
        unsafe { self.handles.as_ref()?.look(Handle(spot.0)) }
    }

    /// Whether a tensor is for certain not laid out by strides; false where only Python could tell.
    ///
    /// # Safety
    ///
    /// `spot` must be of a tensor that is alive.
    pub unsafe fn is_sparse(&self, spot: Spot) -> bool {
        // SAFETY: the caller's promise.
        self.handles.as_ref().is_some_and(|handles| !unsafe { handles.is_strided(Handle(spot.0)) })
    }

    /// The same through DLPack, whatever the tensor is.
    ///
    /// # Errors
    ///
    /// torch's, for a tensor that is not plain memory.
    ///
    /// # Safety
    ///
    /// As for `look`, of an object.
    pub unsafe fn read<'a>(&self, py: Python<'_>, object: *mut ffi::PyObject) -> PyResult<Look<'a>> {
        // SAFETY: the caller's promise.
        unsafe { self.reader.read(py, object) }
    }

    /// The object of a tensor; null if it has none.
    ///
    /// # Safety
    ///
    /// `spot` must be of a tensor that is alive.
    pub unsafe fn object(&self, spot: Spot) -> *mut ffi::PyObject {
        match &self.handles {
            // SAFETY: the caller's promise.
            Some(handles) => unsafe { handles.object(Handle(spot.0)) },
            None => spot.0.cast_mut().cast(),
        }
    }

    /// A reference to a tensor that has no object.
    ///
    /// # Safety
    ///
    /// `spot` must be of a tensor that is alive.
    pub unsafe fn own(&self, spot: Spot) -> Option<Owned> {
        // SAFETY: the caller's promise.
        unsafe { self.handles.as_ref()?.own(Handle(spot.0)) }.map(Owned)
    }

    /// Tells autograd that a tensor was written to.
    ///
    /// # Safety
    ///
    /// `spot` must be of a tensor that is alive, and that a [look](Self::look) has seen.
    #[inline]
    pub unsafe fn bump(&self, spot: Spot) {
        if let Some(handles) = &self.handles {
            // SAFETY: the caller's promise: a look sees no tensor of inference mode.
            unsafe { handles.bump(Handle(spot.0)) };
        }
    }

    /// Has the processor fetch what a look at the tensor will read, but for its storage.
    ///
    /// # Safety
    ///
    /// `spot` must be of a tensor that is alive, or none.
    #[inline]
    pub unsafe fn prefetch(&self, spot: Spot) {
        if let Some(handles) = self.handles.as_ref().filter(|_| !spot.is_none()) {
            // SAFETY: the caller's promise.
            unsafe { handles.prefetch(Handle(spot.0)) };
        }
    }

    /// The same for its gradient, once the rest is there.
    ///
    /// # Safety
    ///
    /// As for `prefetch`.
    #[inline]
    pub unsafe fn prefetch_grad(&self, spot: Spot) {
        if let Some(handles) = self.handles.as_ref().filter(|_| !spot.is_none()) {
            // SAFETY: the caller's promise; a gradient is alive as long as it is one.
            unsafe {
                if let Some(grad) = handles.grad(Handle(spot.0)) {
                    handles.prefetch(grad);
                }
            }
        }
    }

    /// The same for its storage, once the rest is there.
    ///
    /// # Safety
    ///
    /// As for `prefetch`.
    #[inline]
    pub unsafe fn prefetch_storage(&self, spot: Spot) {
        if let Some(handles) = self.handles.as_ref().filter(|_| !spot.is_none()) {
            // SAFETY: the caller's promise.
            unsafe { handles.prefetch_storage(Handle(spot.0)) };
        }
    }

    /// Whether the elements are the negatives of what lies in memory (a lazy view of a conjugate's imaginary part).
    pub fn is_negative_view(&self, py: Python<'_>, tensor: &Tensor) -> PyResult<bool> {
        // SAFETY: a method without arguments, called on a tensor as the interpreter does.
        let answer = unsafe { (self.is_neg.1)(tensor.0.as_ptr(), core::ptr::null_mut()) };
        // SAFETY: a new reference, or null and an error set.
        unsafe { Bound::from_owned_ptr_or_err(py, answer) }?.is_truthy()
    }

    /// Whether inference mode is on.
    pub fn is_inference_mode(&self, py: Python<'_>) -> PyResult<bool> {
        py.import(intern!(py, "torch"))?.call_method0(intern!(py, "is_inference_mode_enabled"))?.is_truthy()
    }

    /// Tells autograd that these tensors were written to.
    pub fn increment_version(&self, tensors: &Bound<'_, PyList>) -> PyResult<()> {
        self.increment_version.call1(tensors.py(), (tensors,)).map(drop)
    }
}

impl Tensor {
    /// Its layout and device, in words.
    pub fn kind(&self, py: Python<'_>) -> PyResult<String> {
        let text = |name| Ok::<_, PyErr>(self.0.getattr(py, name)?.bind(py).str()?.to_string());
        Ok(format!("layout {}, device {}", text("layout")?, text("device")?))
    }

    /// Whether its storage holds nothing. A lazy zero has no memory either, and a storage of the usual size.
    pub fn is_freed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.call_method0(py, "untyped_storage")?.call_method0(py, "nbytes")?.extract::<usize>(py)? == 0)
    }

    /// Whether it was made in inference mode.
    pub fn is_inference(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.call_method0(py, intern!(py, "is_inference"))?.is_truthy(py)
    }

    /// Whether the elements are the conjugates of what lies in memory.
    pub fn is_conjugate_view(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.call_method0(py, intern!(py, "is_conj"))?.is_truthy(py)
    }
}
