//! The driver of CUDA: found and loaded when a GPU is first stepped on, and nothing of it before.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::mem::ManuallyDrop;
use core::ptr;
use std::ffi::CString;
use std::path::Path;

use libloading::Library;

use super::device::{Device, Function, Stream};
use super::layout::THREADS;
use super::search;
use crate::error::Error;

const NAME: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// A GPU by the functions of libcuda, in the context that torch uses too: the device's primary one.
pub struct CudaDevice {
    functions: Functions,
    context: Context,
    capability: u32,
    processors: u32,
}

/// A handle of the driver's, which any thread may use.
#[derive(Clone, Copy)]
struct Context(*mut c_void);

// SAFETY: the driver's functions take it from any thread.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

type Code = c_int;
type Text = unsafe extern "C" fn(Code, *mut *const c_char) -> Code;

struct Functions {
    init: unsafe extern "C" fn(c_uint) -> Code,
    device: unsafe extern "C" fn(*mut c_int, c_int) -> Code,
    attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> Code,
    retain: unsafe extern "C" fn(*mut *mut c_void, c_int) -> Code,
    push: unsafe extern "C" fn(*mut c_void) -> Code,
    pop: unsafe extern "C" fn(*mut *mut c_void) -> Code,
    load: unsafe extern "C" fn(*mut *mut c_void, *const c_void) -> Code,
    function: unsafe extern "C" fn(*mut *mut c_void, *mut c_void, *const c_char) -> Code,
    resident: unsafe extern "C" fn(*mut c_int, *mut c_void, c_int, usize) -> Code,
    exchange_mode: unsafe extern "C" fn(*mut c_int) -> Code,
    launch: Launch,
    read: unsafe extern "C" fn(*mut c_void, u64, usize, *mut c_void) -> Code,
    synchronize: unsafe extern "C" fn(*mut c_void) -> Code,
    is_capturing: unsafe extern "C" fn(*mut c_void, *mut c_int) -> Code,
    name: Text,
    text: Text,
}

type Launch = unsafe extern "C" fn(
    *mut c_void,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    *mut c_void,
    *mut *mut c_void,
    *mut *mut c_void,
) -> Code;

const PROCESSORS: c_int = 16;
const CAPABILITY_MAJOR: c_int = 75;
const CAPABILITY_MINOR: c_int = 76;
/// Under which a thread may load code while one of its streams is captured.
const RELAXED: c_int = 2;

impl CudaDevice {
    /// The device of this number, as the driver counts those that `CUDA_VISIBLE_DEVICES` leaves: so does torch.
    ///
    /// # Errors
    ///
    /// There is no driver, or it refuses.
    pub fn open(ordinal: i32) -> Result<Self, Error> {
        Self::open_with(Path::new(NAME), ordinal)
    }

    /// [`open`](Self::open) with another library, for tests.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_with(library: &Path, ordinal: i32) -> Result<Self, Error> {
        let missing = |error| Error::NoCudaDriver { reason: search::reason(&error) };
        // SAFETY: the library of NVIDIA's driver, which torch has loaded too. Never unloaded: what it does when a process
        // ends is in no known order with that.
        let library = ManuallyDrop::new(unsafe { Library::new(library) }.map_err(missing)?);
        let functions = Functions::of(&library).map_err(missing)?;
        let (mut device, mut context) = (0, ptr::null_mut());
        let mut numbers = [0; 3];
        // SAFETY: numbers and a handle to write to.
        unsafe {
            functions.check("cuInit", (functions.init)(0))?;
            functions.check("cuDeviceGet", (functions.device)(&raw mut device, ordinal))?;
            for (number, which) in numbers.iter_mut().zip([CAPABILITY_MAJOR, CAPABILITY_MINOR, PROCESSORS]) {
                functions.check("cuDeviceGetAttribute", (functions.attribute)(number, which, device))?;
            }
            // Never released: kernels stay loaded in it as long as the process lives.
            functions.check("cuDevicePrimaryCtxRetain", (functions.retain)(&raw mut context, device))?;
        }
        let [major, minor, processors] = numbers.map(i32::unsigned_abs);
        Ok(Self { functions, context: Context(context), capability: 10 * major + minor, processors })
    }

    /// Does `work` in the device's context: the thread may be in another's, or in none.
    fn within<T>(&self, work: impl FnOnce(&Functions) -> Result<T, Error>) -> Result<T, Error> {
        // SAFETY: the context retained.
        self.functions.check("cuCtxPushCurrent", unsafe { (self.functions.push)(self.context.0) })?;
        let done = work(&self.functions);
        let mut popped = ptr::null_mut();
        // SAFETY: the context pushed, and a handle to write to.
        let code = unsafe { (self.functions.pop)(&raw mut popped) };
        let done = done?;
        self.functions.check("cuCtxPopCurrent", code)?;
        Ok(done)
    }
}

impl Device for CudaDevice {
    fn capability(&self) -> u32 {
        self.capability
    }

    fn processors(&self) -> u32 {
        self.processors
    }

    fn load(&self, image: &[u8], name: &str) -> Result<Function, Error> {
        let name = CString::new(name).map_err(|_| Error::CudaDriver {
            call: "cuModuleGetFunction",
            reason: "the name has a NUL within".to_owned(),
        })?;
        self.within(|functions| {
            let mut mode = RELAXED;
            // SAFETY: a number to exchange.
            let code = unsafe { (functions.exchange_mode)(&raw mut mode) };
            functions.check("cuThreadExchangeStreamCaptureMode", code)?;
            let loaded = functions.load(image, &name);
            // SAFETY: the mode that was before.
            let code = unsafe { (functions.exchange_mode)(&raw mut mode) };
            let loaded = loaded?;
            functions.check("cuThreadExchangeStreamCaptureMode", code)?;
            Ok(loaded)
        })
    }

    unsafe fn launch(
        &self,
        function: &Function,
        grid: u32,
        Stream(stream): Stream,
        arguments: &[*mut c_void],
    ) -> Result<(), Error> {
        self.within(|functions| {
            let (function, stream) = (ptr::with_exposed_provenance_mut(function.handle), handle(stream));
            let arguments = arguments.as_ptr().cast_mut();
            // SAFETY: the caller's promise; the driver copies the arguments before it returns.
            functions.check("cuLaunchKernel", unsafe {
                (functions.launch)(function, grid, 1, 1, THREADS, 1, 1, 0, stream, arguments, ptr::null_mut())
            })
        })
    }

    unsafe fn read(&self, from: u64, into: &mut [u8], Stream(stream): Stream) -> Result<(), Error> {
        self.within(|functions| {
            let stream = handle(stream);
            // SAFETY: the caller's promise, and as many bytes as there are to write to.
            functions.check("cuMemcpyDtoHAsync", unsafe {
                (functions.read)(into.as_mut_ptr().cast(), from, into.len(), stream)
            })?;
            // SAFETY: the caller's stream.
            functions.check("cuStreamSynchronize", unsafe { (functions.synchronize)(stream) })
        })
    }

    fn is_capturing(&self, Stream(stream): Stream) -> Result<bool, Error> {
        self.within(|functions| {
            let mut status = 0;
            // SAFETY: the caller's stream, and a number to write to.
            let code = unsafe { (functions.is_capturing)(handle(stream), &raw mut status) };
            functions.check("cuStreamIsCapturing", code)?;
            // A capture that failed is one still, until it ends.
            Ok(status != 0)
        })
    }
}

fn handle(stream: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(stream)
}

impl Functions {
    fn of(library: &Library) -> Result<Self, libloading::Error> {
        // SAFETY: the types of these functions in cuda.h, since CUDA 10.1.
        unsafe {
            Ok(Self {
                init: *library.get(b"cuInit")?,
                device: *library.get(b"cuDeviceGet")?,
                attribute: *library.get(b"cuDeviceGetAttribute")?,
                retain: *library.get(b"cuDevicePrimaryCtxRetain")?,
                push: *library.get(b"cuCtxPushCurrent_v2")?,
                pop: *library.get(b"cuCtxPopCurrent_v2")?,
                load: *library.get(b"cuModuleLoadData")?,
                function: *library.get(b"cuModuleGetFunction")?,
                resident: *library.get(b"cuOccupancyMaxActiveBlocksPerMultiprocessor")?,
                exchange_mode: *library.get(b"cuThreadExchangeStreamCaptureMode")?,
                launch: *library.get(b"cuLaunchKernel")?,
                read: *library.get(b"cuMemcpyDtoHAsync_v2")?,
                synchronize: *library.get(b"cuStreamSynchronize")?,
                is_capturing: *library.get(b"cuStreamIsCapturing")?,
                name: *library.get(b"cuGetErrorName")?,
                text: *library.get(b"cuGetErrorString")?,
            })
        }
    }

    fn load(&self, code: &[u8], name: &CStr) -> Result<Function, Error> {
        let (mut module, mut function, mut resident) = (ptr::null_mut(), ptr::null_mut(), 0);
        // SAFETY: a cubin, or PTX that ends with a NUL; handles and a number to write to. The module is never unloaded.
        unsafe {
            self.check("cuModuleLoadData", (self.load)(&raw mut module, code.as_ptr().cast()))?;
            self.check("cuModuleGetFunction", (self.function)(&raw mut function, module, name.as_ptr()))?;
            let call = "cuOccupancyMaxActiveBlocksPerMultiprocessor";
            self.check(call, (self.resident)(&raw mut resident, function, THREADS as c_int, 0))?;
        }
        Ok(Function { handle: function.expose_provenance(), resident: resident.unsigned_abs() })
    }

    fn check(&self, call: &'static str, code: Code) -> Result<(), Error> {
        if code == 0 {
            return Ok(());
        }
        let (name, text) = (said(self.name, code), said(self.text, code));
        let reason = match (name, text) {
            (Some(name), Some(text)) => format!("{name}: {text}"),
            (Some(name), None) => name,
            _ => format!("error {code}"),
        };
        Err(Error::CudaDriver { call, reason })
    }
}

/// What the driver says of an error, if it knows it.
fn said(ask: Text, code: Code) -> Option<String> {
    let mut text = ptr::null();
    // SAFETY: a pointer to write to; what is written is a text that is always there, or null.
    unsafe {
        let known = ask(code, &raw mut text) == 0 && !text.is_null();
        known.then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}
