//! Attributes and methods of torch's types, called as the interpreter calls them.
#![allow(unsafe_code)]

use core::ffi::c_void;

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The descriptor of an attribute of a type of torch's, and how its type reads and writes it.
pub struct Attribute {
    name: &'static str,
    descriptor: Py<PyAny>,
    get: ffi::descrgetfunc,
    set: ffi::descrsetfunc,
}

impl Attribute {
    /// The one of this name.
    pub fn of(class: &Bound<'_, PyAny>, name: &'static str) -> PyResult<Self> {
        let descriptor = class.getattr("__dict__")?.get_item(name)?;
        let slot = |number| {
            // SAFETY: a type object and a slot of the stable interface.
            let function = unsafe { ffi::PyType_GetSlot(descriptor.get_type_ptr(), number) };
            if function.is_null() {
                let message =
                    format!("torchpace reads and writes Tensor.{name} as an attribute, and this torch has none");
                return Err(PyImportError::new_err(message));
            }
            Ok(function)
        };
        let (get, set) = (slot(ffi::Py_tp_descr_get)?, slot(ffi::Py_tp_descr_set)?);
        // SAFETY: these slots hold functions of these types.
        unsafe {
            Ok(Self {
                name,
                get: core::mem::transmute::<*mut c_void, ffi::descrgetfunc>(get),
                set: core::mem::transmute::<*mut c_void, ffi::descrsetfunc>(set),
                descriptor: descriptor.unbind(),
            })
        }
    }

    /// Reads it.
    ///
    /// # Safety
    ///
    /// The object must have it, and no other of its name.
    #[inline]
    pub unsafe fn get<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: as the interpreter calls it, by the caller's promise.
        unsafe {
            let value = (self.get)(self.descriptor.as_ptr(), object.as_ptr(), object.get_type_ptr().cast());
            Bound::from_owned_ptr_or_err(object.py(), value)
        }
    }

    /// Sets it to None.
    ///
    /// # Safety
    ///
    /// As for `get`.
    #[inline]
    pub unsafe fn clear(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        // SAFETY: as the interpreter calls it, by the caller's promise.
        match unsafe { (self.set)(self.descriptor.as_ptr(), object.as_ptr(), ffi::Py_None()) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(object.py())),
        }
    }

    /// Whether this is what a class has under its name.
    pub fn is_of(&self, class: &Bound<'_, PyType>) -> PyResult<bool> {
        Ok(class.getattr(self.name)?.is(&self.descriptor))
    }
}

/// A built-in method without arguments, and the function behind it.
pub fn function(method: Bound<'_, PyAny>) -> PyResult<(Py<PyAny>, ffi::PyCFunction)> {
    // SAFETY: any object may be asked; another kind than a built-in function gives an error.
    let (found, flags) =
        unsafe { (ffi::PyCFunction_GetFunction(method.as_ptr()), ffi::PyCFunction_GetFlags(method.as_ptr())) };
    match found {
        Some(function) if flags == ffi::METH_NOARGS => Ok((method.unbind(), function)),
        _ => Err(PyErr::take(method.py())
            .unwrap_or_else(|| PyImportError::new_err(format!("torchpace expects {method} without arguments")))),
    }
}
