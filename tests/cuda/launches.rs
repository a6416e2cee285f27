//! Whole steps by the driver, on a device whose memory is the host's, against the CPU's.

use std::sync::Arc;

use torchpace::batch::{Clip, DeviceNumber, Group, Nonfinite};
use torchpace::cpu::Spawned;
use torchpace::cuda::device::Stream;
use torchpace::cuda::gpu::Gpu;
use torchpace::cuda::launch::{Call, Memory as DeviceMemory, Norm, Work};
use torchpace::cuda::source::Variant;
use torchpace::error::Error;
use torchpace::rule::Rule;
use torchpace::rules::{self, Adam, Sgd, Visitor};
use torchpace::tensor::{Device, Dtype, Walk};

use crate::cases::{Case, TYPES, cases, is_over_all};
use crate::device::{Event, HostDevice, PROCESSORS, RESIDENT, failure, gpu};
use crate::steps::{LR, Memory, PLAIN, Setup, Task, roundings_apart, roundings_of, tasks};

const GPU: Device = Device::Cuda(0);
const STREAM: Stream = Stream(7);
const CALL: Call = Call { stream: STREAM, grad_scale: None, found_inf: None, norm: Norm::Unwanted };

/// Memory of the "device", full of what must not matter.
#[derive(Clone)]
struct Words(Arc<Vec<u128>>);

impl Words {
    fn new(bytes: usize) -> Self {
        Self(Arc::new(vec![u128::MAX; bytes.div_ceil(16)]))
    }
}

impl DeviceMemory for Words {
    fn at(&self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }
}

/// An optimizer on the GPU.
struct OnGpu<R, const S: usize> {
    work: Work<Words, R, S>,
    walks: Vec<Option<Arc<Walk<S>>>>,
    /// What steps were given, which a graph keeps.
    given: Vec<Words>,
}

impl<R, const S: usize> OnGpu<R, S> {
    fn new() -> Self {
        Self { work: Work::new(), walks: Vec::new(), given: Vec::new() }
    }

    /// A step, as a face makes it; and how many bytes it asked for.
    fn step<const C: usize>(
        &mut self,
        gpu: &Gpu,
        setup: &Setup,
        groups: &[Group<R>],
        tasks: &mut [Task],
        (call, on_device): (&Call, bool),
    ) -> Result<Option<usize>, Error>
    where
        R: Rule<C, S>,
    {
        self.work.forget_captured();
        let ready = setup.collect(groups, tasks, &mut self.walks, (GPU, on_device));
        let lacking = self.work.prepare(gpu, &ready, call)?;
        if let Some(bytes) = lacking {
            self.given.push(Words::new(bytes));
            self.work.give(gpu, call.stream, self.given[self.given.len() - 1].clone(), bytes)?;
            assert_eq!(self.work.prepare(gpu, &ready, call)?, None);
        }
        // SAFETY: all memory is the host's and lives until the end.
        unsafe { self.work.run(gpu, ready, call)? };
        Ok(lacking)
    }
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value).expose_provenance() as u64
}

fn assert_same(found: &[Task], expected: &[Task], setup: &Setup, what: &str) {
    assert_close([found, expected, expected], setup, what, 0.0);
}

/// That all numbers are so many roundings apart at most, of what they are or were before.
fn assert_close([found, expected, before]: [&[Task]; 3], setup: &Setup, what: &str, most: f64) {
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        for k in 0..found.memory.len() {
            let dtype = [setup.types.param, setup.types.grad].get(k).copied().unwrap_or(setup.types.slot);
            let bits = [found, expected, &before[i]].map(|task| task.memory[k].bits(dtype));
            let apart = roundings_apart(bits, dtype);
            assert!(apart <= most, "{what}: tensor {k} of task {i} is {apart} roundings off, {setup:?}");
        }
        assert_eq!((found.count, found.scalars), (expected.count, expected.scalars), "{what}: task {i}");
    }
}

fn rule<R: Rule<C, S>, const C: usize, const S: usize>(name: &str, case: &str) -> R {
    let all = cases();
    R::read(&all.iter().find(|each| (each.rule, each.name) == (name, case)).unwrap().options).unwrap()
}

/// Three steps of a case, by the counts of the host, of the device, and with a learning rate there.
struct Compare<'a>(&'a Case, Setup);

impl Visitor for Compare<'_> {
    type Output = ();

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) {
        let Self(case, setup) = self;
        let (_, gpu) = gpu();
        let rule = R::read(&case.options).unwrap();
        let slots = rule.live().iter().filter(|&&live| live).count();
        let (scale, lr, wide_lr) = (setup.scale, LR[1] as f32, LR[0]);
        // The rest is for devices that make settings.
        for mode in 0..if R::OVER_ALL { 1 } else { 3 } {
            let mut groups = setup.groups(&rule);
            if mode == 2 {
                // As the kernel sees it.
                groups[1].lr = f64::from(lr);
            }
            let (mut expected, mut found) = (tasks(slots, &setup), tasks(slots, &setup));
            let mut on_gpu_groups = groups.clone();
            if mode == 2 {
                on_gpu_groups[0].lr_at = Some(DeviceNumber { at: address(&wide_lr), dtype: Dtype::F64 });
                on_gpu_groups[1].lr_at = Some(DeviceNumber { at: address(&lr), dtype: Dtype::F32 });
            }
            let call = Call { grad_scale: setup.variant.unscale.then(|| address(&scale)), ..CALL };
            let mut on_gpu = OnGpu::new();
            // Blocks whose threads wait for each other take long here.
            let steps = if rule.needs_sums() { 2 } else { 3 };
            for step in 0..steps {
                let before = expected.clone();
                setup.collect(&groups, &mut expected, &mut Vec::new(), (Device::Cpu, false)).run(&Spawned(1));
                // Scalars are where the learning rate is.
                let on_device = mode == 1 || mode == 2 && R::HAS_SCALARS;
                on_gpu.step(&gpu, &setup, &on_gpu_groups, &mut found, (&call, on_device)).unwrap();
                // What comes of sums is the next step's.
                let most = 2.0 * roundings_of(&rule, setup.types.param);
                let what = format!("{} {}, mode {mode}, step {step}", case.rule, case.name);
                assert_close([&found, &expected, &before], &setup, &what, most);
                if !R::COUNTED {
                    expected.iter_mut().chain(&mut found).for_each(|task| task.count = 1.0);
                }
            }
        }
    }
}

#[test]
fn steps_are_those_of_the_cpu() {
    for (i, case) in cases().iter().enumerate() {
        let bit = |k: usize| i >> k & 1 == 1;
        let variant = Variant { unscale: bit(0), clip_value: bit(1), on_device: false, strided: bit(2) };
        // Each with one of the types.
        let setup = Setup { types: TYPES[i % TYPES.len()], variant, ..PLAIN };
        rules::visit(case.rule, Compare(case, setup)).unwrap();
    }
}

/// Sums over all tasks, told to the rule, and a step by them: of some types, aligned and not.
struct OverAll<'a>(&'a Case);

impl Visitor for OverAll<'_> {
    type Output = ();

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) {
        let Self(case) = self;
        assert!(R::OVER_ALL);
        let rule = R::read(&case.options).unwrap();
        let slots = rule.live().iter().filter(|&&live| live).count();
        for (k, types) in TYPES.into_iter().enumerate() {
            let bit = |shift: usize| k >> shift & 1 == 1;
            let variant = Variant { unscale: bit(0), clip_value: bit(1), on_device: false, strided: bit(2) };
            let setup = Setup { types, variant, ..PLAIN };
            let (_, gpu) = gpu();
            let scale = setup.scale;
            let call = Call { grad_scale: variant.unscale.then(|| address(&scale)), ..CALL };
            let groups = setup.groups(&rule);
            // Those whose gradients are numbers.
            let mut found = [1, 4].map(|i| tasks(slots, &setup)[i].clone());
            let mut expected = found.clone();
            let mut on_cpu = setup.collect(&groups, &mut expected, &mut Vec::new(), (Device::Cpu, false));
            let told = on_cpu.sums(&Spawned(1));
            let learned = on_cpu.learn(told);
            on_cpu.run(&Spawned(1));
            let mut on_gpu = OnGpu::new();
            let mut ready = setup.collect(&groups, &mut found, &mut on_gpu.walks, (GPU, false));
            if let Some(bytes) = on_gpu.work.prepare(&gpu, &ready, &call).unwrap() {
                on_gpu.work.give(&gpu, STREAM, Words::new(bytes), bytes).unwrap();
                assert_eq!(on_gpu.work.prepare(&gpu, &ready, &call).unwrap(), None);
            }
            // SAFETY: all memory is the host's and lives until the end.
            let sums = unsafe { on_gpu.work.sums(&gpu, &ready, &call) }.unwrap();
            for (sum, told) in sums.into_iter().zip(told) {
                assert!(told != 0.0 && (sum - told).abs() <= 1e-12 * told.abs(), "{sum} {told} {setup:?}");
            }
            assert_eq!(ready.learn(told), learned);
            // SAFETY: as above.
            unsafe { on_gpu.work.run(&gpu, ready, &call) }.unwrap();
            assert_same(&found, &expected, &setup, case.name);
        }
    }
}

#[test]
fn sums_over_all_are_those_of_the_cpu() {
    for case in cases().iter().filter(|case| is_over_all(case.rule)) {
        rules::visit(case.rule, OverAll(case)).unwrap();
    }
}

fn adam() -> Adam {
    rule("adam", "plain")
}

/// The launches of a second step are these.
fn names(device: &HostDevice) -> Vec<String> {
    device.launches().into_iter().map(|launch| launch.0).collect()
}

#[test]
fn what_has_not_changed_is_not_written_again() {
    let (device, gpu) = gpu();
    let (groups, mut all) = (PLAIN.groups(&adam()), tasks(2, &PLAIN));
    let mut on_gpu = OnGpu::new();
    let bytes = on_gpu.step(&gpu, &PLAIN, &groups, &mut all, (&CALL, false)).unwrap();
    assert!(bytes.is_some());
    assert_eq!(names(&device), ["torchpace_write", "torchpace_chunks", "torchpace_adam_step"]);
    let mut step = |all: &mut Vec<Task>| {
        let lacking = on_gpu.step(&gpu, &PLAIN, &groups, all, (&CALL, false)).unwrap();
        (names(&device), lacking)
    };
    assert_eq!(step(&mut all), (vec!["torchpace_adam_step".to_owned()], None));
    // Other gradients: their pointers are written.
    for task in &mut all {
        task.memory[1] = task.memory[1].clone();
    }
    assert_eq!(step(&mut all), (vec!["torchpace_write".to_owned(), "torchpace_adam_step".to_owned()], None));
    // Less memory is needed, and the buffer does.
    all.pop();
    let expected = ["torchpace_write", "torchpace_chunks", "torchpace_adam_step"].map(str::to_owned);
    assert_eq!(step(&mut all), (expected.to_vec(), None));
}

#[test]
fn the_grid_is_no_larger_than_the_device() {
    let (device, gpu) = gpu();
    let mut many = Vec::new();
    for _ in 0..4 {
        many.extend(tasks(2, &PLAIN));
    }
    OnGpu::new().step(&gpu, &PLAIN, &PLAIN.groups(&adam()), &mut many, (&CALL, false)).unwrap();
    for (name, grid) in device.launches() {
        // 4 times 6 tasks, of which one is empty and one has two chunks.
        let expected = if name == "torchpace_write" { 1 } else { PROCESSORS * RESIDENT };
        assert_eq!(grid, expected, "{name}");
    }
}

#[test]
fn many_settings_and_groups_are_several_launches() {
    let (device, gpu) = gpu();
    for (on_device, count, launches) in [(false, 70, 3), (true, 40, 3)] {
        let groups: Vec<_> = (0..count).map(|k| Group::new(adam(), 0.01 * (1.0 + k as f64))).collect();
        let task = |group| Task { group, ..tasks(2, &PLAIN)[1].clone() };
        let mut found: Vec<_> = (0..count).map(task).collect();
        let mut expected = found.clone();
        let mut on_gpu = OnGpu::new();
        for _ in 0..2 {
            PLAIN.collect(&groups, &mut expected, &mut Vec::new(), (Device::Cpu, false)).run(&Spawned(1));
            on_gpu.step(&gpu, &PLAIN, &groups, &mut found, (&CALL, on_device)).unwrap();
            assert_same(&found, &expected, &PLAIN, "many");
        }
        let steps = names(&device).iter().filter(|name| *name == "torchpace_adam_step").count();
        assert_eq!(steps, 2 * launches);
    }
}

fn on_cpu<R: Rule<C, S>, const C: usize, const S: usize>(setup: &Setup, groups: &[Group<R>], tasks: &mut [Task]) {
    setup.collect(groups, tasks, &mut Vec::new(), (Device::Cpu, false)).run(&Spawned(1));
}

#[test]
fn a_graph_owns_what_its_launches_read() {
    let (device, gpu) = gpu();
    let groups = PLAIN.groups(&adam());
    let (mut expected, mut found) = (tasks(2, &PLAIN), tasks(2, &PLAIN));
    let mut on_gpu = OnGpu::new();
    on_gpu.step(&gpu, &PLAIN, &groups, &mut found, (&CALL, true)).unwrap();
    on_cpu(&PLAIN, &groups, &mut expected);
    device.events();
    device.capture(true);
    let lacking = on_gpu.step(&gpu, &PLAIN, &groups, &mut found, (&CALL, true)).unwrap();
    device.capture(false);
    assert!(lacking.is_some(), "the graph has memory of its own");
    let expected_names = ["torchpace_write", "torchpace_chunks", "torchpace_adam_begin", "torchpace_adam_step"];
    assert_eq!(names(&device), expected_names);
    assert_same(&found, &expected, &PLAIN, "captured, not run");
    for _ in 0..3 {
        device.replay();
        on_cpu(&PLAIN, &groups, &mut expected);
        assert_same(&found, &expected, &PLAIN, "replayed");
        // An eager step whose gradients lie elsewhere and are others, and the graph's again.
        let turned =
            |task: &Task| Memory { words: task.memory[1].words.iter().rev().copied().collect(), ..task.memory[1] };
        let swap = |tasks: &mut [Task], other: Vec<Memory>| -> Vec<Memory> {
            tasks.iter_mut().zip(other).map(|(task, other)| std::mem::replace(&mut task.memory[1], other)).collect()
        };
        let other: Vec<_> = found.iter().map(turned).collect();
        let (of_graph, of_cpu) = (swap(&mut found, other.clone()), swap(&mut expected, other));
        on_gpu.step(&gpu, &PLAIN, &groups, &mut found, (&CALL, true)).unwrap();
        on_cpu(&PLAIN, &groups, &mut expected);
        assert_same(&found, &expected, &PLAIN, "eager in between");
        swap(&mut found, of_graph);
        swap(&mut expected, of_cpu);
    }
}

/// Gradients that are whole numbers, so that the order of a sum does not matter.
fn whole(tasks: &mut [Task]) {
    for (i, task) in tasks.iter_mut().enumerate() {
        let len = (task.shape[0] * task.shape[1]) as usize;
        let values: Vec<_> = (0..len).map(|k| ((k + i) % 7) as f64 - 3.0).collect();
        let shift = task.memory[1].shift / 4;
        task.memory[1] = Memory::of(&values, Dtype::F32, shift);
    }
}

const CLIP: Clip = Clip { max_norm: Some(2.0), nonfinite: Nonfinite::Skip, ..Clip::OFF };

#[test]
fn the_device_clips_like_the_host() {
    let (device, gpu) = gpu();
    let groups = PLAIN.groups(&adam());
    let (mut expected, mut found) = (tasks(2, &PLAIN), tasks(2, &PLAIN));
    whole(&mut expected);
    whole(&mut found);
    let (mut on_gpu, told, scale) = (OnGpu::new(), [9.0_f32; 2], 4.0_f32);
    let call = Call { norm: Norm::OnDevice(CLIP, Some(address(&told))), ..CALL };
    let of_host = Call { norm: Norm::ForHost, ..CALL };
    let scaled = Call { grad_scale: Some(address(&scale)), ..of_host };
    for step in 0..3 {
        let mut ready = PLAIN.collect(&groups, &mut expected, &mut Vec::new(), (Device::Cpu, false));
        let norm_on_cpu = ready.grad_norm(&Spawned(1));
        ready.scale_grads(CLIP.factor(norm_on_cpu).unwrap().unwrap());
        ready.run(&Spawned(1));
        if step < 2 {
            on_gpu.step(&gpu, &PLAIN, &groups, &mut found, (&call, true)).unwrap();
            // SAFETY: numbers of this function, which the kernel wrote.
            assert_eq!(unsafe { std::ptr::read_volatile(&raw const told) }, [norm_on_cpu as f32, 0.0]);
        } else {
            // The host asks, and says what the factor is.
            let mut ready = PLAIN.collect(&groups, &mut found, &mut on_gpu.walks, (GPU, true));
            assert_eq!(on_gpu.work.prepare(&gpu, &ready, &of_host).unwrap(), None);
            // SAFETY: all memory is the host's and lives until the end.
            unsafe {
                assert_eq!(on_gpu.work.norm(&gpu, &ready, &of_host).unwrap(), norm_on_cpu);
                ready.scale_grads(CLIP.factor(norm_on_cpu).unwrap().unwrap());
                on_gpu.work.run(&gpu, ready, &of_host).unwrap();
            }
            assert!(device.events().contains(&Event::Read(24)));
        }
        assert_same(&found, &expected, &PLAIN, "clipped");
    }
    let ready = PLAIN.collect(&groups, &mut found, &mut on_gpu.walks, (GPU, true));
    assert!(on_gpu.work.prepare(&gpu, &ready, &scaled).unwrap().is_none());
    // SAFETY: as above.
    let quarter = unsafe { on_gpu.work.norm(&gpu, &ready, &scaled).unwrap() };
    assert_eq!(quarter as f32, told[0] / 4.0);
    device.capture(true);
    // SAFETY: as above.
    let captured = unsafe { on_gpu.work.norm(&gpu, &ready, &of_host) };
    assert!(matches!(captured, Err(Error::Captured { .. })), "{captured:?}");
    assert_eq!(device.launches().iter().filter(|launch| launch.0 == "torchpace_fold").count(), 1);
}

#[test]
fn what_the_device_leaves_out_changes_nothing() {
    let (_, gpu) = gpu();
    let groups = PLAIN.groups(&adam());
    let before = {
        let mut before = tasks(2, &PLAIN);
        whole(&mut before);
        before
    };
    let mut found = before.clone();
    let (mut on_gpu, found_inf, none) = (OnGpu::new(), 1.0_f32, 0.0_f32);
    let left_out = Call { found_inf: Some(address(&found_inf)), ..CALL };
    on_gpu.step(&gpu, &PLAIN, &groups, &mut found, (&left_out, true)).unwrap();
    assert_same(&found, &before, &PLAIN, "found_inf");
    found[1].memory[1] = Memory::of(&[f64::INFINITY; 15], Dtype::F32, 0);
    let before = found.clone();
    let skipped = Call { norm: Norm::OnDevice(CLIP, None), found_inf: Some(address(&none)), ..CALL };
    on_gpu.step(&gpu, &PLAIN, &groups, &mut found, (&skipped, true)).unwrap();
    assert_same(&found, &before, &PLAIN, "skipped");
    for (found, skip_norm) in [(3.0, 2.5), (f64::NAN, 2.5), (f64::NAN, f64::INFINITY), (f64::INFINITY, 1e300)] {
        let (mut tasks, told) = (before.clone(), [9.0_f32; 2]);
        tasks[1].memory[1] = Memory::of(&[found; 15], Dtype::F32, 0);
        let before = tasks.clone();
        let above = Clip { skip_norm: Some(skip_norm), ..Clip::OFF };
        let call = Call { norm: Norm::OnDevice(above, Some(address(&told))), ..CALL };
        OnGpu::new().step(&gpu, &PLAIN, &groups, &mut tasks, (&call, true)).unwrap();
        assert_same(&tasks, &before, &PLAIN, "above");
        // SAFETY: numbers of this function, which the kernel wrote.
        let [norm, skipped] = unsafe { std::ptr::read_volatile(&raw const told) };
        assert_eq!((norm.is_finite(), skipped), (found.is_finite(), 1.0));
    }
    let propagated = Clip { nonfinite: Nonfinite::Propagate, ..CLIP };
    let call = Call { norm: Norm::OnDevice(propagated, None), ..CALL };
    on_gpu.step(&gpu, &PLAIN, &groups, &mut found, (&call, true)).unwrap();
    assert!(found[0].count > before[0].count);
}

#[test]
fn a_failed_launch_leaves_the_work_usable() {
    let (device, gpu) = gpu();
    let groups = PLAIN.groups(&adam());
    let (mut expected, mut found) = (tasks(2, &PLAIN), tasks(2, &PLAIN));
    let mut on_gpu = OnGpu::new();
    // The words, the chunks, the counts: none of them touches a parameter.
    for launches in 0..3 {
        device.fail_after(launches);
        let failed = on_gpu.step(&gpu, &PLAIN, &groups, &mut found, (&CALL, false));
        assert_eq!(failed, Err(failure()));
        assert_same(&found, &expected, &PLAIN, "failed");
    }
    on_gpu.step(&gpu, &PLAIN, &groups, &mut found, (&CALL, false)).unwrap();
    on_cpu(&PLAIN, &groups, &mut expected);
    assert_same(&found, &expected, &PLAIN, "after a failure");
}

#[test]
fn another_stream_has_memory_of_its_own() {
    let (device, gpu) = gpu();
    let (groups, mut all) = (PLAIN.groups(&adam()), tasks(2, &PLAIN));
    let mut on_gpu = OnGpu::new();
    let other = Call { stream: Stream(8), ..CALL };
    for (call, lacks) in [(CALL, true), (CALL, false), (other, true), (other, false), (CALL, true)] {
        let lacking = on_gpu.step(&gpu, &PLAIN, &groups, &mut all, (&call, false)).unwrap();
        assert_eq!(lacking.is_some(), lacks);
        assert!(device.events().iter().all(|event| match event {
            Event::Launch { stream, .. } => *stream == call.stream,
            Event::Load(_) | Event::Read(_) => true,
        }));
    }
    let ready = PLAIN.collect(&groups, &mut all, &mut on_gpu.walks, (GPU, false));
    // SAFETY: it must not run.
    let unprepared = unsafe { on_gpu.work.run(&gpu, ready, &other) };
    assert!(matches!(unprepared, Err(Error::Unprepared)));
}

#[test]
fn sgd_that_begins_is_told_so() {
    let (_, gpu) = gpu();
    let rule: Sgd = rule("sgd", "momentum");
    let mut groups = PLAIN.groups(&rule);
    let lr = LR[0];
    groups[0].lr_at = Some(DeviceNumber { at: address(&lr), dtype: Dtype::F64 });
    let zeros = |tasks: &mut [Task]| {
        for task in tasks {
            task.memory[2].words.fill(0);
            task.count = 0.0;
        }
    };
    let (mut expected, mut found) = (tasks(1, &PLAIN), tasks(1, &PLAIN));
    zeros(&mut expected);
    zeros(&mut found);
    let mut on_gpu = OnGpu::new();
    for _ in 0..2 {
        on_cpu(&PLAIN, &groups, &mut expected);
        on_gpu.step(&gpu, &PLAIN, &groups, &mut found, (&CALL, false)).unwrap();
        assert_same(&found, &expected, &PLAIN, "damped");
        expected.iter_mut().chain(&mut found).for_each(|task| task.count = 1.0);
    }
}
