//! A device whose memory is the host's: what is launched runs at once, or is recorded while a "graph" captures it.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use torchpace::cuda::cache::Cache;
use torchpace::cuda::device::{Compile, Device, Function, Stream, Target};
use torchpace::cuda::gpu::Gpu;
use torchpace::cuda::source::Kernel;
use torchpace::error::Error;

use super::host::{Host, compile};

/// What a device was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Load(String),
    Launch { name: String, grid: u32, stream: Stream },
    Read(usize),
}

/// A launch with the bytes of its arguments.
struct Recorded {
    kernel: usize,
    grid: u32,
    arguments: Vec<Vec<u64>>,
}

#[derive(Default)]
struct State {
    kernels: Vec<(Arc<Host>, Kernel)>,
    events: Vec<Event>,
    recorded: Vec<Recorded>,
    is_capturing: bool,
    /// How many launches are done before one fails.
    launches_left: Option<usize>,
}

/// The device; its clones are one.
#[derive(Clone, Default)]
pub struct HostDevice(Arc<Mutex<State>>);

pub const PROCESSORS: u32 = 2;
pub const RESIDENT: u32 = 3;

/// What a launch that is to fail says.
pub fn failure() -> Error {
    Error::CudaDriver { call: "cuLaunchKernel", reason: "CUDA_ERROR_UNKNOWN: as the test asked".to_owned() }
}

/// One kernel in a library, made once a process: the compiler takes a second. Launches run one at a time in it.
fn library(kernel: &Kernel) -> Arc<Host> {
    static LIBRARIES: Mutex<Option<HashMap<String, Arc<Host>>>> = Mutex::new(None);
    let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
    let libraries = libraries.get_or_insert_default();
    let name = format!("device_{}", libraries.len());
    Arc::clone(
        libraries.entry(kernel.text.clone()).or_insert_with(|| Arc::new(compile(&name, std::slice::from_ref(kernel)))),
    )
}

/// Held while a kernel runs: where a thread is in a grid is one for all of a library.
static RUNNING: Mutex<()> = Mutex::new(());

fn run(host: &Host, kernel: &Kernel, grid: u32, arguments: &[*mut c_void]) {
    let _alone = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the driver's promise, which is what these tests are about.
    unsafe { host.launch(kernel, grid, arguments) };
}

impl HostDevice {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked for since the last call.
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.state().events)
    }

    /// The names and grids of the launches since the last call.
    pub fn launches(&self) -> Vec<(String, u32)> {
        let launch = |event| match event {
            Event::Launch { name, grid, .. } => Some((name, grid)),
            _ => None,
        };
        self.events().into_iter().filter_map(launch).collect()
    }

    /// Has what is launched be recorded from now on, in the place of what was, or no longer.
    pub fn capture(&self, on: bool) {
        let mut state = self.state();
        state.is_capturing = on;
        if on {
            state.recorded.clear();
        }
    }

    /// Runs what was recorded.
    pub fn replay(&self) {
        let state = self.state();
        for Recorded { kernel, grid, arguments } in &state.recorded {
            let (host, kernel) = &state.kernels[*kernel];
            let arguments: Vec<_> = arguments.iter().map(|bytes| bytes.as_ptr().cast_mut().cast()).collect();
            run(host, kernel, *grid, &arguments);
        }
    }

    /// Has a launch fail after so many more.
    pub fn fail_after(&self, launches: usize) {
        self.state().launches_left = Some(launches);
    }
}

impl Device for HostDevice {
    fn capability(&self) -> u32 {
        90
    }

    fn processors(&self) -> u32 {
        PROCESSORS
    }

    fn load(&self, code: &[u8], name: &str) -> Result<Function, Error> {
        let kernel = Kernel { name: name.to_owned(), text: String::from_utf8(code.to_vec()).unwrap() };
        let host = library(&kernel);
        let mut state = self.state();
        state.events.push(Event::Load(name.to_owned()));
        state.kernels.push((host, kernel));
        Ok(Function { handle: state.kernels.len() - 1, resident: RESIDENT })
    }

    unsafe fn launch(
        &self,
        function: &Function,
        grid: u32,
        stream: Stream,
        arguments: &[*mut c_void],
    ) -> Result<(), Error> {
        let mut state = self.state();
        match &mut state.launches_left {
            Some(0) => {
                state.launches_left = None;
                return Err(failure());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let (host, kernel) = state.kernels[function.handle].clone();
        let sizes = host.sizes(&kernel);
        assert_eq!(arguments.len(), sizes.len(), "{}", kernel.name);
        assert!(grid > 0 && sizes.iter().sum::<usize>() <= 4096, "{}", kernel.name);
        state.events.push(Event::Launch { name: kernel.name.clone(), grid, stream });
        if state.is_capturing {
            let bytes = arguments.iter().zip(sizes).map(|(&argument, size)| {
                let mut words = vec![0_u64; size.div_ceil(8)];
                // SAFETY: an argument has as many bytes.
                unsafe { std::ptr::copy_nonoverlapping(argument.cast::<u8>(), words.as_mut_ptr().cast(), size) };
                words
            });
            let arguments = bytes.collect();
            state.recorded.push(Recorded { kernel: function.handle, grid, arguments });
        } else if std::env::var_os("TORCHPACE_SIMULATED_IDLE").is_none() {
            drop(state);
            run(&host, &kernel, grid, arguments);
        }
        Ok(())
    }

    unsafe fn read(&self, from: u64, into: &mut [u8], _: Stream) -> Result<(), Error> {
        self.state().events.push(Event::Read(into.len()));
        // SAFETY: the caller's promise.
        unsafe {
            let from: *const u8 = std::ptr::with_exposed_provenance(from as usize);
            std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len());
        }
        Ok(())
    }

    fn is_capturing(&self, _: Stream) -> Result<bool, Error> {
        // From outside of this process's Rust it is set so; nothing is then recorded, and nothing runs.
        Ok(self.state().is_capturing || std::env::var_os("TORCHPACE_SIMULATED_CAPTURE").is_some())
    }
}

/// A compiler whose code is the text.
#[derive(Default)]
pub struct TextCompiler {
    pub compiled: AtomicUsize,
    /// How many compilations fail before one succeeds.
    pub failing: AtomicUsize,
}

impl Compile for TextCompiler {
    fn version(&self) -> (u32, u32) {
        (13, 0)
    }

    fn capabilities(&self) -> Result<Vec<u32>, Error> {
        Ok(vec![80, 90])
    }

    fn code(&self, text: &str, _: Target) -> Result<Vec<u8>, Error> {
        self.compiled.fetch_add(1, Ordering::Relaxed);
        if self.failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            let (reason, log) = ("NVRTC_ERROR_COMPILATION".to_owned(), "as the test asked".to_owned());
            return Err(Error::Nvrtc { call: "nvrtcCompileProgram", reason, log });
        }
        Ok(text.as_bytes().to_vec())
    }
}

/// A GPU on the host, which keeps nothing on disk.
pub fn gpu() -> (HostDevice, Gpu) {
    gpu_with(TextCompiler::default())
}

/// The same with this compiler.
pub fn gpu_with(compiler: TextCompiler) -> (HostDevice, Gpu) {
    let device = HostDevice::default();
    let cache = Cache::at("/dev/null/no folder".into());
    let gpu = Gpu::new(Box::new(device.clone()), Arc::new(compiler), cache).unwrap();
    (device, gpu)
}
