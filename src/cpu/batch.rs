//! A step of one optimizer over all its parameters.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use std::sync::Arc;

use super::isa::Isa;
use super::norm;
use super::task::{Count, Step, Task};
use super::threads::{Threads, in_pieces};
use crate::error::Error;
use crate::rule::Rule;
use crate::tensor::{Operands, Refusal, Span, Territory, View, Walk};

/// The parameters of a step, collected and checked one by one; then it is [`Ready`].
pub struct Batch<'a, R, const C: usize, const S: usize> {
    step: Step<R, C, S>,
    written: Vec<Span>,
    read: Vec<Span>,
    memory: PhantomData<&'a ()>,
}

/// What the parameters of one group share in a step.
#[derive(Debug, Clone)]
pub struct Group<R> {
    /// The rule under the group's options.
    pub rule: R,
    /// The learning rate.
    pub lr: f64,
    /// Whether to step uphill.
    pub maximize: bool,
    /// A bound on the absolute value of each element of a gradient, after all else.
    pub clip_value: Option<f64>,
}

/// A step that can run: all its tensors were checked, each alone and against each other.
pub struct Ready<'a, R, const C: usize, const S: usize> {
    step: Step<R, C, S>,
    memory: PhantomData<&'a ()>,
}

/// A step that ran, kept for the next one on the same tensors.
pub struct Kept<R, const C: usize, const S: usize>(Step<R, C, S>);

/// Why a parameter is not stepped on.
#[derive(Debug, Clone, PartialEq)]
pub enum Unfit {
    /// Its tensors do not belong together.
    Wrong(Error),
    /// This driver cannot walk the tensor of this name.
    Refused(&'static str, Refusal),
}

impl<R> Group<R> {
    /// A group that steps by `rule` at the learning rate `lr`, downhill and without clipping.
    pub fn new(rule: R, lr: f64) -> Self {
        Self { rule, lr, maximize: false, clip_value: None }
    }
}

impl<'a, R: Rule<C, S>, const C: usize, const S: usize> Batch<'a, R, C, S> {
    /// A step over nothing yet. With `unscale`, the gradients are multiplied by it, in memory too.
    pub fn new(unscale: Option<f64>) -> Self {
        let step = Step { settings: Vec::new(), tasks: Vec::new(), total: 0, unscale, factor: 1.0 };
        Self { step, written: Vec::new(), read: Vec::new(), memory: PhantomData }
    }

    /// Adds a parameter of the group of this number. `walk` is the way through its tensors from the step before, if
    /// there was one; it is replaced where they have changed. `fresh` says, where the rule keeps no count, that the
    /// slots are new.
    ///
    /// # Errors
    ///
    /// Why not, with `place()` as the parameter's name in an error.
    pub fn push(
        &mut self,
        (number, group): (usize, &Group<R>),
        fresh: bool,
        walk: &mut Option<Arc<Walk<S>>>,
        operands: &Operands<'a, S>,
        place: impl Fn() -> String,
    ) -> Result<(), Unfit> {
        if !(walk.as_ref().is_some_and(|walk| walk.matches(operands)) && operands.is_countable()) {
            *walk = None;
            operands.check(R::SLOTS, place).map_err(Unfit::Wrong)?;
            if let Some((name, refusal)) = operands.refusal(R::SLOTS) {
                return Err(Unfit::Refused(name, refusal));
            }
        }
        let walk = walk.get_or_insert_with(|| Arc::new(Walk::of(operands)));
        let step = &mut self.step;
        let with_grad = step.unscale.is_some();
        walk.written(operands, with_grad, |span| self.written.push(span));
        self.written.extend(operands.step.and_then(|count| count.span()));
        self.read.extend(Some(&operands.grad).filter(|_| !with_grad).and_then(|grad| walk.read(grad)));
        let count = operands.step.as_ref().map(Count::next);
        let setting = step.setting(number, group, Task::<S>::at(count.as_ref(), fresh));
        step.tasks.push(Task {
            group: number,
            setting,
            walk: Arc::clone(walk),
            param: operands.param.data(),
            grad: operands.grad.data(),
            slots: operands.slots.map(|slot| slot.map(|view| view.data())),
            count,
            begin: step.total,
        });
        step.total += walk.len();
        Ok(())
    }

    /// The step, ready to run; `None` if two of its tensors share memory that it writes. `territory` remembers for the
    /// next step what was found.
    pub fn ready(self, territory: &mut Territory) -> Option<Ready<'a, R, C, S>> {
        let Self { step, written, read, memory } = self;
        territory.is_disjoint(&written, &read).then_some(Ready { step, memory })
    }
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Ready<'_, R, C, S> {
    /// The number of elements that the step changes.
    pub fn total(&self) -> usize {
        self.step.total
    }

    /// The 2-norm of all gradients together, unscaled. Its bits do not depend on the number of threads.
    pub fn grad_norm(&self, threads: &dyn Threads) -> f64 {
        norm::of_grads(&self.step, Isa::best(), threads)
    }

    /// Has the rules see all gradients multiplied by `factor`; those in memory stay.
    pub fn scale_grads(&mut self, factor: f64) {
        self.step.factor = factor;
    }

    /// Runs the step. The bits do not depend on the number of threads.
    pub fn run(self, threads: &dyn Threads) -> Kept<R, C, S> {
        self.run_on(Isa::best(), threads)
    }

    /// [`run`](Self::run) with a chosen instruction set, for tests and benchmarks.
    pub fn run_on(self, isa: Isa, threads: &dyn Threads) -> Kept<R, C, S> {
        let step = self.step;
        step.write_counts();
        // SAFETY: pieces do not overlap, so each thread alone has its elements.
        in_pieces(step.total, 1, threads, |piece| unsafe { step.run(isa, piece) });
        Kept(step)
    }
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Kept<R, C, S> {
    /// The number of parameters.
    pub fn len(&self) -> usize {
        self.0.tasks.len()
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.0.tasks.is_empty()
    }

    /// Takes the gradient of this place from here; whether that can be, since it is laid out as it was and shares no
    /// memory with what is written.
    pub fn set_grad(&mut self, place: usize, grad: &View<'_>, territory: &mut Territory) -> bool {
        let Some(task) = self.0.tasks.get_mut(place) else { return false };
        task.grad = grad.data();
        task.walk.is_grad(grad) && task.walk.read(grad).is_none_or(|span| territory.is_free(place, span))
    }

    /// The same step once more, its groups as they are now.
    ///
    /// # Safety
    ///
    /// For as long as `'a`, all tensors must be what they were in that step, but for the gradients that
    /// [`set_grad`](Self::set_grad) took, and it must not have been one that unscales.
    pub unsafe fn again<'a, 'g>(mut self, group: impl Fn(usize) -> Option<&'g Group<R>>) -> Option<Ready<'a, R, C, S>>
    where
        R: 'g,
    {
        let mut tasks = core::mem::take(&mut self.0.tasks);
        self.0.settings.clear();
        for task in &mut tasks {
            if let Some(count) = &mut task.count {
                // SAFETY: the caller's promise.
                unsafe { count.renew() };
            }
            task.setting = self.0.setting(task.group, group(task.group)?, Task::<S>::at(task.count.as_ref(), false));
        }
        self.0.tasks = tasks;
        self.0.factor = 1.0;
        Some(Ready { step: self.0, memory: PhantomData })
    }
}
