//! What a look at a tensor shows.
#![allow(unsafe_code)]

use core::marker::PhantomData;

use crate::tensor::{Device, Dtype, View};

/// A tensor's memory as torch describes it, for as long as the tensor is alive and unchanged.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// The first element.
    pub data: *mut u8,
    /// The element type.
    pub dtype: Dtype,
    /// The device.
    pub device: Device,
    ndim: usize,
    shape: *const i64,
    strides: *const i64,
    tensor: PhantomData<&'a [i64]>,
}

impl<'a> Look<'a> {
    /// What torch says.
    ///
    /// # Safety
    ///
    /// For as long as `'a` there must be `ndim` numbers at `shape` and at `strides`.
    #[inline]
    pub unsafe fn new(
        data: *mut u8,
        ndim: usize,
        shape: *const i64,
        strides: *const i64,
        dtype: Dtype,
        device: Device,
    ) -> Self {
        Self { data, dtype, device, ndim, shape, strides, tensor: PhantomData }
    }

    /// The size of each dimension.
    #[inline]
    pub fn shape(&self) -> &'a [i64] {
        // SAFETY: the promise of `new`.
        unsafe { numbers(self.shape, self.ndim) }
    }

    /// The distance between neighbours along each dimension, in elements.
    #[inline]
    pub fn strides(&self) -> &'a [i64] {
        // SAFETY: the promise of `new`.
        unsafe { numbers(self.strides, self.ndim) }
    }

    /// As a driver sees it.
    pub fn view(&self) -> View<'a> {
        // SAFETY: torch describes the tensor's own memory, which is there for as long as the tensor is.
        unsafe { View::new(self.data, self.shape(), self.strides(), self.dtype, self.device) }
    }
}

/// # Safety
///
/// `from` must hold so many numbers for `'a`, if there are any.
#[inline]
unsafe fn numbers<'a>(from: *const i64, ndim: usize) -> &'a [i64] {
    if ndim == 0 || from.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(from, ndim) }
}
