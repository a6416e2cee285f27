//! The calls of the driver, against `libcuda.c`, which writes them down.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::process::Command;

use libloading::{Library, Symbol};
use torchpace::cuda::device::{Device, Function, Stream};
use torchpace::cuda::driver::CudaDevice;
use torchpace::error::Error;

use crate::host::{argument, compiler};

/// A fake driver, one a test: what it wrote down is one for all that load the same file.
struct Fake {
    library: Library,
    path: PathBuf,
}

const PUSH: &str = "cuCtxPushCurrent(11)";
const POP: &str = "cuCtxPopCurrent()";
const RELAX: &str = "cuThreadExchangeStreamCaptureMode(2)";
const RESTORE: &str = "cuThreadExchangeStreamCaptureMode(1)";
const ILLEGAL: &str = "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered";
const FUNCTION: Function = Function { handle: 33, resident: 5 };

fn build(name: &str, options: &[&str]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("libcuda_{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/libcuda.c");
    let mut command = Command::new(compiler());
    command.args(["-x", "c", "-shared", "-fPIC"]).args(options).arg(source).arg("-o").arg(&path);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

impl Fake {
    fn new(name: &str) -> Self {
        let path = build(name, &[]);
        // SAFETY: nothing runs when it is loaded.
        Self { library: unsafe { Library::new(&path) }.unwrap(), path }
    }

    fn open(&self) -> Result<CudaDevice, Error> {
        CudaDevice::open_with(&self.path, 3)
    }

    /// The device, what it took to open it forgotten.
    fn opened(&self) -> CudaDevice {
        let device = self.open().unwrap();
        self.calls();
        device
    }

    /// What was called since the last time.
    fn calls(&self) -> Vec<String> {
        // SAFETY: the type in `libcuda.c`; a text that is always there.
        let text = unsafe {
            let calls: Symbol<'_, unsafe extern "C" fn() -> *const c_char> = self.library.get(b"fake_calls").unwrap();
            CStr::from_ptr(calls())
        };
        text.to_str().unwrap().lines().map(str::to_owned).collect()
    }

    fn fail(&self, call: &str, code: c_int) {
        let call = CString::new(call).unwrap();
        // SAFETY: the type in `libcuda.c`, which copies the text.
        unsafe {
            let fail: Symbol<'_, unsafe extern "C" fn(*const c_char, c_int)> = self.library.get(b"fake_fail").unwrap();
            fail(call.as_ptr(), code);
        }
    }

    fn capture(&self, status: c_int) {
        // SAFETY: the type in `libcuda.c`.
        unsafe {
            let capture: Symbol<'_, unsafe extern "C" fn(c_int)> = self.library.get(b"fake_capture").unwrap();
            capture(status);
        }
    }
}

fn launch(device: &CudaDevice) -> Result<(), Error> {
    // SAFETY: a driver that touches no memory but the arguments, which are of the types that it takes.
    unsafe { device.launch(&FUNCTION, 264, Stream(44), &[argument(&17_u32), argument(&0.25_f64)]) }
}

fn read(device: &CudaDevice) -> Result<[u8; 3], Error> {
    let mut bytes = [0; 3];
    // SAFETY: a driver that makes up what it reads.
    unsafe { device.read(1 << 40, &mut bytes, Stream(44)) }.map(|()| bytes)
}

/// The calls that an error was said of, and what was said.
fn refused(error: Error) -> (&'static str, String) {
    match error {
        Error::CudaDriver { call, reason } => (call, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_is_opened_by_its_number() {
    let fake = Fake::new("open");
    let device: Box<dyn Device> = Box::new(fake.open().unwrap());
    assert_eq!((device.capability(), device.processors()), (121, 132));
    let attributes = [75, 76, 16].map(|which| format!("cuDeviceGetAttribute({which}, 103)"));
    let expected = [&["cuInit(0)".to_owned(), "cuDeviceGet(3)".to_owned()], attributes.as_slice()].concat();
    let calls = fake.calls();
    assert_eq!(calls[..5], expected);
    assert_eq!(calls[5..], ["cuDevicePrimaryCtxRetain(103)"]);
    drop(device);
    assert!(fake.calls().is_empty(), "the context stays retained");
}

#[test]
fn a_kernel_is_loaded_in_the_devices_context_also_during_a_capture() {
    let fake = Fake::new("load");
    let device = fake.opened();
    assert_eq!(device.load(b"some PTX\0", "torchpace_fold"), Ok(FUNCTION));
    let expected = [
        PUSH,
        RELAX,
        "cuModuleLoadData(some PTX)",
        "cuModuleGetFunction(22, torchpace_fold)",
        "cuOccupancyMaxActiveBlocksPerMultiprocessor(33, 256, 0)",
        RESTORE,
        POP,
    ];
    assert_eq!(fake.calls(), expected);
}

#[test]
fn a_load_that_fails_leaves_the_thread_as_it_was() {
    let fake = Fake::new("load_fails");
    let device = fake.opened();
    let steps = ["cuModuleLoadData", "cuModuleGetFunction", "cuOccupancyMaxActiveBlocksPerMultiprocessor"];
    for (done, call) in (1..).zip(steps) {
        fake.fail(call, 700);
        assert_eq!(refused(device.load(b"\0", "name").unwrap_err()), (call, ILLEGAL.to_owned()));
        let calls = fake.calls();
        assert_eq!(calls[..2], [PUSH, RELAX]);
        assert!(calls[1 + done].starts_with(call), "{calls:?}");
        assert_eq!(calls[2 + done..], [RESTORE, POP]);
    }
    fake.fail("", 0);
    assert!(device.load(b"\0", "a\0b").is_err());
    assert!(fake.calls().is_empty());
}

#[test]
fn a_launch_carries_its_grid_stream_and_arguments() {
    let fake = Fake::new("launch");
    let device = fake.opened();
    launch(&device).unwrap();
    assert_eq!(fake.calls(), [PUSH, "cuLaunchKernel(33, 264 1 1, 256 1 1, 0, 44, 17 0.25, 0)", POP]);
}

#[test]
fn memory_is_read_and_waited_for() {
    let fake = Fake::new("read");
    let device = fake.opened();
    assert_eq!(read(&device), Ok([7; 3]));
    let copy = format!("cuMemcpyDtoHAsync({}, 3, 44)", 1_u64 << 40);
    assert_eq!(fake.calls(), [PUSH, &copy, "cuStreamSynchronize(44)", POP]);
    fake.fail("cuMemcpyDtoHAsync", 700);
    assert!(read(&device).is_err());
    assert_eq!(fake.calls(), [PUSH, &copy, POP]);
}

#[test]
fn a_capture_that_became_invalid_is_one_still() {
    let fake = Fake::new("capture");
    let device = fake.opened();
    for (status, expected) in [(0, false), (1, true), (2, true)] {
        fake.capture(status);
        assert_eq!(device.is_capturing(Stream(44)), Ok(expected));
        assert_eq!(fake.calls(), [PUSH, "cuStreamIsCapturing(44)", POP]);
    }
}

#[test]
fn an_error_names_the_call_and_the_context_is_popped() {
    let fake = Fake::new("errors");
    for call in ["cuInit", "cuDeviceGet", "cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain"] {
        fake.fail(call, 700);
        assert_eq!(fake.open().map(drop).map_err(refused), Err((call, ILLEGAL.to_owned())));
        assert!(fake.calls().last().unwrap().starts_with(call), "nothing is called after it");
    }
    fake.fail("", 0);
    let device = fake.opened();
    let load = |device: &CudaDevice| device.load(b"\0", "name").map(drop);
    let read = |device: &CudaDevice| read(device).map(drop);
    let is_capturing = |device: &CudaDevice| device.is_capturing(Stream(0)).map(drop);
    type Work<'a> = &'a dyn Fn(&CudaDevice) -> Result<(), Error>;
    let works: [(&str, Work<'_>); 6] = [
        ("cuThreadExchangeStreamCaptureMode", &load),
        ("cuLaunchKernel", &launch),
        ("cuMemcpyDtoHAsync", &read),
        ("cuStreamSynchronize", &read),
        ("cuStreamIsCapturing", &is_capturing),
        ("cuCtxPopCurrent", &launch),
    ];
    for (call, work) in works {
        fake.fail(call, 700);
        assert_eq!(work(&device).map_err(refused), Err((call, ILLEGAL.to_owned())));
        let calls = fake.calls();
        assert_eq!([&calls[0], calls.last().unwrap()], [PUSH, POP]);
    }
    fake.fail("cuCtxPushCurrent", 700);
    for work in [&load as Work<'_>, &launch, &read, &is_capturing] {
        assert_eq!(work(&device).map_err(refused), Err(("cuCtxPushCurrent", ILLEGAL.to_owned())));
        assert_eq!(fake.calls(), [PUSH]);
    }
}

#[test]
fn an_error_that_the_driver_has_no_words_for_is_a_name_or_a_number() {
    let fake = Fake::new("words");
    let device = fake.opened();
    for (code, words) in [(999, "CUDA_ERROR_UNKNOWN"), (12345, "error 12345")] {
        fake.fail("cuLaunchKernel", code);
        assert_eq!(launch(&device).map_err(|error| error.to_string()), Err(format!("cuLaunchKernel: {words}")));
    }
}

#[test]
fn a_driver_that_is_missing_or_lacks_a_function_is_none() {
    let lacking = build("lacking", &["-DWITHOUT_IS_CAPTURING"]);
    for (path, part) in [(Path::new("libcuda_of_no_one.so"), "libcuda_of_no_one.so"), (&lacking, "cuStreamIsCapturing")]
    {
        let error = CudaDevice::open_with(path, 0).map(drop).unwrap_err();
        assert!(matches!(&error, Error::NoCudaDriver { reason } if reason.contains(part)), "{error}");
    }
}
