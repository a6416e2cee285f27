//! A collected step run by the loops of the CPU.
#![allow(unsafe_code)]

use core::ops::Range;

use super::element::{Bf16, Element, F16, Float};
use super::isa::Isa;
use super::nested::{NestedSweep, memory_of};
use super::norm;
use super::sweep::{Run, Sweep, Treatment};
use super::threads::{Threads, in_pieces};
use crate::batch::{Group, Kept, Ready, Setting, Step, Task};
use crate::rule::Rule;
use crate::tensor::{Device, Dim, Dtype, Path};

impl<R: Rule<C, S>, const C: usize, const S: usize> Ready<'_, R, C, S> {
    /// The 2-norm of all gradients together, unscaled. Its bits do not depend on the number of threads.
    ///
    /// # Panics
    ///
    /// If the step is not one of the CPU.
    pub fn grad_norm(&self, threads: &dyn Threads) -> f64 {
        assert_eq!(self.device, Device::Cpu, "a step of a GPU is run there");
        norm::of_grads(&self.step, Isa::best(), threads)
    }

    /// Runs the step. The bits do not depend on the number of threads.
    ///
    /// # Panics
    ///
    /// If the step is not one of the CPU.
    pub fn run(self, threads: &dyn Threads) -> Kept<R, C, S> {
        self.run_on(Isa::best(), threads)
    }

    /// [`run`](Self::run) with a chosen instruction set, for tests and benchmarks.
    ///
    /// # Panics
    ///
    /// If the step is not one of the CPU.
    pub fn run_on(self, isa: Isa, threads: &dyn Threads) -> Kept<R, C, S> {
        assert_eq!(self.device, Device::Cpu, "a step of a GPU is run there");
        let Self { device, step, .. } = self;
        step.write_counts();
        // SAFETY: pieces do not overlap, so each thread alone has its elements.
        in_pieces(step.total, 1, threads, |piece| unsafe { step.run(isa, piece) });
        Kept { device, step }
    }
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Step<R, C, S> {
    #[inline(always)]
    fn treatment<T: Float>(&self, group: &Group<R>) -> Treatment<T> {
        Treatment {
            unscale: self.unscale.map(T::lit),
            factor: Some(self.factor_of(group)).filter(|&f| f != 1.0).map(T::lit),
            limit: group.clip_value.map(T::lit),
        }
    }

    /// Does the part `piece` of the step.
    ///
    /// # Safety
    ///
    /// `piece` must lie within the step, and nobody else may do any of it meanwhile.
    pub unsafe fn run(&self, isa: Isa, piece: Range<usize>) {
        for task in self.tasks_in(&piece) {
            let part = task.part(&piece);
            // SAFETY: the caller's promise, handed on element by element.
            unsafe {
                match (task.walk.path(), task.walk.dtypes().param) {
                    (Path::Dense, Dtype::F32) => self.dense::<f32>(isa, task, part),
                    (Path::Dense, Dtype::F64) => self.dense::<f64>(isa, task, part),
                    (Path::Dense, Dtype::F16) => self.dense::<F16>(isa, task, part),
                    (Path::Dense, Dtype::Bf16) => self.dense::<Bf16>(isa, task, part),
                    (Path::Nested(dims), _) if task.is_wide() => self.nested::<f64>(isa, task, dims, part),
                    (Path::Nested(dims), _) => self.nested::<f32>(isa, task, dims, part),
                    // A walk knows parts alone, and of the types above.
                    (Path::Dense, Dtype::C64 | Dtype::C128 | Dtype::OtherFloat | Dtype::NoFloat) => {}
                }
            }
        }
    }

    /// # Safety
    ///
    /// `part` must lie within the task, which is dense and of elements `E`, and nobody else may touch those elements.
    unsafe fn dense<E: Element>(&self, isa: Isa, task: &Task<S>, part: Range<usize>) {
        let Setting { group, coeffs, .. } = &self.settings[task.setting];
        let mut slots = [None; S];
        // SAFETY: the caller's promise: `part` lies within the memory of each view.
        unsafe {
            for (to, from) in slots.iter_mut().zip(task.slots) {
                *to = from.map(|from| from.cast::<E>().add(part.start));
            }
            let param = task.param.cast::<E>().add(part.start);
            let grad = task.grad.cast::<E>().add(part.start);
            let run = Run { param, grad, slots, len: part.len() };
            isa.run(Sweep { rule: &group.rule, coeffs: lit(coeffs), treatment: self.treatment(group), run });
        }
    }

    /// # Safety
    ///
    /// `part` must lie within the task, whose way is along `dims`, and nobody else may touch those elements.
    unsafe fn nested<T: Float>(&self, isa: Isa, task: &Task<S>, dims: &[Dim<S>], part: Range<usize>) {
        let Setting { group, coeffs, .. } = &self.settings[task.setting];
        let (coeffs, treatment) = (lit::<T, C>(coeffs), self.treatment(group));
        // SAFETY: the caller's promise, and that of the views behind the pointers.
        unsafe { isa.run(NestedSweep { rule: &group.rule, coeffs, treatment, nested: memory_of(task, dims), part }) };
    }
}

/// The coefficients as the loop's numbers. No `map`, which is called and not inlined.
#[inline(always)]
fn lit<T: Float, const C: usize>(coeffs: &[f64; C]) -> [T; C] {
    let mut numbers = [T::lit(0.0); C];
    for (number, &coeff) in numbers.iter_mut().zip(coeffs) {
        *number = T::lit(coeff);
    }
    numbers
}
