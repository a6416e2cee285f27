//! What steps keep for each device that their parameters are on, and how a step is driven there.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ::tch::{Device as Place, Kind, Tensor};

use super::error::Error;
use super::threads::threads;
use crate::batch::Ready;
use crate::cuda::device::Stream;
use crate::cuda::gpu::Gpu;
use crate::cuda::launch::{Call, Memory, Norm, Work};
use crate::error::Error as CoreError;
use crate::rule::{Rule, SUMS};
use crate::tensor::{Device, Territory};

/// A device.
pub struct Drive<R, const S: usize> {
    pub device: Device,
    pub territory: Territory,
    /// What a GPU needs; `None` on the CPU.
    gpu: Option<OnGpu<R, S>>,
}

struct OnGpu<R, const S: usize> {
    index: u8,
    gpu: Arc<Gpu>,
    work: Work<DeviceMemory, R, S>,
    call: Call,
}

/// Memory from torch's allocator.
struct DeviceMemory(Tensor);

impl Memory for DeviceMemory {
    fn at(&self) -> u64 {
        self.0.data_ptr().expose_provenance() as u64
    }
}

/// The CUDA device of this index.
fn find(index: u8) -> Result<Arc<Gpu>, CoreError> {
    static FOUND: Mutex<Option<HashMap<u8, Arc<Gpu>>>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let found = found.get_or_insert_default();
    if let Some(gpu) = found.get(&index) {
        return Ok(Arc::clone(gpu));
    }
    let gpu = Arc::new(Gpu::open(i32::from(index), &folders())?);
    found.insert(index, Arc::clone(&gpu));
    Ok(gpu)
}

/// Where the torch that this was built with keeps NVRTC: beside it, as its Python package lies among NVIDIA's.
fn folders() -> Vec<PathBuf> {
    let library = option_env!("TORCHPACE_LIBTORCH").map(Path::new);
    let packages = library.and_then(Path::parent).and_then(Path::parent);
    packages.map(|packages| packages.join("nvidia/cu13/lib")).into_iter().collect()
}

impl<R, const S: usize> Drive<R, S> {
    /// A device on which nothing was done yet.
    ///
    /// # Errors
    ///
    /// It is a GPU that kernels cannot be made for.
    pub fn new(device: Device) -> Result<Self, Error> {
        let gpu = match device {
            Device::Cuda(index) => {
                // tch has no streams: all work is on the default one.
                let call = Call { stream: Stream(0), grad_scale: None, found_inf: None, norm: Norm::Unwanted };
                Some(OnGpu { index, gpu: find(index)?, work: Work::new(), call })
            }
            Device::Cpu | Device::Other(_) => None,
        };
        Ok(Self { device, territory: Territory::default(), gpu })
    }

    /// Makes a GPU ready for a step, whose norm is asked for or not.
    pub fn prepare<const C: usize>(&mut self, ready: &Ready<'_, R, C, S>, norm: bool) -> Result<(), Error>
    where
        R: Rule<C, S>,
    {
        let Some(OnGpu { index, gpu, work, call }) = &mut self.gpu else { return Ok(()) };
        call.norm = if norm { Norm::ForHost } else { Norm::Unwanted };
        work.forget_captured();
        if let Some(bytes) = work.prepare(gpu, ready, call)? {
            let place = Place::Cuda(usize::from(*index));
            let memory = Tensor::f_empty([bytes as i64], (Kind::Uint8, place))?;
            work.give(gpu, call.stream, DeviceMemory(memory), bytes)?;
        }
        Ok(())
    }

    /// The norm of a prepared step's gradients.
    pub fn norm<const C: usize>(&mut self, ready: &Ready<'_, R, C, S>) -> Result<f64, Error>
    where
        R: Rule<C, S>,
    {
        match &mut self.gpu {
            // SAFETY: as for `run`.
            Some(OnGpu { gpu, work, call, .. }) => Ok(unsafe { work.norm(gpu, ready, call) }?),
            None => Ok(ready.grad_norm(&threads())),
        }
    }

    /// The sums over all of a prepared step's parameters.
    pub fn sums<const C: usize>(&mut self, ready: &Ready<'_, R, C, S>) -> Result<[f64; SUMS], Error>
    where
        R: Rule<C, S>,
    {
        match &mut self.gpu {
            // SAFETY: as for `run`.
            Some(OnGpu { gpu, work, call, .. }) => Ok(unsafe { work.sums(gpu, ready, call) }?),
            None => Ok(ready.sums(&threads())),
        }
    }

    /// Whether its steps can fail.
    pub fn is_gpu(&self) -> bool {
        self.gpu.is_some()
    }

    /// Runs a prepared step.
    pub fn run<const C: usize>(&mut self, ready: Ready<'_, R, C, S>) -> Result<(), Error>
    where
        R: Rule<C, S>,
    {
        match &mut self.gpu {
            // SAFETY: all tensors are there now and are on this device. torch gives memory of theirs that is let go only to
            // work that comes later on the stream, as it does for its own kernels.
            Some(OnGpu { gpu, work, call, .. }) => drop(unsafe { work.run(gpu, ready, call) }?),
            None => drop(ready.run(&threads())),
        }
        Ok(())
    }
}
