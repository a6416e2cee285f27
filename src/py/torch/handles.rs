//! Tensors from the side of C++: a look at one takes no reference and makes no Python object, which for a gradient that
//! backward has just made costs more than the look.
//!
//! torch's stable C interface describes a tensor, given the address of an `at::Tensor`. Where such a one lies in a
//! Python object, which gradient belongs to a parameter, and whether a tensor is lazy, that interface does not say. So the
//! places are searched for when torch is first asked, on tensors that are known, the other functions are looked up by
//! their C++ names, and all answers are compared with Python's. If one is missing or wrong, there are no handles, and
//! tensors are read through DLPack and Python's methods, at several times the cost.
#![allow(unsafe_code)]

use core::ffi::c_void;

use pyo3::ffi;

use super::look::Look;
use crate::tensor::{Device, Dtype};

/// The address of an `at::Tensor`, that is of a pointer to the `TensorImpl`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Handle(pub *const *const c_void);

/// A reference to a tensor, which keeps it alive.
pub struct Owned {
    pub(super) handle: *mut c_void,
    pub(super) delete: Delete,
}

// SAFETY: a reference of C++ may be given back from any thread.
unsafe impl Send for Owned {}

impl Owned {
    /// The tensor.
    pub fn handle(&self) -> Handle {
        Handle(self.handle.cast_const().cast())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: `Handles::own` made it, and it is given back once.
        unsafe { (self.delete)(self.handle) };
    }
}

pub(super) type Of<T> = unsafe extern "C" fn(Handle, *mut T) -> i32;
pub(super) type Asked = unsafe extern "C" fn(Handle) -> bool;
pub(super) type Make = unsafe extern "C" fn(i64, *const i64, *const i64, i32, i32, i32, *mut *mut c_void) -> i32;
pub(super) type Delete = unsafe extern "C" fn(*mut c_void) -> i32;

/// torch's functions on handles, and where it keeps what.
pub struct Handles {
    pub(super) layout: Of<i32>,
    pub(super) dtype: Of<i32>,
    pub(super) device_type: Of<i32>,
    pub(super) device_index: Of<i32>,
    pub(super) dim: Of<i64>,
    pub(super) sizes: Of<*const i64>,
    pub(super) strides: Of<*const i64>,
    pub(super) data: Of<*mut c_void>,
    pub(super) own: Of<*mut c_void>,
    pub(super) delete: Delete,
    pub(super) make: Make,
    /// `c10::TensorImpl::grad() const`: the address of the gradient's `at::Tensor`, which may be undefined.
    pub(super) grad: unsafe extern "C" fn(*const c_void) -> Handle,
    /// `at::native::is_neg`, `is_conj` and `is_inference`, of one `at::Tensor const&`.
    pub(super) is_neg: Asked,
    pub(super) is_conj: Asked,
    pub(super) is_inference: Asked,
    /// `torch::autograd::impl::bump_version`, which throws for a tensor of inference mode.
    pub(super) bump: unsafe extern "C" fn(Handle),
    /// torch's names for types, devices and the layout that has strides.
    pub(super) codes: Codes,
    /// Where a Python object has its `at::Tensor`.
    pub(super) tensor_at: usize,
    /// Where a `TensorImpl` has its Python object, if it has one.
    pub(super) object_at: usize,
    /// Where a `TensorImpl` has its storage. Only a hint for the processor.
    pub(super) storage_at: Option<usize>,
    /// What an undefined `at::Tensor` points to.
    pub(super) undefined: *const c_void,
}

// SAFETY: addresses of functions and of one object, all of which live as long as the process.
unsafe impl Send for Handles {}
// SAFETY: as above.
unsafe impl Sync for Handles {}

pub(super) struct Codes {
    pub(super) strided: i32,
    pub(super) cpu: i32,
    pub(super) cuda: i32,
    pub(super) dtypes: [(i32, Dtype); 6],
}

impl Handles {
    /// The tensor of a Python object.
    ///
    /// # Safety
    ///
    /// `object` must be of type `torch.Tensor` or of a subclass, and stay alive while the handle is used.
    #[inline]
    pub unsafe fn of(&self, object: *mut ffi::PyObject) -> Handle {
        Handle(object.cast::<u8>().wrapping_add(self.tensor_at).cast_const().cast())
    }

    /// The gradient of a tensor, if it has one; good until the gradient is replaced.
    ///
    /// # Safety
    ///
    /// `handle` must be of a tensor that is alive.
    #[inline]
    pub unsafe fn grad(&self, handle: Handle) -> Option<Handle> {
        // SAFETY: the caller's promise; a member function of C++ takes `this` first.
        unsafe {
            let grad = (self.grad)(*handle.0);
            (*grad.0 != self.undefined).then_some(grad)
        }
    }

    /// The Python object of a tensor, null if it has none.
    ///
    /// # Safety
    ///
    /// `handle` must be of a tensor that is alive.
    #[inline]
    pub unsafe fn object(&self, handle: Handle) -> *mut ffi::PyObject {
        // SAFETY: the caller's promise, and `is_right`.
        let word = unsafe { (*handle.0).cast::<u8>().add(self.object_at).cast::<*mut ffi::PyObject>().read() };
        word.map_addr(untagged)
    }

    /// What a tensor's memory is; None if it is not plain memory of a host or a CUDA device, lazily changed, or of a
    /// type that no driver here knows.
    ///
    /// # Safety
    ///
    /// `handle` must be of a tensor that is alive, and the answer is good only as long as it is and stays unchanged.
    #[inline]
    pub unsafe fn look<'a>(&self, handle: Handle) -> Option<Look<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            let look = self.read(handle)?;
            let is_lazy = (self.is_neg)(handle)
                || (look.dtype.parts() == 2 && (self.is_conj)(handle))
                || (self.is_inference)(handle);
            if is_lazy { None } else { Some(look) }
        }
    }

    /// Whether a tensor is laid out by strides.
    ///
    /// # Safety
    ///
    /// `handle` must be of a tensor that is alive.
    pub unsafe fn is_strided(&self, handle: Handle) -> bool {
        let mut layout = -1;
        // SAFETY: the caller's promise, and room for the answer.
        unsafe { (self.layout)(handle, &raw mut layout) == 0 && layout == self.codes.strided }
    }

    /// # Safety
    ///
    /// As for `look`.
    #[inline]
    pub(super) unsafe fn read<'a>(&self, handle: Handle) -> Option<Look<'a>> {
        /// # Safety
        ///
        /// As for `look`.
        #[inline(always)]
        unsafe fn ask<T>(function: Of<T>, handle: Handle, mut answer: T) -> Option<T> {
            // SAFETY: a tensor, and room for the answer.
            (unsafe { function(handle, &raw mut answer) } == 0).then_some(answer)
        }
        // SAFETY: the caller's promise. The layout first: others have no memory, or no strides.
        unsafe {
            if ask(self.layout, handle, -1)? != self.codes.strided {
                return None;
            }
            let (dtype, device) = (ask(self.dtype, handle, -1)?, ask(self.device_type, handle, -1)?);
            let dtype = self.codes.dtypes.iter().find(|known| known.0 == dtype)?.1;
            let ndim = usize::try_from(ask(self.dim, handle, -1)?).ok()?;
            let device = if device == self.codes.cpu {
                #[cfg(feature = "simulated")]
                let device = super::simulated::device_of(ndim);
                #[cfg(not(feature = "simulated"))]
                let device = Device::Cpu;
                device
            } else if device == self.codes.cuda {
                Device::Cuda(u8::try_from(ask(self.device_index, handle, -1)?).ok()?)
            } else {
                return None;
            };
            let (sizes, strides) =
                (ask(self.sizes, handle, core::ptr::null())?, ask(self.strides, handle, core::ptr::null())?);
            let data = ask(self.data, handle, core::ptr::null_mut())?;
            Some(Look::new(data.cast(), ndim, sizes, strides, dtype, device))
        }
    }

    /// A reference of the caller's own.
    ///
    /// # Safety
    ///
    /// `handle` must be of a tensor that is alive.
    pub unsafe fn own(&self, handle: Handle) -> Option<Owned> {
        let mut owned = core::ptr::null_mut();
        // SAFETY: the caller's promise, and room for the answer.
        (unsafe { (self.own)(handle, &raw mut owned) } == 0).then_some(Owned { handle: owned, delete: self.delete })
    }

    /// Tells autograd that a tensor was written to.
    ///
    /// # Safety
    ///
    /// `handle` must be of a tensor that is alive and not of inference mode.
    #[inline]
    pub unsafe fn bump(&self, handle: Handle) {
        // SAFETY: the caller's promise; for such a tensor it does not throw.
        unsafe { (self.bump)(handle) };
    }

    /// Has the processor fetch what a look at the tensor will read, in two turns: first the tensor, then its storage.
    ///
    /// # Safety
    ///
    /// `handle` must be of a tensor that is alive.
    #[inline]
    pub unsafe fn prefetch(&self, handle: Handle) {
        // SAFETY: the caller's promise.
        let tensor = unsafe { *handle.0 };
        for line in 0..3 {
            prefetch(tensor.wrapping_byte_add(64 * line));
        }
    }

    /// The second turn.
    ///
    /// # Safety
    ///
    /// `handle` must be of a tensor that is alive.
    #[inline]
    pub unsafe fn prefetch_storage(&self, handle: Handle) {
        if let Some(at) = self.storage_at {
            // SAFETY: the caller's promise; the word lies within the tensor, as was found.
            prefetch(unsafe { (*handle.0).cast::<u8>().add(at).cast::<*const c_void>().read() });
        }
    }
}

/// Has the processor fetch what is at an address, if anything is.
#[inline]
pub fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing and fails nowhere.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The address in a word whose lowest bits may be used for something else.
pub(super) fn untagged(word: usize) -> usize {
    word & !7
}
