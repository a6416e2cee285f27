//! Steps of the kernels on the host against those of the CPU driver, bit for bit.

use std::sync::Arc;

use half::{bf16, f16};
use torchpace::batch::{Batch, Group, Ready};
use torchpace::cpu::Spawned;
use torchpace::cuda::layout::{self, Clip, chunks};
use torchpace::cuda::source::{Counts, Kernel, Variant, constants};
use torchpace::rule::Rule;
use torchpace::rules::{self, Visitor};
use torchpace::tensor::{Device, Dtype, Operands, Territory, View, Walk};

use crate::cases::{Case, TYPES, Table, Types, cases, is_over_all, scalar_types, variants};
use crate::host::{Host, argument, compile};

/// Bytes that begin at a multiple of 16, or `shift` elements behind it.
#[derive(Clone)]
pub struct Memory {
    pub words: Vec<u128>,
    pub shift: usize,
}

impl Memory {
    pub fn of(values: &[f64], dtype: Dtype, shift: usize) -> Self {
        let size = dtype.size().unwrap();
        let mut words = vec![0_u128; ((values.len() + shift) * size).div_ceil(16) + 1];
        for (k, &value) in values.iter().enumerate() {
            let bytes = match dtype {
                Dtype::F64 => value.to_ne_bytes().to_vec(),
                Dtype::F32 => (value as f32).to_ne_bytes().to_vec(),
                Dtype::F16 => f16::from_f64(value).to_ne_bytes().to_vec(),
                _ => bf16::from_f64(value).to_ne_bytes().to_vec(),
            };
            // SAFETY: the words have room for all values and the shift.
            unsafe {
                let at = words.as_mut_ptr().cast::<u8>().add((shift + k) * size);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, size);
            }
        }
        Self { words, shift: shift * size }
    }

    /// The bits of all numbers, those of every NaN alike.
    pub fn bits(&self, dtype: Dtype) -> Vec<u64> {
        let size = dtype.size().unwrap();
        let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let numbers = bytes.chunks(size).map(|number| {
            let bits = number.iter().rev().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
            let is_nan = match dtype {
                Dtype::F64 => f64::from_bits(bits).is_nan(),
                Dtype::F32 => f32::from_bits(bits as u32).is_nan(),
                Dtype::F16 => f16::from_bits(bits as u16).is_nan(),
                _ => bf16::from_bits(bits as u16).is_nan(),
            };
            if is_nan { u64::MAX } else { bits }
        });
        numbers.collect()
    }

    pub fn at(&mut self) -> *mut u8 {
        // SAFETY: within the words.
        unsafe { self.words.as_mut_ptr().cast::<u8>().add(self.shift) }
    }
}

/// A parameter's tensors: the parameter, the gradient and all slots; and its count and its scalars, of which few rules
/// have one or two, as `f32` or as `f64`.
#[derive(Clone)]
pub struct Task {
    pub shape: [i64; 2],
    pub strides: Vec<[i64; 2]>,
    pub memory: Vec<Memory>,
    pub count: f32,
    pub scalars: ([f32; 2], [f64; 2]),
    pub group: usize,
}

/// What a step is under.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub types: Types,
    pub variant: Variant,
    pub scale: f32,
    pub found_inf: Option<f32>,
    pub clip: Option<Clip>,
    pub grid: u32,
    pub shift: usize,
}

pub const LR: [f64; 2] = [0.05, 0.3];
const LIMIT: f64 = 0.3;

/// Some gradients are one of these.
const SPECIAL: [f64; 7] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e-40, 6e4, 1e30];

fn random(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 30) - 1.0
    }
}

/// Parameters of several sizes, in two groups and at several counts.
pub fn tasks(slots: usize, setup: &Setup) -> Vec<Task> {
    let mut random = random(7);
    let sizes = [[1, 1], [3, 5], [0, 4], [20, 17], [150, 120], [1, 33]];
    (sizes.into_iter().enumerate())
        .map(|(i, shape @ [a, b])| {
            let dense = [b, 1];
            let [with_gaps, turned] = if setup.variant.strided { [[2 * b, 2], [1, a]] } else { [dense; 2] };
            let strides: Vec<_> = [with_gaps, turned].into_iter().chain(vec![dense; slots]).collect();
            let types = [setup.types.param, setup.types.grad].into_iter().chain(vec![setup.types.slot; slots]);
            let memory = types.enumerate().map(|(k, dtype)| {
                let mut value = || if k < 2 { random() } else { random().powi(2) };
                let mut values: Vec<_> = (0..2 * a * b).map(|_| value()).collect();
                // Some tensors have none, of which sums are numbers.
                if k == 1 && ![1, 4].contains(&i) {
                    let some = values.iter_mut().skip(3).step_by(11);
                    some.zip(SPECIAL.into_iter().cycle()).for_each(|(value, special)| *value = special);
                }
                // All of one parameter are aligned, of the next the first is not, then the second.
                let shift = if i % 4 == k + 1 { setup.shift } else { 0 };
                Memory::of(&values, dtype, shift)
            });
            let scalars = [0.1 + 0.2 * (i % 3) as f32, [1.0, 0.4][i % 2]];
            let scalars = (scalars, scalars.map(|scalar| f64::from(scalar) / 3.0));
            Task { shape, strides, memory: memory.collect(), count: (7 * (i % 3)) as f32, scalars, group: i % 2 }
        })
        .collect()
}

impl Setup {
    fn unscale(&self) -> Option<f64> {
        self.variant.unscale.then(|| f64::from((1.0 / f64::from(self.scale)) as f32))
    }

    fn limit(&self) -> Option<f64> {
        self.variant.clip_value.then_some(LIMIT)
    }

    /// The step over tasks as one of this device, whose memory is the host's. A rule that counts does so on the host, or
    /// `on_device`.
    pub fn collect<'a, R: Rule<C, S>, const C: usize, const S: usize>(
        &self,
        groups: &[Group<R>],
        tasks: &'a mut [Task],
        walks: &mut Vec<Option<Arc<Walk<S>>>>,
        (device, on_device): (Device, bool),
    ) -> Ready<'a, R, C, S> {
        let mut batch = Batch::on(device, self.unscale());
        walks.resize(tasks.len(), None);
        for (Task { shape, strides, memory, count, scalars, group }, walk) in tasks.iter_mut().zip(walks) {
            let fresh = *count == 0.0;
            // SAFETY: the memory has room for all that the strides reach, and is borrowed mutably.
            let view = |memory: &mut Memory, k: usize, dtype| unsafe {
                View::new(memory.at(), shape, &strides[k], dtype, device)
            };
            let live = groups[*group].rule.live();
            let mut own = memory.iter_mut().enumerate();
            let mut next = |dtype| own.next().map(|(k, memory)| view(memory, k, dtype)).unwrap();
            let (param, grad) = (next(self.types.param), next(self.types.grad));
            let slots = live.map(|live| live.then(|| next(self.types.slot)));
            let counts_on = if on_device { device } else { Device::Cpu };
            // SAFETY: one number, borrowed mutably.
            let number = |number: *mut u8, dtype| unsafe { View::new(number, &[], &[], dtype, counts_on) };
            let mut own = 0..2;
            let scalars = scalar_types::<R, C, S>()
                .map(|dtype| dtype.map(|dtype| number(scalar_at(scalars, own.next().unwrap(), dtype), dtype)));
            let step = R::COUNTED.then(|| number(std::ptr::from_mut(count).cast(), Dtype::F32));
            let operands = Operands { param, grad, slots, step, scalars };
            batch.push((*group, &groups[*group]), fresh, walk, &operands, String::new).unwrap();
        }
        batch.ready(&mut Territory::default()).unwrap()
    }

    /// The groups of a rule.
    pub fn groups<R: Copy>(&self, rule: &R) -> [Group<R>; 2] {
        [0, 1].map(|k| Group { maximize: k == 1, clip_value: self.limit(), ..Group::new(*rule, LR[k]) })
    }

    pub fn on_cpu<R: Rule<C, S>, const C: usize, const S: usize>(&self, rule: &R, tasks: &mut [Task]) {
        let mut ready = self.collect(&self.groups(rule), tasks, &mut Vec::new(), (Device::Cpu, false));
        ready.scale_grads(self.clip.map_or(1.0, |clip| clip.factor));
        ready.run(&Spawned(1));
    }

    fn on_kernels<R: Rule<C, S>, const C: usize, const S: usize>(
        &self,
        rule: &R,
        host: &Host,
        Kernels { begin, step, sums }: &Kernels,
        tasks: &mut [Task],
    ) {
        let tensors = tasks[0].memory.len();
        // What sums complete is not rounded yet.
        let wide = sums.is_some() || self.types.is_wide(tensors > 2);
        let lengths = tasks.iter().map(|task| (task.shape[0] * task.shape[1]) as usize);
        let chunks = chunks(lengths);
        let rows: Vec<Vec<*mut u8>> =
            (0..tensors).map(|k| tasks.iter_mut().map(|task| task.memory[k].at()).collect()).collect();
        let row_starts: Vec<_> = rows.iter().map(Vec::as_ptr).collect();
        let layouts: Vec<u64> = tasks.iter().flat_map(|task| layout_of(task, self.types)).collect();
        let setting_of: Vec<u32> = (0..tasks.len() as u32).collect();
        let settings = if self.variant.on_device {
            self.begin(rule, host, begin, tasks)
        } else {
            let all: Vec<_> = tasks.iter().map(|task| self.setting(rule, task, wide)).collect();
            words(&layout::settings(&all).unwrap())
        };
        let (found_inf, clip) = (pointer(&self.found_inf), pointer(&self.clip));
        let (chunk_start, count, layout_start) = (chunks.as_ptr(), chunks.len() as u32, layouts.as_ptr());
        let (setting_of_start, settings_start) = (setting_of.as_ptr(), settings.as_ptr());
        let scale = &raw const self.scale;
        let mut tensors = vec![argument(&chunk_start), argument(&count)];
        tensors.extend(row_starts.iter().map(argument));
        tensors.extend(self.variant.strided.then(|| argument(&layout_start)));
        let settings = match self.variant.on_device {
            true => vec![argument(&settings_start)],
            false => vec![argument(&setting_of_start), settings_start.cast_mut().cast()],
        };
        let mut behind = vec![argument(&found_inf), argument(&clip)];
        behind.extend(self.variant.unscale.then(|| argument(&scale)));
        let Some([sums, complete]) = sums else {
            // SAFETY: the arguments in the order of the text, each of its type; all memory lives until the end.
            return unsafe { host.launch(step, self.grid, &[tensors, settings, behind].concat()) };
        };
        // Of more chunks than there are, and full of what must not matter.
        let mut chunk_sums = vec![f64::NAN; 2 * chunks.len() + 2];
        let mut completed = vec![u64::MAX; tasks.len() * (C + 2)];
        let (sums_start, completed_start) = (chunk_sums.as_mut_ptr(), completed.as_mut_ptr());
        let lengths: Vec<_> = tasks.iter().map(|task| (task.shape[0] * task.shape[1]) as u64).collect();
        let firsts: Vec<_> = (lengths.iter())
            .scan(0, |first, &length| {
                *first += length.div_ceil(layout::CHUNK as u64);
                Some(*first - length.div_ceil(layout::CHUNK as u64))
            })
            .collect();
        let (number, lengths_start, firsts_start) = (tasks.len() as u32, lengths.as_ptr(), firsts.as_ptr());
        let of_tasks = [argument(&number), argument(&lengths_start), argument(&firsts_start)];
        let (sums_at, completed_at) = (vec![argument(&sums_start)], vec![argument(&completed_start)]);
        // SAFETY: as above.
        unsafe {
            host.launch(sums, self.grid, &[&tensors[..], &settings, &behind, &sums_at].concat());
            let arguments = [&of_tasks[..], &sums_at, &settings, &completed_at, &behind[..2]].concat();
            host.launch(complete, self.grid, &arguments);
            host.launch(step, self.grid, &[tensors, completed_at, behind].concat());
        }
    }

    /// A task's setting as the host makes it.
    fn setting<R: Rule<C, S>, const C: usize, const S: usize>(&self, rule: &R, task: &Task, wide: bool) -> Vec<u8> {
        let is_single = scalar_types::<R, C, S>().contains(&Some(Dtype::F32));
        layout::setting(
            &rule.begin(LR[task.group], step_of::<R, C, S>(task), scalars_of::<R, C, S>(task), is_single).0,
            [1.0, -1.0][task.group],
            self.limit(),
            wide,
        )
    }

    /// All tasks' settings as the kernel makes them, and their counts. The first group's rate is on the device.
    fn begin<R: Rule<C, S>, const C: usize, const S: usize>(
        &self,
        rule: &R,
        host: &Host,
        kernel: &Kernel,
        tasks: &mut [Task],
    ) -> Vec<u64> {
        let types = scalar_types::<R, C, S>();
        let constants = constants(rule, &types);
        let lr = LR[0];
        let lr_at = std::ptr::from_ref(&lr).expose_provenance() as u64;
        let all = [
            layout::group([0, lr_at], 9.0, 1.0, self.limit(), &constants),
            layout::group([0, 0], LR[1], -1.0, self.limit(), &constants),
        ];
        let groups = words(&layout::groups(&all).unwrap());
        let group_of: Vec<u32> = tasks.iter().map(|task| task.group as u32).collect();
        let steps: Vec<f64> = tasks.iter().map(step_of::<R, C, S>).collect();
        let counts: Vec<*mut f32> = tasks.iter_mut().map(|task| &raw mut task.count).collect();
        let scalars: Vec<Vec<*mut u8>> = (types.into_iter().flatten().enumerate())
            .map(|(k, dtype)| tasks.iter_mut().map(|task| scalar_at(&mut task.scalars, k, dtype)).collect())
            .collect();
        let scalar_starts: Vec<_> = scalars.iter().map(Vec::as_ptr).collect();
        let mut settings = vec![0_u64; tasks.len() * (C + 2)];
        let counts_start: *const u8 = if R::COUNTED { counts.as_ptr().cast() } else { steps.as_ptr().cast() };
        let (tasks, group_of_start) = (tasks.len() as u32, group_of.as_ptr());
        let (settings_start, found_inf, clip) = (settings.as_mut_ptr(), pointer(&self.found_inf), pointer(&self.clip));
        let mut arguments = vec![argument(&tasks), argument(&counts_start)];
        arguments.extend(scalar_starts.iter().map(argument));
        arguments.extend([
            argument(&group_of_start),
            groups.as_ptr().cast_mut().cast(),
            argument(&settings_start),
            argument(&found_inf),
            argument(&clip),
        ]);
        // SAFETY: the arguments in the order of the text, each of its type; all memory lives until the end.
        unsafe { host.launch(kernel, 2, &arguments) };
        settings
    }
}

/// The number of a task's step; of a rule that does not count, whether its slots are new.
fn step_of<R: Rule<C, S>, const C: usize, const S: usize>(task: &Task) -> f64 {
    if R::COUNTED { f64::from(task.count) + 1.0 } else { f64::from(task.count + 1.0).min(2.0) }
}

/// A task's scalars, in the places of the slots.
fn scalars_of<R: Rule<C, S>, const C: usize, const S: usize>(task: &Task) -> [f64; S] {
    let mut own = 0..2;
    scalar_types::<R, C, S>().map(|dtype| match dtype {
        None => 0.0,
        Some(Dtype::F64) => task.scalars.1[own.next().unwrap()],
        Some(_) => f64::from(task.scalars.0[own.next().unwrap()]),
    })
}

/// Where a task has its scalar of this number and type.
fn scalar_at((narrow, wide): &mut ([f32; 2], [f64; 2]), k: usize, dtype: Dtype) -> *mut u8 {
    if dtype == Dtype::F64 {
        std::ptr::from_mut(&mut wide[k]).cast()
    } else {
        std::ptr::from_mut(&mut narrow[k]).cast()
    }
}

/// Where a value is, or null.
fn pointer<T>(value: &Option<T>) -> *const T {
    value.as_ref().map_or(std::ptr::null(), std::ptr::from_ref)
}

/// The same bytes where words may be.
fn words(bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks(8)
        .map(|word| std::array::from_fn(|k| word.get(k).copied().unwrap_or(0)))
        .map(u64::from_ne_bytes)
        .collect()
}

/// A task's `Layout`.
fn layout_of(task: &Task, types: Types) -> Vec<u64> {
    let size = |dtype: Dtype| dtype.size().unwrap() as isize;
    let mut sizes = vec![size(types.param), size(types.grad)];
    sizes.resize(task.memory.len(), size(types.slot));
    let stride = |d: usize| task.strides.iter().zip(&sizes).map(|(strides, size)| strides[d] as isize * size).collect();
    let mut words = vec![0; layout::way_words(sizes.len())];
    layout::fill_way(sizes.len(), &[0, 1].map(|d| (task.shape[d] as u32, stride(d))), &mut words);
    words
}

/// How many roundings a kernel's numbers may be off for its sums, which are of another order: the root of two sums over
/// 18,000 elements, off by as many roundings of an `f64` as their root at most; which other types hardly see.
pub fn roundings_of<R: Rule<C, S>, const C: usize, const S: usize>(rule: &R, dtype: Dtype) -> f64 {
    match (rule.needs_sums(), dtype) {
        (false, _) => 0.0,
        (true, Dtype::F64) => 134.0,
        (true, _) => 2.0,
    }
}

/// How far apart numbers of these bits are at most, in roundings of the largest that a step had to do with: what they are,
/// and what they were before.
pub fn roundings_apart([left, right, before]: [Vec<u64>; 3], dtype: Dtype) -> f64 {
    assert_eq!(left.len(), right.len());
    let (number, rounding): (fn(u64) -> f64, _) = match dtype {
        Dtype::F64 => (f64::from_bits, f64::EPSILON),
        Dtype::F32 => (|bits| f32::from_bits(bits as u32).into(), f32::EPSILON.into()),
        Dtype::F16 => (|bits| f16::from_bits(bits as u16).into(), f16::EPSILON.into()),
        _ => (|bits| bf16::from_bits(bits as u16).into(), bf16::EPSILON.into()),
    };
    let apart = |((left, right), before): ((u64, u64), u64)| {
        let (a, b) = (number(left), number(right));
        if left == right { 0.0 } else { (a - b).abs() / (rounding * a.abs().max(number(before).abs())) }
    };
    // A NaN beside a number stays.
    left.into_iter().zip(right).zip(before).map(apart).fold(0.0, |most, apart| if most >= apart { most } else { apart })
}

/// Compares a step under each setup.
struct Compare<'a> {
    case: &'a Case,
    host: &'a Host,
    setup: Setup,
}

impl Visitor for Compare<'_> {
    type Output = ();

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) {
        let Self { case, host, setup } = self;
        let rule = R::read(&case.options).unwrap();
        let slots = rule.live().iter().filter(|&&live| live).count();
        let before = tasks(slots, &setup);
        let (mut expected, mut found) = (before.clone(), before.clone());
        let left_out =
            setup.found_inf.is_some_and(|found| found != 0.0) || setup.clip.is_some_and(|clip| clip.skip != 0);
        if !left_out {
            setup.on_cpu(&rule, &mut expected);
        }
        let kernels = Kernels::of(case, &setup);
        setup.on_kernels(&rule, host, &kernels, &mut found);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            for k in 0..found.memory.len() {
                let dtype = [setup.types.param, setup.types.grad].get(k).copied().unwrap_or(setup.types.slot);
                let most = roundings_of(&rule, dtype);
                let bits = [found, expected, &before[i]].map(|task| task.memory[k].bits(dtype));
                let apart = roundings_apart(bits, dtype);
                assert!(
                    apart <= most,
                    "{} {}: tensor {k} of task {i} is {apart} roundings off, {setup:?}",
                    case.rule,
                    case.name
                );
            }
            if R::COUNTED && setup.variant.on_device {
                assert_eq!(found.count, expected.count, "{} {}: task {i}, {setup:?}", case.rule, case.name);
                assert_eq!(found.scalars, expected.scalars, "{} {}: task {i}, {setup:?}", case.rule, case.name);
            }
        }
        let is_changed =
            before.iter().zip(&found).any(|(before, found)| before.memory[0].words != found.memory[0].words);
        assert_eq!(is_changed, !left_out);
    }
}

/// The kernels of a step.
struct Kernels {
    begin: Kernel,
    step: Kernel,
    sums: Option<[Kernel; 2]>,
}

impl Kernels {
    fn of(case: &Case, setup: &Setup) -> Self {
        let sums = case.sums(setup.types, setup.variant);
        let wide = sums.is_some() || case.is_wide(setup.types);
        let counts = if ["lars", "lion", "prodigy", "sgd"].contains(&case.rule) {
            Counts::Given
        } else {
            Counts::OnDevice(Dtype::F32)
        };
        Self { begin: case.begin(counts, wide), step: case.step(setup.types, setup.variant), sums }
    }

    fn all(self) -> Vec<Kernel> {
        [self.begin, self.step].into_iter().chain(self.sums.into_iter().flatten()).collect()
    }
}

pub const PLAIN: Setup = Setup {
    types: TYPES[0],
    variant: Variant { unscale: false, clip_value: false, on_device: false, strided: false },
    scale: 3.0,
    found_inf: None,
    clip: None,
    grid: 3,
    shift: 1,
};

/// Every case with every type, the variants in turn; the first case in `f32` with all of them.
fn setups(rule: &str) -> Vec<(Case, Setup)> {
    let mut all = Vec::new();
    for (i, case) in cases().into_iter().filter(|case| case.rule == rule).enumerate() {
        for (j, types) in TYPES.into_iter().enumerate() {
            let variants = variants();
            let some = if i == 0 && j == 0 { variants } else { vec![variants[(5 * i + 3 * j) % 16]] };
            let on_device = |variant: Variant| variant.on_device && !is_over_all(rule);
            let some = some.into_iter().map(|variant| Variant { on_device: on_device(variant), ..variant });
            all.extend(some.map(|variant| (case.clone(), Setup { types, variant, ..PLAIN })));
        }
    }
    all
}

fn rule_is_as_on_the_cpu(rule: &str) {
    let setups = setups(rule);
    let mut all: Vec<Kernel> = setups.iter().flat_map(|(case, setup)| Kernels::of(case, setup).all()).collect();
    all.sort_by(|left, right| left.text.cmp(&right.text));
    all.dedup();
    let host = compile(rule, &all);
    let clip = |factor, skip| Some(Clip { norm: 1.0, factor, skip });
    let compare = |case: &Case, setup| rules::visit(rule, Compare { case, host: &host, setup }).unwrap();
    for (n, (case, setup)) in setups.iter().enumerate() {
        let all = [
            *setup,
            Setup { clip: clip(0.3, 0), grid: 1, shift: 0, found_inf: Some(0.0), ..*setup },
            Setup { clip: clip(0.3, 1), ..*setup },
            Setup { found_inf: Some(1.0), grid: 50, ..*setup },
        ];
        if case.sums(setup.types, setup.variant).is_some() {
            // In turn, on few blocks: their threads wait for each other, which takes long here.
            let setup = all[n % all.len()];
            compare(case, Setup { grid: setup.grid.min(3), ..setup });
        } else {
            all.into_iter().for_each(|setup| compare(case, setup));
        }
    }
}

#[test]
fn sgd_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("sgd");
}

#[test]
fn rmsprop_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("rmsprop");
}

#[test]
fn adagrad_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("adagrad");
}

#[test]
fn adam_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("adam");
}

#[test]
fn adadelta_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("adadelta");
}

#[test]
fn adamax_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("adamax");
}

#[test]
fn radam_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("radam");
}

#[test]
fn rprop_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("rprop");
}

#[test]
fn ademamix_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("ademamix");
}

#[test]
fn lamb_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("lamb");
}

#[test]
fn lars_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("lars");
}

#[test]
fn lion_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("lion");
}

#[test]
fn nadam_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("nadam");
}

#[test]
fn prodigy_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("prodigy");
}

#[test]
fn asgd_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("asgd");
}

#[test]
fn schedule_free_adamw_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("schedule_free_adamw");
}

#[test]
fn schedule_free_sgd_is_as_on_the_cpu() {
    rule_is_as_on_the_cpu("schedule_free_sgd");
}

#[test]
fn every_rule_is_compared() {
    let mut names = rules::names();
    names.sort_unstable();
    let expected = [
        "adadelta",
        "adagrad",
        "adam",
        "adamax",
        "ademamix",
        "asgd",
        "lamb",
        "lars",
        "lion",
        "nadam",
        "prodigy",
        "radam",
        "rmsprop",
        "rprop",
        "schedule_free_adamw",
        "schedule_free_sgd",
        "sgd",
    ];
    assert_eq!(names, expected);
}

struct LaunchSize(Table);

impl Visitor for LaunchSize {
    type Output = usize;

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) -> usize {
        let rule = R::read(&self.0).unwrap();
        let settings = layout::settings(&[layout::setting(&[0.0; C], 1.0, None, true)]).unwrap();
        let groups =
            layout::groups(&[layout::group([0, 0], 0.0, 1.0, None, &constants(&rule, &scalar_types::<R, C, S>()))])
                .unwrap();
        settings.len().max(groups.len())
    }
}

#[test]
fn what_comes_with_a_launch_fits_into_it() {
    // Before CUDA 12.1, and on any device older than Volta, a launch has 4 KiB; some are for pointers.
    for case in cases() {
        assert!(rules::visit(case.rule, LaunchSize(case.options)).unwrap() <= 4096 - 16 * size_of::<usize>());
    }
    let one = layout::setting(&[0.0], -1.0, None, true);
    assert_eq!(one, [0.0, -1.0, f64::INFINITY].map(f64::to_ne_bytes).concat());
    assert_eq!(layout::settings(&vec![one.clone(); layout::SETTINGS]), Some(one.repeat(layout::SETTINGS)));
    assert_eq!(layout::settings(&vec![one; layout::SETTINGS + 1]), None);
}

#[test]
fn chunks_are_of_one_task_each() {
    let chunk = |task, begin, len| layout::Chunk { task, len, begin };
    let size = layout::CHUNK;
    let (whole, long) = (size as u32, 2 * size + 1);
    let expected = [
        chunk(0, 0, 1),
        chunk(2, 0, whole),
        chunk(3, 0, whole),
        chunk(3, size as u64, whole),
        chunk(3, 2 * size as u64, 1),
    ];
    assert_eq!(chunks([1, 0, size, long]), expected);
}
