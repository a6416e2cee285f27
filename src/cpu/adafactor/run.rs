//! A collected step run.
#![allow(unsafe_code)]

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use super::super::element::{Bf16, Element, F16};
use super::super::isa::Isa;
use super::super::nested::LANES;
use super::super::threads::{Threads, in_pieces};
use super::collect::{Adafactor, Task};
use super::grid::{Grid, Tile, stretch};
use super::kernel::{Memory, get};
use super::matrices::{Factors, Size, Squares, Update};
use super::means::{Means, Scratch};
use super::narrow::Narrow;
use super::vectors::{self, Sizes, Stretch};
use crate::tensor::Dtype;

/// Tensors of at least so many elements a thread, or one larger one, go through all sweeps before the next: what the first
/// has read, the others find in the cache if it fits.
const WINDOW: usize = 1 << 16;

/// What a sweep does.
#[derive(Clone, Copy)]
enum Sweep<'a> {
    /// Sums of squares.
    Sum,
    /// Means of rows and columns.
    Means,
    /// Sums of squares of the updates.
    Size,
    /// Steps by the tasks' scales.
    Step(&'a [f64]),
}

/// Some tasks, and where their sums are.
struct Window<'a> {
    tasks: &'a [Task],
    /// For each task the places of its first tile among those of all, and of its first sums of rows and columns.
    firsts: Vec<[usize; 3]>,
    of_params: Vec<AtomicU64>,
    of_updates: Vec<AtomicU64>,
    rows: Vec<AtomicU64>,
    columns: Vec<AtomicU64>,
    unscale: Option<f64>,
    isa: Isa,
}

impl Adafactor<'_> {
    /// Runs the step. The bits do not depend on the number of threads.
    pub fn run(&self, threads: &dyn Threads) {
        self.run_on(Isa::best(), threads);
    }

    /// [`run`](Self::run) with a chosen instruction set, for tests.
    pub fn run_on(&self, isa: Isa, threads: &dyn Threads) {
        // SAFETY: the view behind a count is borrowed, and nothing else runs yet.
        self.counts.iter().for_each(|count| unsafe { count.write() });
        let least = WINDOW * threads.count().max(1);
        let mut rest = &self.tasks[..];
        while let Some(first) = rest.first() {
            let count = rest.partition_point(|task| task.begin + task.len < first.begin + least);
            let (some, others) = rest.split_at((count + 1).min(rest.len()));
            Window::of(some, self.unscale, isa).run(threads);
            rest = others;
        }
    }
}

impl<'a> Window<'a> {
    fn of(tasks: &'a [Task], unscale: Option<f64>, isa: Isa) -> Self {
        let mut next = [0; 3];
        let firsts = (tasks.iter())
            .map(|task| {
                let sums = task.grid.as_ref().map_or([0; 2], |grid| [grid.row_sums(), grid.column_sums()]);
                let before = next;
                next = [next[0] + task.tiles(), next[1] + sums[0], next[2] + sums[1]];
                before
            })
            .collect();
        let some = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let (of_params, of_updates) = (some(next[0]), some(next[0]));
        Self { tasks, firsts, of_params, of_updates, rows: some(next[1]), columns: some(next[2]), unscale, isa }
    }

    fn run(&self, threads: &dyn Threads) {
        self.sweep(Sweep::Sum, threads);
        if self.tasks.iter().any(|task| task.grid.is_some()) {
            self.sweep(Sweep::Means, threads);
            self.sweep(Sweep::Size, threads);
        }
        let scales: Vec<_> = (0..self.tasks.len()).map(|place| self.scale(place)).collect();
        self.sweep(Sweep::Step(&scales), threads);
    }

    /// Each tile, or for `Means` each matrix, once.
    fn sweep(&self, sweep: Sweep<'_>, threads: &dyn Threads) {
        let (Some(first), Some(last)) = (self.tasks.first(), self.tasks.last()) else { return };
        let begin = first.begin;
        in_pieces(last.begin + last.len - begin, 1, threads, |piece| {
            let piece = begin + piece.start..begin + piece.end;
            let from = self.tasks.partition_point(|task| task.begin + task.len <= piece.start);
            for (place, task) in self.tasks.iter().enumerate().skip(from) {
                if task.begin >= piece.end {
                    break;
                }
                let units = match (sweep, &task.grid) {
                    (Sweep::Means, Some(grid)) => grid.count,
                    (Sweep::Means | Sweep::Size, None) => continue,
                    _ => task.tiles(),
                };
                let share = share(task, &piece, units);
                // SAFETY: pieces share no unit of a task, so each thread alone has what it writes to; what it reads was
                // written by the sweeps before.
                unsafe {
                    match task.dtype {
                        Dtype::F32 => self.part::<f32>(sweep, place, task, share),
                        Dtype::F64 => self.part::<f64>(sweep, place, task, share),
                        Dtype::F16 => self.part::<F16>(sweep, place, task, share),
                        Dtype::Bf16 => self.part::<Bf16>(sweep, place, task, share),
                        // Types that are refused.
                        Dtype::C64 | Dtype::C128 | Dtype::OtherFloat | Dtype::NoFloat => {}
                    }
                }
            }
        });
    }

    /// Some tiles or matrices of a task.
    ///
    /// # Safety
    ///
    /// The task must be of this type, and nobody else may use what is written.
    unsafe fn part<E: Element>(&self, sweep: Sweep<'_>, place: usize, task: &Task, share: Range<usize>) {
        let Some(grid) = task.grid else {
            // SAFETY: the caller's promise.
            return share.for_each(|k| unsafe { self.stretch::<E>(sweep, place, task, k) });
        };
        let [_, row, column] = self.firsts[place];
        let scratch = Scratch { rows: &self.rows[row..], columns: &self.columns[column..] };
        if matches!(sweep, Sweep::Means) {
            let (row_var, col_var) = (task.first.cast::<E>(), task.second.cast());
            let (new, eps1) = (task.coeffs.new, task.coeffs.eps1);
            let means = Means { row_var, col_var, grid, matrices: share, scratch, new, eps1 };
            // SAFETY: the caller's promise, and that of the views behind the pointers.
            return unsafe { self.isa.run(means) };
        }
        for k in share {
            // SAFETY: as above.
            unsafe { self.tile::<E>(sweep, place, (grid, grid.tile(k), k), scratch) };
        }
    }

    /// # Safety
    ///
    /// As for `part`.
    unsafe fn tile<E: Element>(
        &self,
        sweep: Sweep<'_>,
        place: usize,
        (grid, tile, k): (Grid, Tile, usize),
        scratch: Scratch<'_>,
    ) {
        let (task, at) = (&self.tasks[place], self.firsts[place][0] + k);
        let (memory, eps1) = (Memory::<E>::of(task, self.unscale), task.coeffs.eps1);
        let is_narrow = grid.columns < LANES;
        // SAFETY: the caller's promise, and that of the views behind the pointers.
        unsafe {
            match sweep {
                Sweep::Sum => {
                    let work = Squares { memory, grid, tile, scratch, squares: &self.of_params[at] };
                    if is_narrow { self.isa.run(Narrow(work)) } else { self.isa.run(work) }
                }
                Sweep::Means => {}
                Sweep::Size => {
                    let factors = Factors { memory, grid, tile, scratch, eps1 };
                    let work = Size { factors, squares: &self.of_updates[at] };
                    if is_narrow { self.isa.run(Narrow(work)) } else { self.isa.run(work) }
                }
                Sweep::Step(scales) => {
                    let factors = Factors { memory, grid, tile, scratch, eps1 };
                    let work = Update { factors, decay: task.coeffs.decay, scale: scales[place] };
                    if is_narrow { self.isa.run(Narrow(work)) } else { self.isa.run(work) }
                }
            }
        }
    }

    /// # Safety
    ///
    /// As for `part`.
    unsafe fn stretch<E: Element>(&self, sweep: Sweep<'_>, place: usize, task: &Task, k: usize) {
        let at = self.firsts[place][0] + k;
        let (memory, part) = (Memory::of(task, self.unscale), stretch(task.len, k));
        let (new, eps1) = (task.coeffs.new, task.coeffs.eps1);
        let stretch = Stretch::<E> { memory, variance: task.first.cast(), part, new, eps1 };
        // SAFETY: the caller's promise, and that of the views behind the pointers.
        unsafe {
            match sweep {
                Sweep::Sum => {
                    let (of_param, of_update) = (&self.of_params[at], &self.of_updates[at]);
                    self.isa.run(Sizes { stretch, of_param, of_update });
                }
                Sweep::Means | Sweep::Size => {}
                Sweep::Step(scales) => {
                    let (decay, scale) = (task.coeffs.decay, scales[place]);
                    self.isa.run(vectors::Update { stretch, decay, scale });
                }
            }
        }
    }

    /// What a task's update is multiplied by.
    fn scale(&self, place: usize) -> f64 {
        let task = &self.tasks[place];
        let first = self.firsts[place][0];
        let tiles = first..first + task.tiles();
        let size = |sums: &[AtomicU64]| (sums.iter().map(get).sum::<f64>() / task.len as f64).sqrt();
        let (param, update) = (size(&self.of_params[tiles.clone()]), size(&self.of_updates[tiles]));
        // As Python's `max`, which takes the first one over a NaN.
        let largest = |one: f64, other: f64| if other > one { other } else { one };
        let coeffs = &task.coeffs;
        -largest(coeffs.eps2, param) * coeffs.rate / largest(1.0, update / coeffs.d)
    }
}

/// Of `units` equal shares of a task those that begin in `piece` of all elements.
fn share(task: &Task, piece: &Range<usize>, units: usize) -> Range<usize> {
    let first = |element: usize| match element.saturating_sub(task.begin) {
        0 => 0,
        own if own >= task.len => units,
        own => (own as u128 * units as u128).div_ceil(task.len as u128) as usize,
    };
    first(piece.start)..first(piece.end)
}

#[cfg(test)]
mod tests {
    use super::super::operand::{Moments, Numbers, Operand};
    use super::*;
    use crate::cpu::Spawned;
    use crate::tensor::{Device, View};
    use proptest::prelude::*;

    fn numbers(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0) as f32
        };
        (0..len).map(|_| next()).collect()
    }

    /// A parameter's memory: itself, its gradient, its moments and its step count.
    fn tensors(shape: [i64; 3], seed: u64) -> [Vec<f32>; 5] {
        let [count, rows, columns] = shape.map(|size| size as usize);
        let len = count * rows * columns;
        let zeros = |len| vec![0.0; len];
        [numbers(len, seed), numbers(len, seed + 1), zeros(count * rows), zeros(count * columns), vec![0.0]]
    }

    fn steps(all: &mut [[Vec<f32>; 5]], shapes: &[[i64; 3]], isa: Isa, threads: usize) {
        let options = Numbers {
            lr: 0.1,
            beta2_decay: -0.8,
            eps1: None,
            eps2: 1e-3,
            d: 1.0,
            weight_decay: 0.1,
            maximize: false,
            clip_value: None,
        };
        let shapes: Vec<_> = (shapes.iter())
            .map(|&[count, rows, columns]| {
                let own = [[count, rows, columns], [count, rows, 1], [count, 1, columns]];
                own.map(|shape| (shape, [shape[1] * shape[2], shape[2], 1]))
            })
            .collect();
        for _ in 0..2 {
            let mut step = Adafactor::new(None, 1.0);
            for (tensors, shapes) in all.iter_mut().zip(&shapes) {
                let view = |data: &mut Vec<f32>, (shape, strides): &'_ ([i64; 3], [i64; 3])| {
                    // SAFETY: shapes and strides are those of the data, which the caller keeps.
                    unsafe {
                        View::new(
                            data.as_mut_ptr().cast(),
                            &*core::ptr::from_ref(shape),
                            &*core::ptr::from_ref(strides),
                            Dtype::F32,
                            Device::Cpu,
                        )
                    }
                };
                let [param, grad, rows, columns, count] = tensors;
                let moments = Moments::Means(view(rows, &shapes[1]), view(columns, &shapes[2]));
                // SAFETY: one number.
                let step_count = unsafe { View::new(count.as_mut_ptr().cast(), &[], &[], Dtype::F32, Device::Cpu) };
                let operand =
                    Operand { param: view(param, &shapes[0]), grad: view(grad, &shapes[0]), step: step_count, moments };
                assert!(step.push(&options, &operand, String::new).is_ok());
            }
            assert!(step.is_apart());
            step.run_on(isa, &Spawned(threads));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn no_bit_depends_on_the_threads_or_the_instruction_set(
            shapes in prop::collection::vec((1_i64..5, 1_i64..70, 1_i64..40).prop_map(|(a, b, c)| [a, b, c]), 1..5),
            large in prop::sample::select(vec![[1_i64, 1, 1], [1, 700, 600], [3, 40_000, 2], [1, 2, 90_000], [9_000, 3, 3]]),
            threads in 1_usize..4,
        ) {
            let shapes: Vec<_> = shapes.into_iter().chain([large]).collect();
            let make = || shapes.iter().enumerate().map(|(k, &shape)| tensors(shape, k as u64)).collect::<Vec<_>>();
            let mut expected = make();
            steps(&mut expected, &shapes, Isa::best(), 1);
            prop_assert!(expected.iter().flatten().flatten().all(|value| value.is_finite()));
            for isa in Isa::available() {
                let mut found = make();
                steps(&mut found, &shapes, isa, threads);
                prop_assert_eq!(&found, &expected);
            }
        }
    }
}
