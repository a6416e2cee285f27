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

use libloading::Library;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::library;
use super::look::Look;
use crate::tensor::{Device, Dtype};

/// The address of an `at::Tensor`, that is of a pointer to the `TensorImpl`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Handle(pub *const *const c_void);

/// A reference to a tensor, which keeps it alive.
pub struct Owned {
    handle: *mut c_void,
    delete: Delete,
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

type Of<T> = unsafe extern "C" fn(Handle, *mut T) -> i32;
type Asked = unsafe extern "C" fn(Handle) -> bool;
type Make = unsafe extern "C" fn(i64, *const i64, *const i64, i32, i32, i32, *mut *mut c_void) -> i32;
type Delete = unsafe extern "C" fn(*mut c_void) -> i32;

/// torch's functions on handles, and where it keeps what.
pub struct Handles {
    layout: Of<i32>,
    dtype: Of<i32>,
    device_type: Of<i32>,
    device_index: Of<i32>,
    dim: Of<i64>,
    sizes: Of<*const i64>,
    strides: Of<*const i64>,
    data: Of<*mut c_void>,
    own: Of<*mut c_void>,
    delete: Delete,
    make: Make,
    /// `c10::TensorImpl::grad() const`: the address of the gradient's `at::Tensor`, which may be undefined.
    grad: unsafe extern "C" fn(*const c_void) -> Handle,
    /// `at::native::is_neg`, `is_conj` and `is_inference`, of one `at::Tensor const&`.
    is_neg: Asked,
    is_conj: Asked,
    is_inference: Asked,
    /// `torch::autograd::impl::bump_version`, which throws for a tensor of inference mode.
    bump: unsafe extern "C" fn(Handle),
    /// torch's names for types, devices and the layout that has strides.
    codes: Codes,
    /// Where a Python object has its `at::Tensor`.
    tensor_at: usize,
    /// Where a `TensorImpl` has its Python object, if it has one.
    object_at: usize,
    /// Where a `TensorImpl` has its storage. Only a hint for the processor.
    storage_at: Option<usize>,
    /// What an undefined `at::Tensor` points to.
    undefined: *const c_void,
}

// SAFETY: addresses of functions and of one object, all of which live as long as the process.
unsafe impl Send for Handles {}
// SAFETY: as above.
unsafe impl Sync for Handles {}

struct Codes {
    strided: i32,
    cpu: i32,
    cuda: i32,
    dtypes: [(i32, Dtype); 6],
}

/// The bytes at the head of a `TensorImpl` that are searched. Every version has more.
const HEAD: usize = 128;

impl Handles {
    /// What this torch allows; None if it is not as expected, or `TORCHPACE_HANDLES=off` says so.
    pub fn learn(torch: &Bound<'_, PyModule>) -> PyResult<Option<Self>> {
        if std::env::var_os("TORCHPACE_HANDLES").is_some_and(|value| value == "off") {
            return Ok(None);
        }
        let (Some(cpu), Some(c10)) = (library::open(torch, "torch_cpu"), library::open(torch, "c10")) else {
            return Ok(None);
        };
        let found = Self::search(torch, &cpu, &c10);
        // Stay loaded, as torch itself does.
        core::mem::forget((cpu, c10));
        let Some(found) = found? else { return Ok(None) };
        Ok(if found.is_right(torch)? { Some(found) } else { None })
    }

    fn search(torch: &Bound<'_, PyModule>, cpu: &Library, c10: &Library) -> PyResult<Option<Self>> {
        /// # Safety
        ///
        /// `T` must be the type of the function of this name.
        unsafe fn get<T: Copy>(library: &Library, name: &str) -> Option<T> {
            // SAFETY: the caller's promise.
            unsafe { library.get::<T>(name.as_bytes()) }.ok().map(|symbol| *symbol)
        }
        let tensor = torch.getattr("Tensor")?.cast_into::<PyType>()?;
        let some = torch.call_method1("empty", (2,))?;
        let whole = tensor.getattr("__basicsize__")?.extract::<usize>()?;
        let cdata = some.getattr("_cdata")?.extract::<usize>()?;
        // SAFETY: `whole` bytes of the object are there, and `HEAD` bytes of the `TensorImpl`.
        let places = unsafe {
            let storage = some.call_method0("untyped_storage")?.getattr("_cdata")?.extract::<usize>()?;
            let tensor_at = place_of(some.as_ptr().cast(), whole, |word| word == cdata);
            let object = some.as_ptr().addr();
            let object_at = place_of(core::ptr::with_exposed_provenance(cdata), HEAD, |word| untagged(word) == object);
            let storage_at = place_of(core::ptr::with_exposed_provenance(cdata), HEAD, |word| word == storage);
            tensor_at.zip(object_at).map(|(tensor_at, object_at)| (tensor_at, object_at, storage_at))
        };
        let Some((tensor_at, object_at, storage_at)) = places else { return Ok(None) };
        let handle = Handle(some.as_ptr().cast::<u8>().wrapping_add(tensor_at).cast_const().cast());
        let all = || {
            // SAFETY: those of torch's stable C interface have these types; those of C++ have them as the names say.
            unsafe {
                let code =
                    |name: &str| Some(get::<unsafe extern "C" fn() -> i32>(cpu, &format!("aoti_torch_{name}"))?());
                let dtype = |name: &str, dtype| Some((code(&format!("dtype_{name}"))?, dtype));
                let grad: unsafe extern "C" fn(*const c_void) -> Handle = get(c10, "_ZNK3c1010TensorImpl4gradEv")?;
                Some(Self {
                    layout: get(cpu, "aoti_torch_get_layout")?,
                    dtype: get(cpu, "aoti_torch_get_dtype")?,
                    device_type: get(cpu, "aoti_torch_get_device_type")?,
                    device_index: get(cpu, "aoti_torch_get_device_index")?,
                    dim: get(cpu, "aoti_torch_get_dim")?,
                    sizes: get(cpu, "aoti_torch_get_sizes")?,
                    strides: get(cpu, "aoti_torch_get_strides")?,
                    data: get(cpu, "aoti_torch_get_data_ptr")?,
                    own: get(cpu, "aoti_torch_new_tensor_handle")?,
                    delete: get(cpu, "aoti_torch_delete_tensor_object")?,
                    make: get(cpu, "aoti_torch_empty_strided")?,
                    grad,
                    is_neg: get(cpu, "_ZN2at6native6is_negERKNS_6TensorE")?,
                    is_conj: get(cpu, "_ZN2at6native7is_conjERKNS_6TensorE")?,
                    is_inference: get(cpu, "_ZN2at6native12is_inferenceERKNS_6TensorE")?,
                    bump: get(cpu, "_ZN5torch8autograd4impl12bump_versionERKN2at6TensorE")?,
                    codes: Codes {
                        strided: code("layout_strided")?,
                        cpu: code("device_type_cpu")?,
                        cuda: code("device_type_cuda")?,
                        dtypes: [
                            dtype("float32", Dtype::F32)?,
                            dtype("bfloat16", Dtype::Bf16)?,
                            dtype("float16", Dtype::F16)?,
                            dtype("float64", Dtype::F64)?,
                            dtype("complex64", Dtype::C64)?,
                            dtype("complex128", Dtype::C128)?,
                        ],
                    },
                    tensor_at,
                    object_at,
                    storage_at,
                    // The gradient of a tensor that has none.
                    undefined: *grad(*handle.0).0,
                })
            }
        };
        Ok(all())
    }

    /// Whether all answers are Python's.
    fn is_right(&self, torch: &Bound<'_, PyModule>) -> PyResult<bool> {
        let known = c"
def known(torch):
    base = torch.arange(12.0).reshape(3, 4)
    param = torch.nn.Parameter(base.clone())
    param.grad = base.clone()
    with torch.inference_mode():
        inference = torch.ones(2)
    tensors = [base, base.t()[1:], param, base[1, 2], torch.empty(0, 3), inference]
    tensors += [torch.ones(2, dtype=getattr(torch, name)) for name in ('bfloat16', 'float16', 'float64')]
    tensors += [torch.ones(2, dtype=torch.complex64).conj(), torch.ones(2, dtype=torch.complex128)]
    tensors += [tensors[-2].imag]
    lazy = [(t.is_neg(), t.is_conj(), t.is_inference()) for t in tensors]
    return param, tensors, [(t.data_ptr(), t.shape, t.stride()) for t in tensors], lazy
";
        let py = torch.py();
        let module = PyModule::from_code(py, known, c"torchpace", c"torchpace_known")?;
        type Known<'py> = (Bound<'py, PyAny>, Vec<Bound<'py, PyAny>>, Vec<(usize, Vec<i64>, Vec<i64>)>, Vec<[bool; 3]>);
        let (param, tensors, memory, lazy): Known<'_> = module.call_method1("known", (torch,))?.extract()?;
        let dtypes = [Dtype::F32, Dtype::F32, Dtype::F32, Dtype::F32, Dtype::F32, Dtype::F32, Dtype::Bf16, Dtype::F16];
        let dtypes = dtypes.into_iter().chain([Dtype::F64, Dtype::C64, Dtype::C128, Dtype::F32]);
        for (((tensor, (data, shape, strides)), lazy), dtype) in tensors.iter().zip(&memory).zip(&lazy).zip(dtypes) {
            // SAFETY: a tensor, which this function holds, as are the other handles here.
            let (found, asked, object) = unsafe {
                let handle = self.of(tensor.as_ptr());
                if *handle.0 != core::ptr::with_exposed_provenance(tensor.getattr("_cdata")?.extract::<usize>()?) {
                    return Ok(false);
                }
                let asked = [(self.is_neg)(handle), (self.is_conj)(handle), (self.is_inference)(handle)];
                (self.read(handle), asked, self.object(handle))
            };
            let same = found.is_some_and(|look| {
                look.data.addr() == *data && look.shape() == shape && look.strides() == strides && look.dtype == dtype
            });
            if !same || asked != *lazy || object != tensor.as_ptr() {
                return Ok(false);
            }
        }
        let is_gradient = |handle: Option<Handle>| -> PyResult<bool> {
            let grad = param.getattr("grad")?;
            Ok(match handle {
                // SAFETY: as above.
                Some(handle) => unsafe {
                    *handle.0 == *self.of(grad.as_ptr()).0 && self.object(handle) == grad.as_ptr()
                },
                None => grad.is_none(),
            })
        };
        // SAFETY: as above; the bump is of a tensor that nobody else has.
        unsafe {
            if !is_gradient(self.grad(self.of(param.as_ptr())))? || self.has_no_object() != Some(true) {
                return Ok(false);
            }
            param.setattr("grad", py.None())?;
            if !is_gradient(self.grad(self.of(param.as_ptr())))? {
                return Ok(false);
            }
            let version = || tensors[0].getattr("_version")?.extract::<u64>();
            let before = version()?;
            self.bump(self.of(tensors[0].as_ptr()));
            Ok(version()? == before + 1)
        }
    }

    /// Whether a tensor that C++ has made, and of which it has two references, has no Python object.
    fn has_no_object(&self) -> Option<bool> {
        let (size, stride, mut made) = (2_i64, 1_i64, core::ptr::null_mut());
        // SAFETY: the arguments are those of the function; what it makes is given back once, by `Owned`.
        unsafe {
            let failed = (self.make)(
                1,
                &raw const size,
                &raw const stride,
                self.codes.dtypes[0].0,
                self.codes.cpu,
                0,
                &raw mut made,
            );
            let made = (failed == 0).then_some(Owned { handle: made, delete: self.delete })?;
            let again = self.own(made.handle())?;
            drop(made);
            let handle = again.handle();
            Some(self.object(handle).is_null() && self.look(handle)?.shape() == [2])
        }
    }

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
    unsafe fn read<'a>(&self, handle: Handle) -> Option<Look<'a>> {
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
fn untagged(word: usize) -> usize {
    word & !7
}

/// The only place among `bytes` bytes where a word is as wanted.
///
/// # Safety
///
/// So many bytes must be there.
unsafe fn place_of(from: *const u8, bytes: usize, is_it: impl Fn(usize) -> bool) -> Option<usize> {
    let mut places = (0..bytes / size_of::<usize>()).map(|word| word * size_of::<usize>()).filter(|&place| {
        // SAFETY: the caller's promise.
        is_it(unsafe { from.add(place).cast::<usize>().read() })
    });
    let place = places.next()?;
    if places.next().is_some() { None } else { Some(place) }
}
