//! What a step does to each parameter.
#![allow(unsafe_code)]

use core::ops::Range;
use std::sync::Arc;

use super::batch::Group;
use super::element::{Bf16, Element, F16, Float};
use super::isa::Isa;
use super::nested::{Nested, NestedSweep};
use super::sweep::{Run, Sweep, Treatment};
use crate::rule::Rule;
use crate::tensor::{Dim, Dtype, Dtypes, Path, View, Walk};

/// A whole step, checked.
pub(super) struct Step<R, const C: usize, const S: usize> {
    pub settings: Vec<Setting<R, C>>,
    pub tasks: Vec<Task<S>>,
    pub total: usize,
    pub unscale: Option<f64>,
    pub factor: f64,
}

/// A group at a step count.
pub(super) struct Setting<R, const C: usize> {
    pub number: usize,
    pub group: Group<R>,
    pub step: f64,
    pub coeffs: [f64; C],
}

/// What the step does to one parameter.
pub(super) struct Task<const S: usize> {
    /// The number of its group.
    pub group: usize,
    /// The place of its setting.
    pub setting: usize,
    pub walk: Arc<Walk<S>>,
    pub param: *mut u8,
    pub grad: *mut u8,
    pub slots: [Option<*mut u8>; S],
    pub count: Option<Count>,
    /// The number of elements of the tasks before.
    pub begin: usize,
}

/// Where a parameter's step count is, and what it becomes.
pub(super) struct Count {
    at: *mut u8,
    dtype: Dtype,
    pub value: f64,
}

// SAFETY: the pointers are those of views whose memory `Ready` borrows; tasks share no memory that is written, and two
// threads never get the same element of a task.
unsafe impl<const S: usize> Send for Task<S> {}
// SAFETY: as above.
unsafe impl<const S: usize> Sync for Task<S> {}

impl Count {
    /// The count that comes after the one in `view`, which `Operands::refusal` let pass.
    pub fn next(view: &View<'_>) -> Self {
        let mut count = Self { at: view.data(), dtype: view.dtype(), value: 0.0 };
        // SAFETY: the view's promise; one number of this type was let pass.
        unsafe { count.renew() };
        count
    }

    /// Goes on to the count that comes after what is there now.
    ///
    /// # Safety
    ///
    /// The number must still be there.
    pub unsafe fn renew(&mut self) {
        // SAFETY: the caller's promise.
        self.value = 1.0
            + unsafe {
                match self.dtype {
                    Dtype::F64 => self.at.cast::<f64>().read_unaligned(),
                    _ => f64::from(self.at.cast::<f32>().read_unaligned()),
                }
            };
    }

    fn write(&self) {
        // SAFETY: the view's promise; the count shares no memory with anything else of the step.
        unsafe {
            match self.dtype {
                Dtype::F64 => self.at.cast::<f64>().write_unaligned(self.value),
                _ => self.at.cast::<f32>().write_unaligned(self.value as f32),
            }
        }
    }
}

impl<const S: usize> Task<S> {
    /// The step that a task is at, where the rule keeps no count that of new slots or not.
    #[inline]
    pub fn at(count: Option<&Count>, fresh: bool) -> f64 {
        match count {
            Some(count) => count.value,
            None if fresh => 1.0,
            None => 2.0,
        }
    }

    /// Its elements among `piece` of all elements of the step, counted from its own first.
    #[inline(always)]
    pub fn part(&self, piece: &Range<usize>) -> Range<usize> {
        let own = |at: usize| at.saturating_sub(self.begin).min(self.walk.len());
        own(piece.start)..own(piece.end)
    }

    /// Its memory along `dims`.
    #[inline(always)]
    pub fn nested<'b>(&self, dims: &'b [Dim<S>]) -> Nested<'b, S> {
        let slots = self.slots.map(|slot| slot.unwrap_or(core::ptr::null_mut()));
        Nested { param: self.param, grad: self.grad, slots, dtypes: *self.walk.dtypes(), dims }
    }

    /// Whether its arithmetic is in `f64`.
    #[inline(always)]
    pub fn is_wide(&self) -> bool {
        let Dtypes { param, grad, slots } = *self.walk.dtypes();
        [Some(param), Some(grad)].into_iter().chain(slots).any(|dtype| dtype == Some(Dtype::F64))
    }
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Step<R, C, S> {
    /// The place of the setting for `step` of a group: parameters mostly share it, and powers are dear.
    #[inline]
    pub fn setting(&mut self, number: usize, group: &Group<R>, step: f64) -> usize {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let known = self.settings.last().is_some_and(|last| {
            same(last.step, step)
                && (last.number == number
                    || same(last.group.lr, group.lr)
                        && last.group.rule == group.rule
                        && last.group.maximize == group.maximize
                        && last.group.clip_value == group.clip_value)
        });
        if !known {
            let coeffs = group.rule.coeffs(group.lr, step);
            self.settings.push(Setting { number, group: group.clone(), step, coeffs });
        }
        self.settings.len() - 1
    }

    /// Enters the step counts.
    pub fn write_counts(&self) {
        self.tasks.iter().filter_map(|task| task.count.as_ref()).for_each(Count::write);
    }

    /// The tasks that have elements in `piece` of all elements of the step.
    #[inline(always)]
    pub fn tasks_in(&self, piece: &Range<usize>) -> impl Iterator<Item = &Task<S>> {
        let begin = self.tasks.partition_point(|task| task.begin + task.walk.len() <= piece.start);
        let count = self.tasks[begin..].partition_point(|task| task.begin < piece.end);
        self.tasks[begin..begin + count].iter().filter(|task| !task.walk.is_empty())
    }

    #[inline(always)]
    fn treatment<T: Float>(&self, group: &Group<R>) -> Treatment<T> {
        Treatment {
            unscale: self.unscale.map(T::lit),
            factor: Some(if group.maximize { -self.factor } else { self.factor }).filter(|&f| f != 1.0).map(T::lit),
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
        unsafe { isa.run(NestedSweep { rule: &group.rule, coeffs, treatment, nested: task.nested(dims), part }) };
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
