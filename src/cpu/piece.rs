//! A piece of a step: the loops on the elements of each of its tasks.
#![allow(unsafe_code)]

use core::ops::Range;

use super::element::{Bf16, Element, F16, Float};
use super::isa::Isa;
use super::nested::{NestedSweep, memory_of};
use super::sweep::{Run, Sweep, Treatment};
use crate::batch::{Group, Setting, Step, Task};
use crate::rule::Rule;
use crate::tensor::{Dim, Dtype, Path};

impl<R: Rule<C, S>, const C: usize, const S: usize> Step<R, C, S> {
    /// What a gradient goes through before the rule sees it.
    #[inline(always)]
    pub(super) fn treatment<T: Float>(&self, group: &Group<R>) -> Treatment<T> {
        Treatment {
            unscale: self.unscale.map(T::lit),
            factor: Some(self.factor_of(group)).filter(|&f| f != 1.0).map(T::lit),
            limit: group.clip_value.map(T::lit),
        }
    }

    /// Does the part `piece` of the step; with coefficients of each task of its own, if there are any, those of the task
    /// of this place first.
    ///
    /// # Safety
    ///
    /// `piece` must lie within the step, and nobody else may do any of it meanwhile.
    pub(super) unsafe fn run(&self, isa: Isa, piece: Range<usize>, own: Option<(usize, &[[f64; C]])>) {
        for (place, task) in self.tasks_in(&piece) {
            let part = task.part(&piece);
            let coeffs = match own {
                Some((first, all)) => &all[place - first],
                None => &self.settings[task.setting].coeffs,
            };
            // SAFETY: the caller's promise, handed on element by element.
            unsafe {
                match (task.walk.path(), task.walk.dtypes().param) {
                    (Path::Dense, Dtype::F32) => self.dense::<f32>(isa, task, coeffs, part),
                    (Path::Dense, Dtype::F64) => self.dense::<f64>(isa, task, coeffs, part),
                    (Path::Dense, Dtype::F16) => self.dense::<F16>(isa, task, coeffs, part),
                    (Path::Dense, Dtype::Bf16) => self.dense::<Bf16>(isa, task, coeffs, part),
                    (Path::Nested(dims), _) if task.is_wide() => self.nested::<f64>(isa, task, coeffs, dims, part),
                    (Path::Nested(dims), _) => self.nested::<f32>(isa, task, coeffs, dims, part),
                    // A walk knows parts alone, and of the types above.
                    (Path::Dense, Dtype::C64 | Dtype::C128 | Dtype::OtherFloat | Dtype::NoFloat) => {}
                }
            }
        }
    }

    /// # Safety
    ///
    /// `part` must lie within the task, which is dense and of elements `E`, and nobody else may touch those elements.
    unsafe fn dense<E: Element>(&self, isa: Isa, task: &Task<S>, coeffs: &[f64; C], part: Range<usize>) {
        let Setting { group, .. } = &self.settings[task.setting];
        // SAFETY: the caller's promise.
        unsafe {
            let run = run_of::<E, S>(task, &part);
            isa.run(Sweep { rule: &group.rule, coeffs: lit(coeffs), treatment: self.treatment(group), run });
        }
    }

    /// # Safety
    ///
    /// `part` must lie within the task, whose way is along `dims`, and nobody else may touch those elements.
    unsafe fn nested<T: Float>(
        &self,
        isa: Isa,
        task: &Task<S>,
        coeffs: &[f64; C],
        dims: &[Dim<S>],
        part: Range<usize>,
    ) {
        let Setting { group, .. } = &self.settings[task.setting];
        let (coeffs, treatment) = (lit::<T, C>(coeffs), self.treatment(group));
        // SAFETY: the caller's promise, and that of the views behind the pointers.
        unsafe { isa.run(NestedSweep { rule: &group.rule, coeffs, treatment, nested: memory_of(task, dims), part }) };
    }
}

/// The elements `part` of a dense task.
///
/// # Safety
///
/// They must be elements `E`, and there.
#[inline(always)]
pub(super) unsafe fn run_of<E: Element, const S: usize>(task: &Task<S>, part: &Range<usize>) -> Run<E, S> {
    let mut slots = [None; S];
    // SAFETY: the caller's promise: `part` lies within the memory of each view.
    unsafe {
        for (to, from) in slots.iter_mut().zip(task.slots) {
            *to = from.map(|from| from.cast::<E>().add(part.start));
        }
        let (param, grad) = (task.param.cast::<E>().add(part.start), task.grad.cast::<E>().add(part.start));
        Run { param, grad, slots, len: part.len() }
    }
}

/// The coefficients as the loop's numbers. No `map`, which is called and not inlined.
#[inline(always)]
pub(super) fn lit<T: Float, const C: usize>(coeffs: &[f64; C]) -> [T; C] {
    let mut numbers = [T::lit(0.0); C];
    for (number, &coeff) in numbers.iter_mut().zip(coeffs) {
        *number = T::lit(coeff);
    }
    numbers
}
