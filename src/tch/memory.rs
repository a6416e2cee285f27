//! A tensor of tch as memory.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char, c_void};

use ::tch::Tensor;
use torch_sys::C_tensor;

use super::error::first_line;
use crate::tensor::{Device, Dtype, View};

unsafe extern "C" {
    fn free(memory: *mut c_void);
}

/// What was seen of a tensor: where its elements are.
#[derive(Debug)]
pub struct Seen {
    data: *mut u8,
    /// The shape, then the strides.
    dims: Vec<i64>,
    dtype: Dtype,
    device: Device,
}

// SAFETY: an address and numbers; whoever follows the address makes the promise of `view`.
unsafe impl Send for Seen {}

impl Seen {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { data: core::ptr::null_mut(), dims: Vec::new(), dtype: Dtype::NoFloat, device: Device::Cpu }
    }

    /// Looks at a tensor.
    ///
    /// # Errors
    ///
    /// In words what the tensor is, if it is not plain memory of the CPU or a CUDA device.
    pub fn look(&mut self, tensor: &Tensor) -> Result<(), String> {
        if !tensor_is_there(tensor) {
            return Err("undefined".to_owned());
        }
        let handle = tensor.as_ptr().cast_mut();
        // SAFETY: a live tensor; each call leaves it as it is, and reports an error apart.
        let (kind, device, ndim) =
            unsafe { (torch_sys::at_scalar_type(handle), torch_sys::at_device(handle), torch_sys::at_dim(handle)) };
        refused()?;
        self.device = match u8::try_from(device) {
            Ok(index) => Device::Cuda(index),
            Err(_) if device == CPU => Device::Cpu,
            Err(_) => return Err("on neither the CPU nor a CUDA device".to_owned()),
        };
        self.dtype = dtype(kind);
        self.dims.resize(2 * ndim, 0);
        let (shape, strides) = self.dims.split_at_mut(ndim);
        // SAFETY: as above, and room for as many numbers as there are dimensions.
        unsafe {
            torch_sys::at_shape(handle, shape.as_mut_ptr());
            torch_sys::at_stride(handle, strides.as_mut_ptr());
            self.data = torch_sys::at_data_ptr(handle).cast();
        }
        refused()?;
        let ask = |answer: Result<bool, ::tch::TchError>| answer.map_err(|error| first_line(&error.to_string()));
        if ask(tensor.f_is_neg())? || self.dtype.parts() == 2 && ask(tensor.f_is_conj())? {
            return Err("a negative or conjugate view, whose elements are not those in memory".to_owned());
        }
        Ok(())
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The memory.
    ///
    /// # Safety
    ///
    /// While `'a` lasts the tensor must be alive, and nobody may resize it or give it other memory, nor write to it
    /// but through the view, nor read it while a driver writes.
    pub unsafe fn view<'a>(&'a self) -> View<'a> {
        let (shape, strides) = self.dims.split_at(self.dims.len() / 2);
        // SAFETY: torch described the tensor's own memory, and the caller keeps it as it was.
        unsafe { View::new(self.data, shape, strides, self.dtype, self.device) }
    }
}

/// torch's number for the CPU, as tch has it.
const CPU: i32 = -1;

fn dtype(kind: i32) -> Dtype {
    match kind {
        5 => Dtype::F16,
        6 => Dtype::F32,
        7 => Dtype::F64,
        9 => Dtype::C64,
        10 => Dtype::C128,
        15 => Dtype::Bf16,
        // Complex numbers of 16 bits, and floating-point numbers of 8 and 4.
        8 | 23..=26 | 44 | 45 => Dtype::OtherFloat,
        _ => Dtype::NoFloat,
    }
}

/// The error that the last calls left behind, if any. tch's own wrappers of these calls panic on it.
fn refused() -> Result<(), String> {
    // SAFETY: null, or a string from malloc that is now ours.
    unsafe {
        let message: *mut c_char = torch_sys::get_and_reset_last_err();
        if message.is_null() {
            return Ok(());
        }
        let text = first_line(&CStr::from_ptr(message).to_string_lossy());
        free(message.cast());
        Err(format!("not plain memory ({text})"))
    }
}

/// Whether there is a tensor at all.
pub fn tensor_is_there(tensor: &Tensor) -> bool {
    // SAFETY: a live handle, which may be empty.
    unsafe { torch_sys::at_defined(tensor.as_ptr().cast_mut()) == 1 }
}

/// What two handles of one tensor have in common.
pub fn identity(tensor: &Tensor) -> usize {
    let handle: *const C_tensor = tensor.as_ptr();
    // SAFETY: a C++ `at::Tensor` is one pointer, to the tensor's description, which all its handles share.
    unsafe { handle.cast::<usize>().read() }
}
