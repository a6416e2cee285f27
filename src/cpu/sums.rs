//! Steps of rules that need sums over a parameter: first a sweep that sums, then the one that updates.
#![allow(unsafe_code)]

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use super::element::{Bf16, Element, F16, Float};
use super::isa::{Isa, Kernel, Registers};
use super::lanes::load;
use super::nested::{LANES, Nested, elements, memory_of};
use super::pack::Vector;
use super::piece::{lit, run_of};
use super::sweep::{Run, Treatment, summands};
use super::threads::{Threads, in_pieces};
use crate::batch::{Setting, Step, Task};
use crate::rule::{Rule, SUMS};
use crate::tensor::{Dtype, Path};

/// Elements are summed in stretches of this many, from the first of their tensor on, whatever the threads, and the sums
/// then in order: so their bits do not depend on the threads.
const STRETCH: usize = 1 << 13;

/// Tensors of at least so many elements a thread, or one larger one, are summed and then updated before the next: what the
/// first sweep has read, the second finds in the cache if it fits.
const WINDOW: usize = 1 << 16;

/// A sum in each lane, for every sum of the rule.
type Lanes = [[f64; LANES]; SUMS];

/// The bits of the sums over a stretch.
type Bits = [AtomicU64; SUMS];

/// Runs a step, its counts written.
pub(super) fn run<R: Rule<C, S>, const C: usize, const S: usize>(
    step: &Step<R, C, S>,
    isa: Isa,
    threads: &dyn Threads,
) {
    let least = WINDOW * threads.count().max(1);
    let mut first = 0;
    while let Some(task) = step.tasks.get(first) {
        let begin = task.begin;
        let end_of = |task: &Task<S>| task.begin + task.walk.len();
        let count = step.tasks[first..].partition_point(|task| end_of(task) < begin + least);
        let last = (first + count).min(step.tasks.len() - 1);
        let window = begin..end_of(&step.tasks[last]);
        let coeffs = completed(step, first..last + 1, &window, isa, threads);
        in_pieces(window.len(), 1, threads, |piece| {
            let piece = begin + piece.start..begin + piece.end;
            // SAFETY: pieces do not overlap, so each thread alone has its elements.
            unsafe { step.run(isa, piece, Some((first, &coeffs))) };
        });
        first = last + 1;
    }
}

/// The coefficients of the tasks in these places, whose elements are the window, completed by their sums.
fn completed<R: Rule<C, S>, const C: usize, const S: usize>(
    step: &Step<R, C, S>,
    places: Range<usize>,
    window: &Range<usize>,
    isa: Isa,
    threads: &dyn Threads,
) -> Vec<[f64; C]> {
    let tasks = &step.tasks[places.clone()];
    let (sums, firsts) = stretches(step, places, window, isa, threads);
    let completed = |(task, first): (&Task<S>, usize)| {
        let Setting { group, coeffs, .. } = &step.settings[task.setting];
        let len = task.walk.len();
        if !group.rule.needs_sums() {
            return *coeffs;
        }
        group.rule.complete(*coeffs, added(&sums[first..first + len.div_ceil(STRETCH)]), len as f64)
    };
    tasks.iter().zip(firsts).map(completed).collect()
}

/// The sums over all tasks together.
pub(super) fn over_all<R: Rule<C, S>, const C: usize, const S: usize>(
    step: &Step<R, C, S>,
    isa: Isa,
    threads: &dyn Threads,
) -> [f64; SUMS] {
    added(&stretches(step, 0..step.tasks.len(), &(0..step.total), isa, threads).0)
}

/// The sums of stretches, in order.
fn added(stretches: &[Bits]) -> [f64; SUMS] {
    let sum = |k: usize| stretches.iter().map(|bits| f64::from_bits(bits[k].load(Ordering::Relaxed))).sum();
    core::array::from_fn(sum)
}

/// The sums over each stretch of the tasks in these places, whose elements are the window; and which is the first of each
/// task.
fn stretches<R: Rule<C, S>, const C: usize, const S: usize>(
    step: &Step<R, C, S>,
    places: Range<usize>,
    window: &Range<usize>,
    isa: Isa,
    threads: &dyn Threads,
) -> (Vec<Bits>, Vec<usize>) {
    let tasks = &step.tasks[places.clone()];
    let mut count = 0;
    // The first stretch of each task among all.
    let firsts: Vec<_> = (tasks.iter())
        .map(|task| {
            count += task.walk.len().div_ceil(STRETCH);
            count - task.walk.len().div_ceil(STRETCH)
        })
        .collect();
    let sums: Vec<Bits> = (0..count).map(|_| Bits::default()).collect();
    in_pieces(window.len(), 1, threads, |piece| {
        let piece = window.start + piece.start..window.start + piece.end;
        for (place, task) in step.tasks_in(&piece) {
            let Setting { group, coeffs, .. } = &step.settings[task.setting];
            if !(R::OVER_ALL || group.rule.needs_sums()) {
                continue;
            }
            let (part, len) = (task.part(&piece), task.walk.len());
            // Those that begin in the part.
            for k in part.start.div_ceil(STRETCH)..part.end.div_ceil(STRETCH) {
                let stretch = k * STRETCH..len.min((k + 1) * STRETCH);
                let mut lanes = [[0.0; LANES]; SUMS];
                // SAFETY: the stretch lies within the task, and nobody writes to that now.
                unsafe { add(step, isa, task, coeffs, stretch, &mut lanes) };
                for (bits, lanes) in sums[firsts[place - places.start] + k].iter().zip(&lanes) {
                    bits.store(lanes.iter().sum::<f64>().to_bits(), Ordering::Relaxed);
                }
            }
        }
    });
    (sums, firsts)
}

/// Adds what the elements `part` of a task sum up to.
///
/// # Safety
///
/// `part` must lie within the task, and nobody may write to it meanwhile.
unsafe fn add<R: Rule<C, S>, const C: usize, const S: usize>(
    step: &Step<R, C, S>,
    isa: Isa,
    task: &Task<S>,
    coeffs: &[f64; C],
    part: Range<usize>,
    lanes: &mut Lanes,
) {
    let group = &step.settings[task.setting].group;
    let rule = &group.rule;
    macro_rules! dense {
        ($element:ty) => {{
            let (coeffs, treatment) = (lit(coeffs), step.treatment(group));
            // SAFETY: the caller's promise, and that of the view behind the pointer.
            unsafe { isa.run(Dense { rule, coeffs, treatment, run: run_of::<$element, S>(task, &part), lanes }) }
        }};
    }
    macro_rules! nested {
        ($compute:ty, $dims:expr) => {{
            let (coeffs, treatment) = (lit::<$compute, C>(coeffs), step.treatment(group));
            // SAFETY: as above.
            unsafe { isa.run(Apart { rule, coeffs, treatment, nested: memory_of(task, $dims), part, lanes }) }
        }};
    }
    match (task.walk.path(), task.walk.dtypes().param) {
        (Path::Dense, Dtype::F32) => dense!(f32),
        (Path::Dense, Dtype::F64) => dense!(f64),
        (Path::Dense, Dtype::F16) => dense!(F16),
        (Path::Dense, Dtype::Bf16) => dense!(Bf16),
        (Path::Nested(dims), _) if task.is_wide() => nested!(f64, dims),
        (Path::Nested(dims), _) => nested!(f32, dims),
        // A walk knows parts alone, and of the types above.
        (Path::Dense, Dtype::C64 | Dtype::C128 | Dtype::OtherFloat | Dtype::NoFloat) => {}
    }
}

/// The elements of a run, to be summed up in `lanes`.
struct Dense<'a, E: Element, R, const C: usize, const S: usize> {
    rule: &'a R,
    coeffs: [E::Compute; C],
    treatment: Treatment<E::Compute>,
    run: Run<E, S>,
    lanes: &'a mut Lanes,
}

impl<E: Element, R: Rule<C, S>, const C: usize, const S: usize> Kernel for Dense<'_, E, R, C, S> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let Self { rule, coeffs, treatment, run, lanes } = self;
        // Not through the reference: each block would wait for the last one's sums to come back from memory.
        let mut own = *lanes;
        let mut at = 0;
        // SAFETY: the caller's promise; `at + count <= len` for each block.
        unsafe {
            while run.len - at >= LANES {
                let (param, grad, slots) = block::<E, <E::Compute as Float>::In16<G>, S>(&run, at, LANES);
                sum_up(&mut own, summands(rule, coeffs, treatment, param, grad, slots), LANES);
                at += LANES;
            }
            if at < run.len {
                let (param, grad, slots) = block::<E, <E::Compute as Float>::In16<G>, S>(&run, at, run.len - at);
                sum_up(&mut own, summands(rule, coeffs, treatment, param, grad, slots), run.len - at);
            }
        }
        *lanes = own;
    }
}

/// The `count` elements from `at`, each in a lane of its own, which `load_vector` does not promise for all types.
///
/// # Safety
///
/// They must be there.
#[inline(always)]
unsafe fn block<E: Element, V: Vector<E::Compute, LANES>, const S: usize>(
    run: &Run<E, S>,
    at: usize,
    count: usize,
) -> (V, V, [V; S]) {
    let mut slots = [V::lit(0.0); S];
    // SAFETY: the caller's promise.
    unsafe {
        for (slot, from) in slots.iter_mut().zip(run.slots) {
            if let Some(from) = from {
                *slot = V::from_lanes(load(from.add(at), count));
            }
        }
        (V::from_lanes(load(run.param.add(at), count)), V::from_lanes(load(run.grad.add(at), count)), slots)
    }
}

/// The elements `part`, counted along the dims, to be summed up in `lanes`.
struct Apart<'a, T, R, const C: usize, const S: usize> {
    rule: &'a R,
    coeffs: [T; C],
    treatment: Treatment<T>,
    nested: Nested<'a, S>,
    part: Range<usize>,
    lanes: &'a mut Lanes,
}

impl<T: Float, R: Rule<C, S>, const C: usize, const S: usize> Kernel for Apart<'_, T, R, C, S> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let Self { rule, coeffs, treatment, nested, part, lanes } = self;
        // SAFETY: the caller's promise.
        unsafe {
            elements::<T, T::In16<G>, S>(&nested, part, |param, grad, slots, count| {
                sum_up(lanes, summands(rule, coeffs, treatment, param, grad, slots), count);
            });
        }
    }
}

/// Adds the first `count` products to the lanes that they are of.
#[inline(always)]
fn sum_up<T: Float, V: Vector<T, LANES>>(lanes: &mut Lanes, summands: [[V; 2]; SUMS], count: usize) {
    for (sums, [left, right]) in lanes.iter_mut().zip(summands) {
        let (left, right) = (left.lanes(), right.lanes());
        if count == LANES {
            for lane in 0..LANES {
                sums[lane] = left[lane].to_f64().mul_add(right[lane].to_f64(), sums[lane]);
            }
        } else {
            for lane in 0..count {
                sums[lane] = left[lane].to_f64().mul_add(right[lane].to_f64(), sums[lane]);
            }
        }
    }
}
