//! A collected step run by the kernels of a GPU.
#![allow(unsafe_code)]

use core::ffi::c_void;

use super::device::{Function, Stream};
use super::gpu::Gpu;
use super::layout::{self, THREADS, WORDS};
use super::plan::{Launch, Options, Plan, Structures, kinds};
use super::source::{self, Counts};
use crate::batch::{Clip, Kept, Nonfinite, Ready, Step};
use crate::error::Error;
use crate::rule::Rule;
use crate::tensor::Dtype;

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

/// What a step on a GPU is called with. The addresses are of `f32` numbers on that GPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Call {
    /// Where the work is put.
    pub stream: Stream,
    /// What the gradients are divided by, in memory too: only for a step that was collected to unscale.
    pub grad_scale: Option<u64>,
    /// A number that is not 0 if the step is to be left out.
    pub found_inf: Option<u64>,
    /// What is done with the norm of all gradients.
    pub norm: Norm,
}

/// What is done with the norm of all gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Norm {
    /// Nothing.
    Unwanted,
    /// The host asks for it, and says what multiplies the gradients.
    ForHost,
    /// The device clips and skips by it. To this address, if there is one, it writes the norm and then 1 if the step is
    /// left out for it, else 0. Nothing is raised.
    OnDevice(Clip, Option<u64>),
}

/// An argument of a launch.
enum Argument<'a> {
    Word(u64),
    Bytes(&'a [u8]),
}

use Argument::{Bytes, Word};

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
                at.sums(&step, launch)?;
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

/// A plan whose buffer is there.
struct Open<'a, const S: usize> {
    gpu: &'a Gpu,
    call: &'a Call,
    plan: &'a Plan<S>,
    base: u64,
    written: &'a mut Vec<u64>,
    words: &'a mut Vec<u64>,
}

impl<const S: usize> Open<'_, S> {
    /// Writes what of the step's words is not there yet, and makes the chunks of a new plan.
    ///
    /// # Safety
    ///
    /// As for [`Work::run`].
    unsafe fn write<R: Rule<C, S>, const C: usize>(&mut self, step: &Step<R, C, S>) -> Result<(), Error> {
        let plan = self.plan;
        plan.fill(step, self.words);
        // Where a launch fails, what is there is not known.
        let before = core::mem::take(self.written);
        let is_new = before.is_empty();
        for (k, words) in self.words.chunks(WORDS).enumerate() {
            let known = before.chunks(WORDS).nth(k).unwrap_or(&[]);
            let differs = |i: &usize| known.get(*i) != words.get(*i);
            let (first, last) = ((0..words.len()).find(differs), (0..words.len()).rfind(differs));
            let (Some(first), Some(last)) = (first, last) else { continue };
            let (to, changed) = (self.base + 8 * (k * WORDS + first) as u64, &words[first..=last]);
            let bytes = layout::words(changed);
            // SAFETY: the arguments of the text; the words lie within the buffer.
            unsafe { self.launch(&plan.write, 1, &[Word(to), Word(changed.len() as u64), Bytes(&bytes)])? };
        }
        if is_new {
            for launch in plan.launches.iter().filter(|launch| launch.chunk_count > 0) {
                let count = launch.tasks.len();
                let arguments =
                    [self.word(launch.lengths), self.word(launch.firsts), Word(count as u64), self.byte(launch.chunks)];
                // SAFETY: the arguments of the text; the chunks lie within the buffer.
                unsafe { self.launch(&plan.chunks, count, &arguments)? };
            }
        }
        core::mem::swap(self.written, self.words);
        Ok(())
    }

    /// Finds the norm, and what comes of it.
    ///
    /// # Safety
    ///
    /// As for [`Work::run`].
    unsafe fn clip(&self) -> Result<(), Error> {
        let Self { plan, call, .. } = self;
        for launch in &plan.launches {
            let Some(norm) = launch.norm.filter(|_| launch.chunk_count > 0) else { continue };
            let count = launch.tasks.len();
            let mut arguments = vec![
                self.byte(launch.chunks),
                Word(launch.chunk_count as u64),
                // The second row.
                self.word(launch.rows + count),
            ];
            arguments.extend(launch.kind.strided.then(|| self.word(launch.grad_layouts)));
            arguments.push(self.byte(plan.sums + 8 * launch.first_chunk));
            // SAFETY: the arguments of the text.
            unsafe { self.launch(&norm, launch.chunk_count, &arguments)? };
        }
        let Some(fold) = plan.fold else { return Ok(()) };
        let (clip, to) = match call.norm {
            Norm::OnDevice(clip, to) => (clip, to),
            Norm::Unwanted | Norm::ForHost => (Clip::OFF, None),
        };
        let arguments = [
            self.byte(plan.sums),
            Word(plan.chunk_count as u64),
            // Below 0 where there is none.
            Word(clip.max_norm.unwrap_or(-1.0).to_bits()),
            Word(clip.skip_norm.unwrap_or(-1.0).to_bits()),
            Word(u64::from(clip.nonfinite == Nonfinite::Skip)),
            Word(call.grad_scale.unwrap_or(0)),
            self.byte(plan.clip),
            Word(to.unwrap_or(0)),
        ];
        // SAFETY: the arguments of the text. Blocks but the first have nothing to do.
        unsafe { self.launch(&fold, 1, &arguments) }
    }

    /// Counts on the device, and makes the settings there.
    ///
    /// # Safety
    ///
    /// As for [`Work::run`].
    unsafe fn begin<R: Rule<C, S>, const C: usize>(
        &self,
        step: &Step<R, C, S>,
        launch: &Launch<S>,
    ) -> Result<(), Error> {
        let Some(begin) = &launch.begin else { return Ok(()) };
        let groups = launch.settings.iter().map(|&setting| {
            let group = &step.settings[setting].group;
            let at = group.lr_at.map_or([0, 0], |lr| if lr.dtype == Dtype::F64 { [0, lr.at] } else { [lr.at, 0] });
            let factor = step.factor_of(group);
            layout::group(at, group.lr, factor, group.clip_value, &source::constants(&group.rule, &launch.kind.scalars))
        });
        let groups = layout::groups(&groups.collect::<Vec<_>>()).unwrap_or_default();
        let count = launch.tasks.len();
        let mut arguments = vec![Word(count as u64), self.word(launch.counts)];
        let scalars = launch.kind.scalars.iter().flatten();
        arguments.extend(scalars.enumerate().map(|(k, _)| self.word(launch.scalars + k * count)));
        arguments.extend([
            self.word(launch.numbers),
            Bytes(&groups),
            self.byte(launch.made_settings),
            Word(self.call.found_inf.unwrap_or(0)),
            self.clip_at(),
        ]);
        // SAFETY: the arguments of the text.
        unsafe { self.launch(begin, count.div_ceil(THREADS as usize), &arguments) }
    }

    /// Steps on the tasks of a launch.
    ///
    /// # Safety
    ///
    /// As for [`Work::run`].
    unsafe fn step<R: Rule<C, S>, const C: usize>(
        &self,
        step: &Step<R, C, S>,
        launch: &Launch<S>,
    ) -> Result<(), Error> {
        if launch.chunk_count == 0 {
            return Ok(());
        }
        let settings = if launch.sums.is_some() { Vec::new() } else { settings(step, launch, launch.wide) };
        let mut arguments = self.tensors(launch);
        if launch.sums.is_some() {
            arguments.push(self.byte(launch.completed));
        } else {
            arguments.extend(self.settings(launch, &settings));
        }
        arguments.extend([Word(self.call.found_inf.unwrap_or(0)), self.clip_at()]);
        arguments.extend(self.call.grad_scale.map(Word));
        // SAFETY: the arguments of the text.
        unsafe { self.launch(launch.step.as_ref().ok_or(Error::Unprepared)?, launch.chunk_count, &arguments) }
    }

    /// Completes the settings of a launch's tasks by the sums over them, if the rule needs any.
    ///
    /// # Safety
    ///
    /// As for [`Work::run`].
    unsafe fn sums<R: Rule<C, S>, const C: usize>(
        &self,
        step: &Step<R, C, S>,
        launch: &Launch<S>,
    ) -> Result<(), Error> {
        let Some([sums, complete]) = launch.sums.as_ref().filter(|_| launch.chunk_count > 0) else { return Ok(()) };
        // Not rounded yet.
        let settings = settings(step, launch, true);
        let left_out = || [Word(self.call.found_inf.unwrap_or(0)), self.clip_at()];
        let mut arguments = self.tensors(launch);
        arguments.extend(self.settings(launch, &settings));
        arguments.extend(left_out());
        arguments.extend(self.call.grad_scale.map(Word));
        arguments.push(self.byte(launch.chunk_sums));
        // SAFETY: the arguments of the text.
        unsafe { self.launch(sums, launch.chunk_count, &arguments)? };
        let count = launch.tasks.len();
        let mut arguments = vec![Word(count as u64)];
        arguments.extend([self.word(launch.lengths), self.word(launch.firsts), self.byte(launch.chunk_sums)]);
        arguments.extend(self.settings(launch, &settings));
        arguments.push(self.byte(launch.completed));
        arguments.extend(left_out());
        // SAFETY: the arguments of the text.
        unsafe { self.launch(complete, count, &arguments) }
    }

    /// The chunks of a launch and the tensors of its tasks.
    fn tensors(&self, launch: &Launch<S>) -> Vec<Argument<'static>> {
        let mut arguments = vec![self.byte(launch.chunks), Word(launch.chunk_count as u64)];
        let row = |k| self.word(launch.rows + k * launch.tasks.len());
        arguments.extend((0..launch.tensors).map(row));
        arguments.extend(launch.kind.strided.then(|| self.word(launch.layouts)));
        arguments
    }

    /// The settings of a launch: those that kernels made, or those that come with it.
    fn settings<'b>(&self, launch: &Launch<S>, settings: &'b [u8]) -> Vec<Argument<'b>> {
        match launch.kind.counts {
            Some(Counts::OnDevice(_) | Counts::Given) => vec![self.byte(launch.made_settings)],
            None => vec![self.word(launch.numbers), Bytes(settings)],
        }
    }

    fn clip_at(&self) -> Argument<'static> {
        if let Norm::OnDevice(..) = self.call.norm { self.byte(self.plan.clip) } else { Word(0) }
    }

    /// The address of a word of the buffer.
    fn word(&self, word: usize) -> Argument<'static> {
        self.byte(8 * word)
    }

    /// The address of a byte of the buffer.
    fn byte(&self, byte: usize) -> Argument<'static> {
        Word(self.base + byte as u64)
    }

    /// Launches a kernel on as many blocks as there is work for, and the device runs at once.
    ///
    /// # Safety
    ///
    /// The arguments must be those of the text, and what they point to as [`Work::run`] asks.
    unsafe fn launch(&self, function: &Function, blocks: usize, arguments: &[Argument<'_>]) -> Result<(), Error> {
        let device = self.gpu.device();
        let most = device.processors() as usize * function.resident.max(1) as usize;
        // Numbers of 32 bits are the lower half of a word: CUDA knows no big-endian host.
        let at = |argument: &Argument<'_>| -> *mut c_void {
            match argument {
                Word(word) => core::ptr::from_ref(word).cast_mut().cast(),
                Bytes(bytes) => bytes.as_ptr().cast_mut().cast(),
            }
        };
        let pointers: Vec<_> = arguments.iter().map(at).collect();
        // SAFETY: the caller's promise.
        unsafe { device.launch(function, blocks.clamp(1, most) as u32, self.call.stream, &pointers) }
    }
}

/// The bytes of the settings of a launch as they come with it, in `f64` if `wide`.
fn settings<R: Rule<C, S>, const C: usize, const S: usize>(
    step: &Step<R, C, S>,
    launch: &Launch<S>,
    wide: bool,
) -> Vec<u8> {
    let bytes = |&setting: &usize| {
        let setting = &step.settings[setting];
        layout::setting(&setting.coeffs, step.factor_of(&setting.group), setting.group.clip_value, wide)
    };
    layout::settings(&launch.settings.iter().map(bytes).collect::<Vec<_>>()).unwrap_or_default()
}
