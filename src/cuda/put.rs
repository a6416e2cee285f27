//! A planned step put on a stream, launch by launch.
#![allow(unsafe_code)]

use core::ffi::c_void;

use super::device::{Function, Stream};
use super::gpu::Gpu;
use super::layout::{self, THREADS, WORDS};
use super::plan::{Launch, Plan};
use super::source::{self, Counts};
use crate::batch::{Clip, Nonfinite, Step};
use crate::error::Error;
use crate::rule::Rule;
use crate::tensor::Dtype;

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

/// A plan whose buffer is there.
pub(super) struct Open<'a, const S: usize> {
    pub gpu: &'a Gpu,
    pub call: &'a Call,
    pub plan: &'a Plan<S>,
    pub base: u64,
    pub written: &'a mut Vec<u64>,
    pub words: &'a mut Vec<u64>,
}

impl<const S: usize> Open<'_, S> {
    /// Writes what of the step's words is not there yet, and makes the chunks of a new plan.
    ///
    /// # Safety
    ///
    /// As for [`Work::run`].
    pub unsafe fn write<R: Rule<C, S>, const C: usize>(&mut self, step: &Step<R, C, S>) -> Result<(), Error> {
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
    pub unsafe fn clip(&self) -> Result<(), Error> {
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
    pub unsafe fn begin<R: Rule<C, S>, const C: usize>(
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
    pub unsafe fn step<R: Rule<C, S>, const C: usize>(
        &self,
        step: &Step<R, C, S>,
        launch: &Launch<S>,
    ) -> Result<(), Error> {
        if launch.chunk_count == 0 {
            return Ok(());
        }
        let settings = if launch.complete.is_some() { Vec::new() } else { settings(step, launch, launch.wide) };
        let mut arguments = self.tensors(launch);
        if launch.complete.is_some() {
            arguments.push(self.byte(launch.completed));
        } else {
            arguments.extend(self.settings(launch, &settings));
        }
        arguments.extend(self.left_out());
        arguments.extend(self.call.grad_scale.map(Word));
        // SAFETY: the arguments of the text.
        unsafe { self.launch(launch.step.as_ref().ok_or(Error::Unprepared)?, launch.chunk_count, &arguments) }
    }

    /// Sums over each chunk of a launch, if the rule needs any sums: the settings that it went by, not rounded yet.
    ///
    /// # Safety
    ///
    /// As for [`Work::run`].
    pub unsafe fn sums<R: Rule<C, S>, const C: usize>(
        &self,
        step: &Step<R, C, S>,
        launch: &Launch<S>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let Some(sums) = launch.sums.as_ref().filter(|_| launch.chunk_count > 0) else { return Ok(None) };
        let settings = settings(step, launch, true);
        let mut arguments = self.tensors(launch);
        arguments.extend(self.settings(launch, &settings));
        arguments.extend(self.left_out());
        arguments.extend(self.call.grad_scale.map(Word));
        arguments.push(self.byte(launch.chunk_sums));
        // SAFETY: the arguments of the text.
        unsafe { self.launch(sums, launch.chunk_count, &arguments)? };
        Ok(Some(settings))
    }

    /// Completes the settings of a launch's tasks by the sums over them, if the rule needs any.
    ///
    /// # Safety
    ///
    /// As for [`Work::run`].
    pub unsafe fn complete<R: Rule<C, S>, const C: usize>(
        &self,
        step: &Step<R, C, S>,
        launch: &Launch<S>,
    ) -> Result<(), Error> {
        let Some(complete) = &launch.complete else { return Ok(()) };
        // SAFETY: the caller's promise.
        let Some(settings) = unsafe { self.sums(step, launch) }? else { return Ok(()) };
        let count = launch.tasks.len();
        let mut arguments = vec![Word(count as u64)];
        arguments.extend([self.word(launch.lengths), self.word(launch.firsts), self.byte(launch.chunk_sums)]);
        arguments.extend(self.settings(launch, &settings));
        arguments.push(self.byte(launch.completed));
        arguments.extend(self.left_out());
        // SAFETY: the arguments of the text.
        unsafe { self.launch(complete, count, &arguments) }
    }

    /// Where is written whether the step is left out.
    fn left_out(&self) -> [Argument<'static>; 2] {
        [Word(self.call.found_inf.unwrap_or(0)), self.clip_at()]
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
