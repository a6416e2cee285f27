//! How handles come to be: what torch does not say is searched for on tensors that are known, and all answers are compared
//! with Python's.
#![allow(unsafe_code)]

use core::ffi::c_void;

use libloading::Library;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::handles::{Codes, Handle, Handles, Owned, untagged};
use super::library;
use crate::tensor::Dtype;

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
