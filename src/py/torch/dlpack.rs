//! Reading a tensor through the DLPack C exchange API, version 1: plain C structs and one function pointer, the same in
//! every torch from 2.10 on, so that the wheel links against no torch.
#![allow(unsafe_code)]

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use pyo3::exceptions::{PyImportError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::look::Look;
use crate::tensor::{Device, Dtype};

const CPU: i32 = 1;
const CUDA: i32 = 2;
const FLOAT: u8 = 2;
const BFLOAT: u8 = 4;
const COMPLEX: u8 = 5;

#[repr(C)]
#[derive(Clone, Copy, PartialEq)]
struct DlDevice {
    kind: i32,
    id: i32,
}

#[repr(C)]
struct DlDataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

/// torch's description of a tensor.
#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device: DlDevice,
    ndim: i32,
    dtype: DlDataType,
    shape: *const i64,
    strides: *const i64,
    byte_offset: u64,
}

#[repr(C)]
struct Header {
    major: u32,
    minor: u32,
    older: *const Header,
}

#[repr(C)]
struct Api {
    header: Header,
    managed_tensor_allocator: *const c_void,
    managed_tensor_from_py_object: *const c_void,
    managed_tensor_to_py_object: *const c_void,
    dltensor_from_py_object: Option<ReadTensor>,
    current_work_stream: *const c_void,
}

type ReadTensor = unsafe extern "C" fn(*mut c_void, *mut DlTensor) -> c_int;

/// torch's function that describes a tensor's memory.
#[derive(Clone, Copy)]
pub struct Reader(ReadTensor);

impl Reader {
    /// The function, out of the type `torch.Tensor`.
    pub fn of(tensor_type: &Bound<'_, PyAny>) -> PyResult<Self> {
        let lacks = |what: &str| {
            PyImportError::new_err(format!(
                "torchpace reads tensors through the DLPack C exchange API, version 1, and {what}"
            ))
        };
        let capsule = tensor_type
            .getattr("__dlpack_c_exchange_api__")
            .map_err(|_| lacks("torch.Tensor has no __dlpack_c_exchange_api__"))?
            .cast_into::<PyCapsule>()
            .map_err(|_| lacks("torch.Tensor.__dlpack_c_exchange_api__ is not a capsule"))?;
        let mut header = capsule.pointer_checked(Some(c"dlpack_exchange_api"))?.as_ptr().cast_const().cast::<Header>();
        // A newer major version may carry the one we know behind it.
        while let Some(known) = NonNull::new(header.cast_mut()) {
            // SAFETY: a capsule of this name holds such a header, which lives as long as the process.
            let Header { major, older, .. } = unsafe { known.as_ref() };
            if *major == 1 {
                // SAFETY: the header of version 1 is the head of this struct.
                let api = unsafe { known.cast::<Api>().as_ref() };
                return api.dltensor_from_py_object.map(Self).ok_or_else(|| lacks("this torch leaves it out"));
            }
            header = *older;
        }
        Err(lacks("this torch has another version"))
    }

    /// The memory of a tensor.
    ///
    /// # Errors
    ///
    /// torch's, for a tensor that is not plain memory.
    ///
    /// # Safety
    ///
    /// `tensor` must be an object of type `torch.Tensor` or of a subclass, and the answer is good only as long as that is
    /// alive and unchanged.
    pub unsafe fn read<'a>(self, py: Python<'_>, tensor: *mut ffi::PyObject) -> PyResult<Look<'a>> {
        let mut raw = DlTensor {
            data: core::ptr::null_mut(),
            device: DlDevice { kind: 0, id: 0 },
            ndim: 0,
            dtype: DlDataType { code: 0, bits: 0, lanes: 0 },
            shape: core::ptr::null(),
            strides: core::ptr::null(),
            byte_offset: 0,
        };
        // SAFETY: a tensor object, and room for its description.
        if unsafe { (self.0)(tensor.cast(), &raw mut raw) } != 0 {
            return Err(PyErr::fetch(py));
        }
        if raw.ndim > 0 && (raw.shape.is_null() || raw.strides.is_null()) {
            return Err(PyRuntimeError::new_err("torch described a tensor without its shape or strides"));
        }
        let ndim = usize::try_from(raw.ndim).unwrap_or(0);
        let data = raw.data.cast::<u8>().wrapping_add(raw.byte_offset as usize);
        // SAFETY: `ndim` sizes and strides lie at these pointers, in the tensor.
        Ok(unsafe { Look::new(data, ndim, raw.shape, raw.strides, dtype(&raw.dtype), device(raw.device, ndim)) })
    }
}

fn device(raw: DlDevice, ndim: usize) -> Device {
    #[cfg(feature = "simulated")]
    if raw.kind == CPU {
        return super::simulated::device_of(ndim);
    }
    let _ = ndim;
    match (raw.kind, u8::try_from(raw.id)) {
        (CPU, _) => Device::Cpu,
        (CUDA, Ok(index)) => Device::Cuda(index),
        (kind, _) => Device::Other(kind as u8),
    }
}

fn dtype(raw: &DlDataType) -> Dtype {
    match (raw.code, raw.bits, raw.lanes) {
        (FLOAT, 64, 1) => Dtype::F64,
        (FLOAT, 32, 1) => Dtype::F32,
        (FLOAT, 16, 1) => Dtype::F16,
        (BFLOAT, 16, 1) => Dtype::Bf16,
        (COMPLEX, 128, 1) => Dtype::C128,
        (COMPLEX, 64, 1) => Dtype::C64,
        (FLOAT | BFLOAT, ..) => Dtype::OtherFloat,
        _ => Dtype::NoFloat,
    }
}
