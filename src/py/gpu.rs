//! The GPUs of this process, and torch's part in steps on them: memory and streams.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeWarning;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::options::describe_type;
use super::plan::Stop;
use super::torch::Torch;
use crate::cuda::device::Stream;
use crate::cuda::gpu::Gpu;
use crate::cuda::launch::Memory;
use crate::error::Error;

/// Memory from torch's allocator: ordered by the stream that was current, so that it may be let go while work on that
/// stream still needs it. Inside of a capture it is the graph's.
pub struct DeviceMemory {
    _tensor: Py<PyAny>,
    at: u64,
}

impl Memory for DeviceMemory {
    fn at(&self) -> u64 {
        self.at
    }
}

/// The CUDA device of this index; in words why steps on it are left to torch, which a warning says once.
pub fn find(py: Python<'_>, index: u8) -> PyResult<Result<Arc<Gpu>, String>> {
    type Found = Result<Arc<Gpu>, String>;
    static FOUND: Mutex<Option<HashMap<u8, Found>>> = Mutex::new(None);
    let lock = || FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = lock().get_or_insert_default().get(&index) {
        return Ok(found.clone());
    }
    // Not under the lock, since Python code runs.
    let found = open(py, index)?.map(Arc::new).map_err(|error: Error| error.to_string());
    let found = lock().get_or_insert_default().entry(index).or_insert(found).clone();
    if let Err(reason) = &found {
        warn(py, reason)?;
    }
    Ok(found)
}

/// Says once a process that steps on CUDA devices are left to torch.
pub fn warn(py: Python<'_>, reason: &str) -> PyResult<()> {
    static SAID: AtomicBool = AtomicBool::new(false);
    if SAID.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let text = format!("torchpace leaves the steps on CUDA devices to torch's own implementation: {reason}");
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1)
}

#[cfg(feature = "simulated")]
fn open(_: Python<'_>, _: u8) -> PyResult<Result<Gpu, Error>> {
    Ok(super::simulated::open())
}

#[cfg(not(feature = "simulated"))]
fn open(py: Python<'_>, index: u8) -> PyResult<Result<Gpu, Error>> {
    Ok(Gpu::open(i32::from(index), &folders(py)?))
}

/// Where packages of NVIDIA's keep their libraries.
#[cfg_attr(feature = "simulated", allow(dead_code))]
fn folders(py: Python<'_>) -> PyResult<Vec<PathBuf>> {
    let Ok(nvidia) = py.import("nvidia") else { return Ok(Vec::new()) };
    let mut folders = Vec::new();
    for path in nvidia.getattr("__path__")?.try_iter()? {
        let path: PathBuf = path?.extract()?;
        // The first is that of CUDA 13, the second of CUDA 12.
        folders.extend(
            ["cu13", "cuda_nvrtc"].map(|package| path.join(package).join(if cfg!(windows) { "bin" } else { "lib" })),
        );
    }
    Ok(folders)
}

/// torch's current stream of a device.
pub fn stream(py: Python<'_>, index: u8) -> PyResult<Stream> {
    if cfg!(feature = "simulated") {
        return Ok(Stream(0));
    }
    let handle = py.import("torch._C")?.getattr(intern!(py, "_cuda_getCurrentRawStream"))?.call1((index,))?;
    Ok(Stream(handle.extract()?))
}

/// Memory of a device, made ready on its current stream.
pub fn allocate(py: Python<'_>, index: u8, bytes: usize) -> PyResult<DeviceMemory> {
    let (tensor, at) = empty(py, index, &[bytes], "uint8")?;
    Ok(DeviceMemory { _tensor: tensor, at })
}

/// Two numbers to be written by a kernel, and their address.
pub fn two_numbers(py: Python<'_>, index: u8) -> PyResult<(Py<PyAny>, u64)> {
    empty(py, index, &[2], "float32")
}

fn empty(py: Python<'_>, index: u8, shape: &[usize], dtype: &str) -> PyResult<(Py<PyAny>, u64)> {
    let torch = py.import("torch")?;
    let options = PyDict::new(py);
    options.set_item("dtype", torch.getattr(dtype)?)?;
    options.set_item("device", name(index))?;
    let tensor = torch.call_method("empty", (shape.to_vec(),), Some(&options))?;
    let at = tensor.call_method0("data_ptr")?.extract()?;
    Ok((tensor.unbind(), at))
}

/// A tensor of one number as `float32` on a device, and its address: the tensor itself where it is that.
///
/// # Errors
///
/// It is no plain tensor of one number.
pub fn on_device(torch: &Torch, tensor: &Bound<'_, PyAny>, index: u8) -> Result<(Py<PyAny>, u64), Stop> {
    let py = tensor.py();
    let is_one = torch.is_plain(tensor) && tensor.call_method0("numel")?.extract::<usize>()? == 1;
    if !is_one {
        return Err(Stop::Torch(format!("a GradScaler's tensor is {}, not one number", describe_type(tensor))));
    }
    let options = PyDict::new(py);
    options.set_item("dtype", py.import("torch")?.getattr("float32")?)?;
    options.set_item("device", name(index))?;
    options.set_item("non_blocking", true)?;
    let tensor = tensor.call_method("to", (), Some(&options))?;
    let at = tensor.call_method0("data_ptr")?.extract()?;
    Ok((tensor.unbind(), at))
}

/// What torch calls the device.
fn name(index: u8) -> String {
    if cfg!(feature = "simulated") { "cpu".to_owned() } else { format!("cuda:{index}") }
}
