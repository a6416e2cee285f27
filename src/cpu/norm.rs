//! The norm of all gradients of a step.
#![allow(unsafe_code)]

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use super::element::{Bf16, Element, F16, Float};
use super::isa::{Isa, Kernel, Registers};
use super::lanes::load;
use super::nested::{self, LANES, memory_of};
use super::threads::{Threads, in_pieces};
use crate::batch::{Step, Task};
use crate::rule::Rule;
use crate::tensor::{Dtype, Path};

/// Elements are summed in stretches of this many, whatever the threads, and the sums then in order: so the bits of the
/// norm do not depend on the threads.
const STRETCH: usize = 1 << 15;

/// The 2-norm, in `f64`: no square of an `f32` overflows it.
pub(super) fn of_grads<R: Rule<C, S>, const C: usize, const S: usize>(
    step: &Step<R, C, S>,
    isa: Isa,
    threads: &dyn Threads,
) -> f64 {
    // The bits of each stretch's sum.
    let sums: Vec<_> = (0..step.total.div_ceil(STRETCH)).map(|_| AtomicU64::new(0)).collect();
    in_pieces(step.total, STRETCH, threads, |piece| {
        for begin in piece.clone().step_by(STRETCH) {
            let stretch = begin..piece.end.min(begin + STRETCH);
            let mut lanes = [0.0; LANES];
            for (_, task) in step.tasks_in(&stretch) {
                // SAFETY: the part lies within the task.
                unsafe { add(isa, task, task.part(&stretch), &mut lanes) };
            }
            let sum: f64 = lanes.iter().sum();
            sums[begin / STRETCH].store(sum.to_bits(), Ordering::Relaxed);
        }
    });
    let sum: f64 = sums.iter().map(|sum| f64::from_bits(sum.load(Ordering::Relaxed))).sum();
    sum.sqrt() * step.unscale.unwrap_or(1.0).abs()
}

/// Adds the squares of a task's gradients.
///
/// # Safety
///
/// `part` must lie within the task.
unsafe fn add<const S: usize>(isa: Isa, task: &Task<S>, part: Range<usize>, lanes: &mut [f64; LANES]) {
    // SAFETY: the caller's promise, and that of the view behind the pointer.
    unsafe {
        match (task.walk.path(), task.walk.dtypes().grad) {
            (Path::Dense, Dtype::F32) => isa.run(Dense { grad: task.grad.cast::<f32>(), part, lanes }),
            (Path::Dense, Dtype::F64) => isa.run(Dense { grad: task.grad.cast::<f64>(), part, lanes }),
            (Path::Dense, Dtype::F16) => isa.run(Dense { grad: task.grad.cast::<F16>(), part, lanes }),
            (Path::Dense, Dtype::Bf16) => isa.run(Dense { grad: task.grad.cast::<Bf16>(), part, lanes }),
            (Path::Nested(dims), _) => {
                nested::grads::<f64, S>(&memory_of(task, dims), part, |grads| add_squares(lanes, grads));
            }
            // A walk knows parts alone, and of the types above.
            (Path::Dense, Dtype::C64 | Dtype::C128 | Dtype::OtherFloat | Dtype::NoFloat) => {}
        }
    }
}

/// The squares of a dense gradient's elements `part`, to be added to `lanes`.
struct Dense<'a, E> {
    grad: *const E,
    part: Range<usize>,
    lanes: &'a mut [f64; LANES],
}

impl<E: Element> Kernel for Dense<'_, E> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let Self { grad, part, lanes } = self;
        for at in part.clone().step_by(LANES) {
            // SAFETY: the caller's promise.
            let grads: [_; LANES] = unsafe { load(grad.add(at), LANES.min(part.end - at)) };
            let mut wide = [0.0; LANES];
            for lane in 0..LANES {
                wide[lane] = grads[lane].to_f64();
            }
            add_squares(lanes, wide);
        }
    }
}

#[inline(always)]
fn add_squares(lanes: &mut [f64; LANES], grads: [f64; LANES]) {
    for (sum, grad) in lanes.iter_mut().zip(grads) {
        *sum = grad.mul_add(grad, *sum);
    }
}
