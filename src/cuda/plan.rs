//! A step split into launches, and where everything that they need lies in a buffer of the device's memory.
//!
//! First in the buffer come the words that the host writes, then what kernels make. What the host writes is filled anew
//! in every step, and only what has changed since the step before is written.

use std::sync::Arc;

use super::device::Function;
use super::gpu::Gpu;
use super::layout::{self, GROUPS, SETTINGS};
use super::record::Recording;
use super::source::{self, Counts, Variant};
use super::sums;
use crate::batch::{Count, Scalar, Step, Task};
use crate::error::Error;
use crate::rule::{Rule, SUMS};
use crate::tensor::{Dtype, Dtypes, Path, Strides, Walk};

/// What of a step is the same for all of its launches, and decided by their text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    /// Whether gradients are multiplied by the reciprocal of a scale on the device.
    pub unscale: bool,
    /// Whether the norm of all gradients is wanted.
    pub norm: bool,
    /// Whether elements of gradients are kept within limits.
    pub clip_value: bool,
}

/// The launches of a step.
pub(super) struct Plan<const S: usize> {
    options: Options,
    keys: Vec<Key<S>>,
    pub launches: Vec<Launch<S>>,
    /// The words that the host writes.
    pub words: usize,
    /// Where in the buffer, in bytes, the sums of the norm are; there is one for each chunk.
    pub sums: usize,
    pub chunk_count: usize,
    /// Where what comes of the norm is.
    pub clip: usize,
    /// The size of the buffer in bytes.
    pub bytes: usize,
    pub write: Function,
    pub chunks: Function,
    pub fold: Option<Function>,
}

/// Tasks that one launch steps on.
pub(super) struct Launch<const S: usize> {
    /// Their places in the step.
    pub tasks: Vec<usize>,
    /// Their settings, or of each group one: at most as many as a launch takes.
    pub settings: Vec<usize>,
    pub kind: Kind<S>,
    pub wide: bool,
    /// None as long as the state is not there.
    pub step: Option<Function>,
    pub begin: Option<Function>,
    pub norm: Option<Function>,
    /// The kernel of a rule that needs sums, and the one that completes the settings by those of each task.
    pub sums: Option<Function>,
    pub complete: Option<Function>,
    /// The number of tensors of a task: the parameter, the gradient and the live slots.
    pub tensors: usize,
    /// Where words are that the host writes: the rows of pointers, one after the other.
    pub rows: usize,
    /// The row of pointers to counts, or of the given numbers of steps.
    pub counts: usize,
    /// The rows of pointers to scalars that are on the device.
    pub scalars: usize,
    /// The setting or group of each task, two to a word.
    pub numbers: usize,
    pub lengths: usize,
    pub firsts: usize,
    /// The ways of tasks that are not packed, through all tensors and through the gradient alone.
    pub layouts: usize,
    pub grad_layouts: usize,
    /// Where in the buffer, in bytes, kernels make the chunks and the settings.
    pub chunks: usize,
    pub made_settings: usize,
    /// Where they make the sums of the chunks, and the settings completed by them.
    pub chunk_sums: usize,
    pub completed: usize,
    pub chunk_count: usize,
    /// The number of chunks of the launches before.
    pub first_chunk: usize,
}

/// What decides by which kernel a task is stepped on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind<const S: usize> {
    /// The number of the rule's structure.
    structure: usize,
    pub dtypes: Dtypes<S>,
    pub strided: bool,
    /// Where the device makes the settings: what it counts by.
    pub counts: Option<Counts>,
    /// The types of scalars on the device.
    pub scalars: [Option<Dtype>; S],
}

/// What a plan depends on in a task.
struct Key<const S: usize> {
    setting: usize,
    kind: Kind<S>,
    walk: Arc<Walk<S>>,
}

/// The rules seen so far, by what decides their kernels' text.
pub(super) struct Structures<R> {
    known: Vec<Vec<Recording>>,
    /// The rules of the last step, most of which come again.
    last: Vec<(R, usize)>,
}

impl<R> Structures<R> {
    pub const fn new() -> Self {
        Self { known: Vec::new(), last: Vec::new() }
    }

    /// The number of the rule's structure.
    fn of<const C: usize, const S: usize>(&mut self, rule: &R) -> usize
    where
        R: Rule<C, S>,
    {
        if let Some(&(_, number)) = self.last.iter().find(|(known, _)| known == rule) {
            return number;
        }
        let (update, mut coeffs) = (Recording::of_update(rule), Recording::of_coeffs(rule, true));
        // Values are no part of the text.
        coeffs.constants.clear();
        let mut recordings = vec![update, coeffs];
        if rule.needs_sums() || R::OVER_ALL {
            recordings.extend([Recording::of_summands(rule), Recording::of_complete(rule)]);
        }
        let number = self.known.iter().position(|known| *known == recordings).unwrap_or_else(|| {
            self.known.push(recordings);
            self.known.len() - 1
        });
        // Where a schedule changes an option, each step has another rule.
        if self.last.len() >= 2 * SETTINGS {
            self.last.clear();
        }
        self.last.push((*rule, number));
        number
    }
}

/// The kind of each task of a step.
pub(super) fn kinds<R: Rule<C, S>, const C: usize, const S: usize>(
    step: &Step<R, C, S>,
    structures: &mut Structures<R>,
) -> Vec<Kind<S>> {
    let mut of_setting: Option<(usize, usize)> = None;
    let kind = |(place, task): (usize, &Task<S>)| {
        let group = &step.settings[task.setting].group;
        let structure = match of_setting {
            Some((setting, structure)) if setting == task.setting => structure,
            _ => structures.of(&group.rule),
        };
        of_setting = Some((task.setting, structure));
        let counts = match &task.count {
            Some(Count { place: Scalar { is_host: false, dtype, .. }, .. }) => Some(Counts::OnDevice(*dtype)),
            _ => group.lr_at.map(|_| Counts::Given),
        };
        let on_device = |scalar: &Option<Scalar>| scalar.as_ref().filter(|it| !it.is_host).map(|it| it.dtype);
        let scalars = step.scalars.get(place).map_or([None; S], |scalars| scalars.each_ref().map(on_device));
        Kind { structure, dtypes: *task.walk.dtypes(), strided: !task.walk.is_packed(), counts, scalars }
    };
    step.tasks.iter().enumerate().map(kind).collect()
}

impl<const S: usize> Plan<S> {
    /// Whether it is the plan of this step.
    pub fn fits<R: Rule<C, S>, const C: usize>(
        &self,
        step: &Step<R, C, S>,
        kinds: &[Kind<S>],
        options: Options,
    ) -> bool {
        let same = |((key, task), kind): ((&Key<S>, &Task<S>), &Kind<S>)| {
            key.setting == task.setting && Arc::ptr_eq(&key.walk, &task.walk) && key.kind == *kind
        };
        self.options == options
            && self.keys.len() == step.tasks.len()
            && self.keys.iter().zip(&step.tasks).zip(kinds).all(same)
    }

    /// The plan of a step.
    ///
    /// # Errors
    ///
    /// Those of making kernels.
    pub fn of<R: Rule<C, S>, const C: usize>(
        step: &Step<R, C, S>,
        kinds: &[Kind<S>],
        options: Options,
        gpu: &Gpu,
    ) -> Result<Self, Error> {
        let mut parts: Vec<(Kind<S>, Vec<usize>, Vec<usize>)> = Vec::new();
        for (place, (task, kind)) in step.tasks.iter().zip(kinds).enumerate() {
            let (most, setting) = match kind.counts {
                None => (SETTINGS, task.setting),
                // The settings of a group are made from the same options.
                Some(_) => (GROUPS, first_of_group(step, task.setting)),
            };
            let has_room = |(other, _, settings): &&mut (Kind<S>, Vec<usize>, Vec<usize>)| {
                *other == *kind && (settings.len() < most || settings.contains(&setting))
            };
            match parts.iter_mut().find(has_room) {
                Some((_, tasks, settings)) => {
                    tasks.push(place);
                    if !settings.contains(&setting) {
                        settings.push(setting);
                    }
                }
                None => parts.push((*kind, vec![place], vec![setting])),
            }
        }
        let mut at = Places { words: 0, bytes: 0, chunks: 0 };
        let mut launches = Vec::new();
        for (kind, tasks, settings) in parts {
            launches.push(Launch::of(step, kind, tasks, settings, options, gpu, &mut at)?);
        }
        // What kernels make lies behind the words.
        let before = at.words * 8;
        for launch in &mut launches {
            launch.chunks += before;
            launch.made_settings += before;
            launch.chunk_sums += before;
            launch.completed += before;
        }
        let sums = before + at.bytes;
        let clip = sums + if options.norm { 8 * at.chunks } else { 0 };
        let keys = step.tasks.iter().zip(kinds);
        let key =
            |(task, &kind): (&Task<S>, &Kind<S>)| Key { setting: task.setting, kind, walk: Arc::clone(&task.walk) };
        Ok(Self {
            options,
            keys: keys.map(key).collect(),
            launches,
            words: at.words,
            sums,
            chunk_count: at.chunks,
            clip,
            bytes: clip + size_of::<layout::Clip>(),
            write: made(gpu, &source::write())?,
            chunks: made(gpu, &source::chunks())?,
            fold: if options.norm { Some(made(gpu, &source::fold())?) } else { None },
        })
    }

    /// The words of a step that this is the plan of, in the place of those before.
    pub fn fill<R: Rule<C, S>, const C: usize>(&self, step: &Step<R, C, S>, words: &mut Vec<u64>) {
        words.clear();
        words.resize(self.words, 0);
        self.launches.iter().for_each(|launch| launch.fill(step, words));
    }
}

/// The first setting of the group that a setting is of.
fn first_of_group<R: Rule<C, S>, const C: usize, const S: usize>(step: &Step<R, C, S>, setting: usize) -> usize {
    let number = step.settings[setting].number;
    step.settings.iter().position(|other| other.number == number).unwrap_or(setting)
}

/// What is taken so far: words of the host, bytes behind them, chunks.
struct Places {
    words: usize,
    bytes: usize,
    chunks: usize,
}

impl Places {
    /// Takes words, an even number, so that each stretch begins at a multiple of 16 bytes.
    fn words(&mut self, count: usize) -> usize {
        self.words += count.next_multiple_of(2);
        self.words - count.next_multiple_of(2)
    }

    fn bytes(&mut self, count: usize) -> usize {
        self.bytes += count.next_multiple_of(16);
        self.bytes - count.next_multiple_of(16)
    }
}

impl<const S: usize> Launch<S> {
    fn of<R: Rule<C, S>, const C: usize>(
        step: &Step<R, C, S>,
        kind: Kind<S>,
        tasks: Vec<usize>,
        settings: Vec<usize>,
        options: Options,
        gpu: &Gpu,
        at: &mut Places,
    ) -> Result<Self, Error> {
        let rule = &step.settings[settings[0]].group.rule;
        let Dtypes { param, grad, slots } = kind.dtypes;
        let wide = [Some(param), Some(grad)].into_iter().chain(slots).any(|dtype| dtype == Some(Dtype::F64));
        let (is_made, needs_sums) = (kind.counts.is_some(), rule.needs_sums());
        let Options { unscale, clip_value, .. } = options;
        let variant = Variant { unscale, clip_value, on_device: is_made || needs_sums, strided: kind.strided };
        let has_state = (0..S).all(|k| slots[k].is_some() || !rule.live()[k]);
        let function = |kernel: Option<source::Kernel>| made(gpu, &kernel.ok_or_else(no_kernel)?);
        let (count, tensors) = (tasks.len(), 2 + slots.iter().flatten().count());
        let chunk_count = tasks.iter().map(|&task| step.tasks[task].walk.len().div_ceil(layout::CHUNK)).sum();
        let of_layouts = |tensors: usize| if kind.strided { count * layout::way_words(tensors) } else { 0 };
        let (chunks, settings_bytes) = (chunk_count * size_of::<layout::Chunk>(), count * 8 * (C + 2));
        let sums = || function(sums::sums(rule, &kind.dtypes, Variant { on_device: is_made, ..variant }));
        let complete = || made(gpu, &sums::complete(rule, is_made, wide));
        let launch = Self {
            kind,
            wide,
            step: source::step(rule, &kind.dtypes, variant).map(|kernel| made(gpu, &kernel)).transpose()?,
            begin: kind
                .counts
                .map(|counts| function(source::begin(rule, counts, kind.scalars, wide || needs_sums)))
                .transpose()?,
            norm: options.norm.then(|| function(source::norm(grad, kind.strided))).transpose()?,
            // As the step, none as long as the state is not there.
            sums: ((needs_sums || R::OVER_ALL) && has_state).then(sums).transpose()?,
            complete: (needs_sums && has_state).then(complete).transpose()?,
            tensors,
            rows: at.words(tensors * count),
            counts: at.words(if is_made { count } else { 0 }),
            scalars: at.words(kind.scalars.iter().flatten().count() * count),
            numbers: at.words(count.div_ceil(2)),
            lengths: at.words(count),
            firsts: at.words(count),
            layouts: at.words(of_layouts(tensors)),
            grad_layouts: at.words(of_layouts(usize::from(options.norm))),
            chunks: at.bytes(chunks),
            made_settings: at.bytes(if is_made { settings_bytes } else { 0 }),
            chunk_sums: at.bytes(if needs_sums || R::OVER_ALL { chunk_count * 8 * SUMS } else { 0 }),
            completed: at.bytes(if needs_sums { settings_bytes } else { 0 }),
            chunk_count,
            first_chunk: at.chunks,
            tasks,
            settings,
        };
        at.chunks += chunk_count;
        Ok(launch)
    }

    fn fill<R: Rule<C, S>, const C: usize>(&self, step: &Step<R, C, S>, words: &mut [u64]) {
        let count = self.tasks.len();
        let has_norm = self.norm.is_some();
        let mut first = 0;
        for (i, &place) in self.tasks.iter().enumerate() {
            let task = &step.tasks[place];
            let tensors = [task.param, task.grad].into_iter().chain(task.slots.iter().copied().flatten());
            for (k, tensor) in tensors.enumerate() {
                words[self.rows + k * count + i] = tensor.expose_provenance() as u64;
            }
            match (self.kind.counts, &task.count) {
                (Some(Counts::OnDevice(_)), Some(count)) => {
                    words[self.counts + i] = count.place.at.expose_provenance() as u64
                }
                (Some(_), _) => words[self.counts + i] = step.settings[task.setting].step.to_bits(),
                (None, _) => {}
            }
            let scalars = step.scalars.get(place).into_iter().flatten().flatten().filter(|scalar| !scalar.is_host);
            for (k, scalar) in scalars.enumerate() {
                words[self.scalars + k * count + i] = scalar.at.expose_provenance() as u64;
            }
            let number = self.number_of(step, task.setting) as u64;
            words[self.numbers + i / 2] |= number << (32 * (i % 2));
            words[self.lengths + i] = task.walk.len() as u64;
            words[self.firsts + i] = first as u64;
            first += task.walk.len().div_ceil(layout::CHUNK);
            if self.kind.strided {
                let size = layout::way_words(self.tensors);
                fill_way(&task.walk, self.tensors, &mut words[self.layouts + i * size..][..size], &|strides| {
                    let slots = task.slots.iter().zip(strides.slots).filter(|(slot, _)| slot.is_some());
                    [strides.param, strides.grad].into_iter().chain(slots.map(|(_, stride)| stride)).collect()
                });
            }
            if self.kind.strided && has_norm {
                let size = layout::way_words(1);
                let into = &mut words[self.grad_layouts + i * size..][..size];
                fill_way(&task.walk, 1, into, &|strides| vec![strides.grad]);
            }
        }
    }

    /// The place of a task's setting or group among those of the launch.
    fn number_of<R: Rule<C, S>, const C: usize>(&self, step: &Step<R, C, S>, setting: usize) -> usize {
        let setting = if self.kind.counts.is_some() { first_of_group(step, setting) } else { setting };
        self.settings.iter().position(|&other| other == setting).unwrap_or(0)
    }
}

/// A kernel, loaded.
fn made(gpu: &Gpu, kernel: &source::Kernel) -> Result<Function, Error> {
    gpu.function(kernel).map_err(|error| Error::NoKernel { name: kernel.name.clone(), reason: error.to_string() })
}

/// For a type that no step was collected of.
fn no_kernel() -> Error {
    Error::NoKernel { name: "of a step".to_owned(), reason: "there is none for a tensor of this type".to_owned() }
}

/// Fills in the way through a task's tensors.
fn fill_way<const S: usize>(
    walk: &Walk<S>,
    tensors: usize,
    into: &mut [u64],
    strides: &dyn Fn(&Strides<S>) -> Vec<isize>,
) {
    let dims: Vec<_> = match walk.path() {
        Path::Nested(dims) => dims.iter().map(|dim| (dim.count as u32, strides(&dim.strides))).collect(),
        Path::Dense => Vec::new(),
    };
    layout::fill_way(tensors, &dims, into);
}
