//! Reading a tensor through the DLPack C exchange API, version 1: plain C structs and one function pointer, the same in
//! every torch from 2.10 on, so that the wheel links against no torch.
#![allow(unsafe_code)]

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use pyo3::exceptions::{PyImportError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::tensor::{Device, Dtype, View};

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
pub struct DlTensor {
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
    managed_tensor_from_py_object: Option<HoldTensor>,
    managed_tensor_to_py_object: *const c_void,
    dltensor_from_py_object: Option<ReadTensor>,
    current_work_stream: *const c_void,
}

/// The head of a `DLManagedTensorVersioned`.
#[repr(C)]
struct Managed {
    major: u32,
    minor: u32,
    manager: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
}

type ReadTensor = unsafe extern "C" fn(*mut c_void, *mut DlTensor) -> c_int;
type HoldTensor = unsafe extern "C" fn(*mut c_void, *mut *mut Managed) -> c_int;

/// torch's functions that describe a tensor's memory and hold on to it.
#[derive(Clone, Copy)]
pub struct Reader {
    read: ReadTensor,
    hold: HoldTensor,
}

/// A tensor held from the side of C++. While there is one, a [read](Reader::read) takes 15 ns and not 52: it no longer
/// makes the first reference from that side, for which torch takes one to the Python object too.
pub struct Hold(NonNull<Managed>);

// SAFETY: it owns a reference, which may be given back from any thread.
unsafe impl Send for Hold {}

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: it is ours, and is given back once.
        unsafe {
            if let Some(deleter) = self.0.as_ref().deleter {
                deleter(self.0.as_ptr());
            }
        }
    }
}

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
                let both = api.dltensor_from_py_object.zip(api.managed_tensor_from_py_object);
                return both.map(|(read, hold)| Self { read, hold }).ok_or_else(|| lacks("this torch leaves it out"));
            }
            header = *older;
        }
        Err(lacks("this torch has another version"))
    }

    /// The memory of a tensor, and what to know it again by.
    ///
    /// # Errors
    ///
    /// torch's, for a tensor that is not plain memory: sparse, meta, quantized and the like.
    ///
    /// # Safety
    ///
    /// `tensor` must be an object of type `torch.Tensor` or of a subclass. While `'a` lasts it must be kept alive, and
    /// nobody may resize it or give it other memory.
    pub unsafe fn read<'a>(self, py: Python<'_>, tensor: &'a Py<PyAny>) -> PyResult<(View<'a>, DlTensor)> {
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
        if unsafe { (self.read)(tensor.as_ptr().cast(), &raw mut raw) } != 0 {
            return Err(PyErr::fetch(py));
        }
        if raw.ndim > 0 && (raw.shape.is_null() || raw.strides.is_null()) {
            return Err(PyRuntimeError::new_err("torch described a tensor without its shape or strides"));
        }
        // SAFETY: `ndim` sizes and strides lie at these pointers, in the tensor that the caller keeps unchanged.
        let (shape, strides) = unsafe { (dims(raw.shape, raw.ndim), dims(raw.strides, raw.ndim)) };
        let data = raw.data.cast::<u8>().wrapping_add(raw.byte_offset as usize);
        // SAFETY: torch describes the tensor's own memory, and the caller keeps it.
        Ok((unsafe { View::new(data, shape, strides, dtype(&raw.dtype), device(raw.device, raw.ndim)) }, raw))
    }
}

/// What a tensor's memory was, to be compared.
pub struct Sight {
    data: usize,
    device: DlDevice,
    dtype: (u8, u8, u16),
    ndim: i32,
    /// Its shape, then its strides.
    dims: Box<[i64]>,
    /// Where torch kept the shape: within its own description of the tensor.
    near: usize,
}

impl Sight {
    /// Of this view.
    pub fn of((view, raw): &(View<'_>, DlTensor)) -> Self {
        Self {
            data: view.data().addr(),
            device: raw.device,
            dtype: (raw.dtype.code, raw.dtype.bits, raw.dtype.lanes),
            ndim: raw.ndim,
            dims: view.shape().iter().chain(view.strides()).copied().collect(),
            near: raw.shape.addr(),
        }
    }

    /// Where it was.
    pub fn device(&self) -> Device {
        device(self.device, self.ndim)
    }

    /// Whether the numbers are complex.
    pub fn is_complex(&self) -> bool {
        self.dtype.0 == COMPLEX
    }

    /// Has the processor fetch torch's description of the tensor, which a training loop has long driven from its cache.
    #[inline]
    pub fn prefetch(&self) {
        for line in [self.near.wrapping_sub(64), self.near, self.near + 64] {
            prefetch(line);
        }
    }

    /// The same for the tensor's elements.
    #[inline]
    pub fn prefetch_data(&self) {
        prefetch(self.data);
    }
}

/// Has the processor fetch what is at an address, if anything is.
#[inline]
pub fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing and fails nowhere.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(core::ptr::without_provenance(address));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

impl Reader {
    /// Whether a tensor's memory is still what it was.
    ///
    /// Field by field as torch writes them: a wider load right after narrower stores makes the processor wait, and a
    /// [`View`] takes such loads (measured: 128 us for 2,500 tensors that way, of which torch's own part is 70).
    ///
    /// # Safety
    ///
    /// `tensor` must be an object of type `torch.Tensor` or of a subclass.
    #[inline]
    pub unsafe fn is_as(self, py: Python<'_>, tensor: &Py<PyAny>, sight: &Sight) -> bool {
        let mut raw = core::mem::MaybeUninit::<DlTensor>::uninit();
        // SAFETY: a tensor object, and room for its description, which is there where the answer is 0.
        let raw = unsafe {
            if (self.read)(tensor.as_ptr().cast(), raw.as_mut_ptr()) != 0 {
                drop(PyErr::take(py));
                return false;
            }
            raw.assume_init_ref()
        };
        let DlDataType { code, bits, lanes } = raw.dtype;
        let same = raw.data.addr().wrapping_add(raw.byte_offset as usize) == sight.data
            && raw.ndim == sight.ndim
            && raw.device == sight.device
            && (code, bits, lanes) == sight.dtype;
        // SAFETY: `ndim` sizes and strides lie at these pointers.
        same && unsafe {
            let (shape, strides) = sight.dims.split_at(sight.dims.len() / 2);
            (0..shape.len()).all(|k| *raw.shape.add(k) == shape[k] && *raw.strides.add(k) == strides[k])
        }
    }
}

impl Reader {
    /// Holds a tensor.
    ///
    /// # Safety
    ///
    /// `tensor` must be an object of type `torch.Tensor` or of a subclass.
    pub unsafe fn hold(self, py: Python<'_>, tensor: &Py<PyAny>) -> PyResult<Hold> {
        let mut held = core::ptr::null_mut();
        // SAFETY: a tensor object, and room for the answer.
        if unsafe { (self.hold)(tensor.as_ptr().cast(), &raw mut held) } != 0 {
            return Err(PyErr::fetch(py));
        }
        NonNull::new(held).map(Hold).ok_or_else(|| PyRuntimeError::new_err("torch gave no tensor to hold"))
    }
}

/// # Safety
///
/// `from` must hold `ndim` numbers for `'a`, if `ndim` is not 0.
unsafe fn dims<'a>(from: *const i64, ndim: i32) -> &'a [i64] {
    if ndim <= 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(from, ndim as usize) }
}

fn device(raw: DlDevice, ndim: i32) -> Device {
    #[cfg(feature = "simulated")]
    if raw.kind == CPU && super::simulated::is_on_gpu(ndim) {
        return Device::Cuda(0);
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
