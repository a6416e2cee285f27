//! A collected step run by the kernels of a GPU.
#![allow(unsafe_code)]

use super::device::Stream;
use super::gpu::Gpu;
use super::layout;
use super::plan::{Options, Plan, Structures, kinds};
use super::put::Open;
use crate::batch::{Kept, Ready};
use crate::error::Error;
use crate::rule::{Rule, SUMS};

pub use super::put::{Call, Norm};

/// Memory of a device that somebody else owns, for as long as this is there.
pub trait Memory {
    /// Its address, a multiple of 16.
    fn at(&self) -> u64;
}

/// What an optimizer keeps on a GPU from one step to the next: nothing that a step depends on.
pub struct Work<M, R, const S: usize> {
    structures: Structures<R>,
    plan: Option<Plan<S>>,
    /// What steps use that no graph captures.
    buffer: Option<Buffer<M>>,
    /// What the step under way uses, if a graph captures it: the graph alone writes there.
    captured: Option<Buffer<M>>,
    /// Room for the words of a step.
    words: Vec<u64>,
}

struct Buffer<M> {
    memory: M,
    bytes: usize,
    stream: Stream,
    /// The words that are there; none at all if they are those of another plan, or may not be there.
    words: Vec<u64>,
}

impl<M: Memory, R, const S: usize> Work<M, R, S> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { structures: Structures::new(), plan: None, buffer: None, captured: None, words: Vec::new() }
    }

    /// Forgets what a graph that captured an earlier step was given. To be called once before a step.
    pub fn forget_captured(&mut self) {
        self.captured = None;
    }

    /// Plans a step, and makes its kernels. The bytes of device memory that it lacks, which [`give`](Self::give) takes.
    ///
    /// # Errors
    ///
    /// Those of making kernels, and the driver's.
    pub fn prepare<const C: usize>(
        &mut self,
        gpu: &Gpu,
        ready: &Ready<'_, R, C, S>,
        call: &Call,
    ) -> Result<Option<usize>, Error>
    where
        R: Rule<C, S>,
    {
        let step = &ready.step;
        let options = Options {
            unscale: call.grad_scale.is_some(),
            norm: call.norm != Norm::Unwanted,
            clip_value: step.settings.iter().any(|setting| setting.group.clip_value.is_some()),
        };
        let kinds = kinds(step, &mut self.structures);
        let plan = match self.plan.take_if(|plan| plan.fits(step, &kinds, options)) {
            Some(plan) => plan,
            None => {
                if let Some(buffer) = &mut self.buffer {
                    buffer.words.clear();
                }
                self.captured = None;
                Plan::of(step, &kinds, options, gpu)?
            }
        };
        let plan = self.plan.insert(plan);
        let is_captured = gpu.device().is_capturing(call.stream)?;
        let buffer = if is_captured { &self.captured } else { &self.buffer };
        let is_there = |buffer: &Buffer<M>| buffer.bytes >= plan.bytes && buffer.stream == call.stream;
        Ok(if buffer.as_ref().is_some_and(is_there) { None } else { Some(plan.bytes) })
    }

    /// Takes as many bytes of device memory as [`prepare`](Self::prepare) asked for, made ready on the stream. If a graph
    /// captures that, they must be the graph's.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn give(&mut self, gpu: &Gpu, stream: Stream, memory: M, bytes: usize) -> Result<(), Error> {
        let buffer = Some(Buffer { memory, bytes, stream, words: Vec::new() });
        if gpu.device().is_capturing(stream)? {
            self.captured = buffer;
        } else {
            self.buffer = buffer;
        }
        Ok(())
    }

    /// The norm of a step's gradients, unscaled. Waits for the device, so no graph can capture it. The step must be
    /// prepared.
    ///
    /// # Errors
    ///
    /// The driver's; or a graph captures the stream.
    ///
    /// # Safety
    ///
    /// As for [`run`](Self::run).
    pub unsafe fn norm<const C: usize>(
        &mut self,
        gpu: &Gpu,
        ready: &Ready<'_, R, C, S>,
        call: &Call,
    ) -> Result<f64, Error>
    where
        R: Rule<C, S>,
    {
        if gpu.device().is_capturing(call.stream)? {
            return Err(Error::Captured { what: "the norm of the gradients, which the host needs to know," });
        }
        let mut at = self.open(gpu, call)?;
        // SAFETY: the caller's promise.
        unsafe {
            at.write(&ready.step)?;
            at.clip()?;
            let mut bytes = [0; size_of::<layout::Clip>()];
            gpu.device().read(at.base + at.plan.clip as u64, &mut bytes, call.stream)?;
            Ok(f64::from_ne_bytes(core::array::from_fn(|k| bytes[k])))
        }
    }

    /// The sums over all parameters together, as the rule [asks](Rule::OVER_ALL) for them. Waits for the device, so no
    /// graph can capture it. The step must be prepared, its gradients scaled.
    ///
    /// # Errors
    ///
    /// The driver's; or a graph captures the stream.
    ///
    /// # Safety
    ///
    /// As for [`run`](Self::run).
    pub unsafe fn sums<const C: usize>(
        &mut self,
        gpu: &Gpu,
        ready: &Ready<'_, R, C, S>,
        call: &Call,
    ) -> Result<[f64; SUMS], Error>
    where
        R: Rule<C, S>,
    {
        if gpu.device().is_capturing(call.stream)? {
            return Err(Error::Captured { what: "sums over all parameters, which the host needs to know," });
        }
        let mut at = self.open(gpu, call)?;
        let mut sums = [0.0; SUMS];
        // SAFETY: the caller's promise.
        unsafe {
            at.write(&ready.step)?;
            for launch in &at.plan.launches {
                if at.sums(&ready.step, launch)?.is_none() {
                    continue;
                }
                let mut bytes = vec![0; 8 * SUMS * launch.chunk_count];
                gpu.device().read(at.base + launch.chunk_sums as u64, &mut bytes, call.stream)?;
                for (k, word) in bytes.chunks_exact(8).enumerate() {
                    sums[k % SUMS] += f64::from_ne_bytes(core::array::from_fn(|i| word[i]));
                }
            }
        }
        Ok(sums)
    }

    /// Puts a step on the stream. It must be prepared.
    ///
    /// # Errors
    ///
    /// The driver's. Where it does not come with the first launch, part of the step may be done.
    ///
    /// # Safety
    ///
    /// All tensors, the memory that was given and the addresses of the call must be of this GPU, and be there until the
    /// stream has done the work; nobody else may write to them meanwhile.
    pub unsafe fn run<const C: usize>(
        &mut self,
        gpu: &Gpu,
        ready: Ready<'_, R, C, S>,
        call: &Call,
    ) -> Result<Kept<R, C, S>, Error>
    where
        R: Rule<C, S>,
    {
        let Ready { device, step, .. } = ready;
        let mut at = self.open(gpu, call)?;
        // SAFETY: the caller's promise.
        unsafe {
            at.write(&step)?;
            if let Norm::OnDevice(..) = call.norm {
                at.clip()?;
            }
            for launch in &at.plan.launches {
                at.begin(&step, launch)?;
            }
            for launch in &at.plan.launches {
                at.complete(&step, launch)?;
            }
            for launch in &at.plan.launches {
                at.step(&step, launch)?;
            }
        }
        self.captured = None;
        step.write_counts();
        Ok(Kept { device, step })
    }

    /// All that launches need.
    fn open<'a>(&'a mut self, gpu: &'a Gpu, call: &'a Call) -> Result<Open<'a, S>, Error> {
        let buffer = self.captured.as_mut().or(self.buffer.as_mut());
        match (&self.plan, buffer) {
            (Some(plan), Some(buffer)) if buffer.bytes >= plan.bytes && buffer.stream == call.stream => {
                let base = buffer.memory.at();
                Ok(Open { gpu, call, plan, base, written: &mut buffer.words, words: &mut self.words })
            }
            _ => Err(Error::Unprepared),
        }
    }
}

impl<M: Memory, R, const S: usize> Default for Work<M, R, S> {
    fn default() -> Self {
        Self::new()
    }
}
