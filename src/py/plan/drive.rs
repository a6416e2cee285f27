//! What a plan keeps for each device that its parameters are on, and how a step is driven there.

use std::sync::Arc;

use pyo3::prelude::*;

use super::super::call as step;
use super::super::end::Stop;
use super::super::torch::Torch;
use super::super::torch::device::{self, DeviceMemory};
use crate::batch::{Kept, Ready};
use crate::cuda::device::Stream;
use crate::cuda::gpu::Gpu;
use crate::cuda::launch::{Call, Norm, Work};
use crate::error::Error;
use crate::rule::{Rule, SUMS};
use crate::tensor::{Device, Territory};

/// A device of a plan's.
pub struct Drive<R, const C: usize, const S: usize> {
    pub device: Device,
    pub territory: Territory,
    /// The step before, to be run again where nothing has changed.
    pub kept: Option<Kept<R, C, S>>,
    /// What a GPU needs; `None` on the CPU.
    pub gpu: Option<OnGpu<R, S>>,
    /// Whether a parameter of this step is there.
    pub is_used: bool,
    /// Whether this step has looked at it.
    pub has_begun: bool,
}

/// A GPU of a plan's.
pub struct OnGpu<R, const S: usize> {
    index: u8,
    gpu: Arc<Gpu>,
    work: Work<DeviceMemory, R, S>,
    /// What this step is called with.
    call: Call,
    /// Whether a graph captures this step.
    pub is_captured: bool,
    /// What this step's addresses are of.
    tensors: Vec<Py<PyAny>>,
    /// Numbers on this device that this step can write, and where: the norm, and whether it has the step left out.
    numbers: Option<(Py<PyAny>, u64)>,
    /// Why kernels cannot be made here: it would take as long in every step.
    refused: Option<String>,
}

impl<R, const C: usize, const S: usize> Drive<R, C, S> {
    /// A device on which nothing was done yet.
    ///
    /// # Errors
    ///
    /// In words why it is left to torch.
    pub fn new(py: Python<'_>, place: Device) -> Result<Self, Stop> {
        let gpu = match place {
            Device::Cuda(index) => {
                let gpu = device::find(py, index)?.map_err(Stop::Torch)?;
                let call = Call { stream: Stream(0), grad_scale: None, found_inf: None, norm: Norm::Unwanted };
                Some(OnGpu {
                    index,
                    gpu,
                    work: Work::new(),
                    call,
                    is_captured: false,
                    tensors: Vec::new(),
                    numbers: None,
                    refused: None,
                })
            }
            Device::Cpu | Device::Other(_) => None,
        };
        Ok(Self { device: place, territory: Territory::default(), kept: None, gpu, is_used: false, has_begun: false })
    }
}

impl<R, const S: usize> OnGpu<R, S> {
    /// Looks at the device anew: where a step that begins now is put, and the numbers that it is called with. Runs Python
    /// code.
    pub fn begin(&mut self, call: &step::Call<'_>) -> Result<(), Stop> {
        if let Some(reason) = &self.refused {
            return Err(Stop::Torch(reason.clone()));
        }
        let wrote_norm = matches!(self.call.norm, Norm::OnDevice(..));
        let stream = device::stream(call.py, self.index)?;
        self.call = Call { stream, grad_scale: None, found_inf: None, norm: Norm::Unwanted };
        self.is_captured = self.gpu.device().is_capturing(stream)?;
        self.work.forget_captured();
        self.tensors.clear();
        self.call.grad_scale = call.scaling.grad_scale.map(|scale| self.number(call.torch, scale)).transpose()?;
        self.call.found_inf = call.scaling.found_inf.map(|found| self.number(call.torch, found)).transpose()?;
        self.numbers = None;
        // One that follows one that writes the norm mostly does, too.
        if wrote_norm {
            self.new_numbers(call.py)?;
        }
        Ok(())
    }

    /// Whether no kernels can be made here.
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// The host has looked at `found_inf`, so that the device need not.
    pub fn forget_found_inf(&mut self) {
        self.call.found_inf = None;
    }

    fn number(&mut self, torch: &Torch, tensor: &Bound<'_, PyAny>) -> Result<u64, Stop> {
        let (tensor, at) = device::on_device(torch, tensor, self.index)?;
        self.tensors.push(tensor);
        Ok(at)
    }

    /// Has the host, or the device itself, see to the norm.
    pub fn set_norm(&mut self, norm: Norm) {
        self.call.norm = norm;
    }

    /// Makes the numbers that this step can write. Runs Python code.
    pub fn new_numbers(&mut self, py: Python<'_>) -> PyResult<()> {
        self.numbers = Some(device::two_numbers(py, self.index)?);
        Ok(())
    }

    /// The numbers that this step can write, if they were made.
    pub fn numbers(&self, py: Python<'_>) -> Option<(Py<PyAny>, u64)> {
        self.numbers.as_ref().map(|(tensor, at)| (tensor.clone_ref(py), *at))
    }

    /// Plans a step; the bytes of memory that it lacks. Where no kernels can be made it is left to torch.
    pub fn prepare<const C: usize>(&mut self, py: Python<'_>, ready: &Ready<'_, R, C, S>) -> Result<Option<usize>, Stop>
    where
        R: Rule<C, S>,
    {
        match self.work.prepare(&self.gpu, ready, &self.call) {
            Err(error @ Error::NoKernel { .. }) => {
                let reason = error.to_string();
                self.refused = Some(reason.clone());
                device::warn(py, &reason)?;
                Err(Stop::Torch(reason))
            }
            prepared => Ok(prepared?),
        }
    }

    /// Gets memory from torch.
    pub fn allocate(&mut self, py: Python<'_>, bytes: usize) -> Result<(), Stop> {
        let memory = device::allocate(py, self.index, bytes)?;
        Ok(self.work.give(&self.gpu, self.call.stream, memory, bytes)?)
    }

    /// The norm of a prepared step's gradients.
    #[allow(unsafe_code)]
    pub fn norm<const C: usize>(&mut self, ready: &Ready<'_, R, C, S>) -> Result<f64, Error>
    where
        R: Rule<C, S>,
    {
        // SAFETY: as for `run`.
        unsafe { self.work.norm(&self.gpu, ready, &self.call) }
    }

    /// The sums over all of a prepared step's parameters.
    #[allow(unsafe_code)]
    pub fn sums<const C: usize>(&mut self, ready: &Ready<'_, R, C, S>) -> Result<[f64; SUMS], Error>
    where
        R: Rule<C, S>,
    {
        // SAFETY: as for `run`.
        unsafe { self.work.sums(&self.gpu, ready, &self.call) }
    }

    /// Puts a prepared step on the stream.
    #[allow(unsafe_code)]
    pub fn run<const C: usize>(&mut self, ready: Ready<'_, R, C, S>) -> Result<Kept<R, C, S>, Error>
    where
        R: Rule<C, S>,
    {
        // SAFETY: all tensors are there now and are on this device. torch gives memory of theirs that is let go only to
        // work that comes later on the stream, as it does for its own kernels; a graph keeps what it was given.
        unsafe { self.work.run(&self.gpu, ready, &self.call) }
    }
}
