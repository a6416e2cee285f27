//! A step of one optimizer over all its parameters on a device: collected and checked. A driver then runs it.
#![allow(unsafe_code)]

mod clip;
mod finite;
mod group;
mod scalar;
mod task;

use core::marker::PhantomData;
use std::sync::Arc;

pub use clip::{Clip, Nonfinite};
pub use group::{DeviceNumber, Group};
use scalar::Known;
pub(crate) use scalar::{Count, Scalar};
pub(crate) use task::{Setting, Step, Task};

use crate::error::Error;
use crate::rule::{Learned, Rule, SUMS};
use crate::tensor::{Device, Operands, Path, Refusal, Span, Territory, Walk};

/// The most dimensions that kernels walk in.
pub const DIMS: usize = 8;

/// The parameters of a step, collected and checked one by one; then it is [`Ready`].
pub struct Batch<'a, R, const C: usize, const S: usize> {
    device: Device,
    step: Step<R, C, S>,
    written: Vec<Span>,
    read: Vec<Span>,
    memory: PhantomData<&'a ()>,
}

/// A step that can run: all its tensors were checked, each alone and against each other.
pub struct Ready<'a, R, const C: usize, const S: usize> {
    pub(crate) device: Device,
    pub(crate) step: Step<R, C, S>,
    memory: PhantomData<&'a ()>,
}

/// A step that ran, kept for the next one on the same tensors.
pub struct Kept<R, const C: usize, const S: usize> {
    pub(crate) device: Device,
    pub(crate) step: Step<R, C, S>,
}

/// Why a parameter is not stepped on.
#[derive(Debug, Clone, PartialEq)]
pub enum Unfit {
    /// Its tensors do not belong together.
    Wrong(Error),
    /// No driver here can walk the tensor of this name.
    Refused(&'static str, Refusal),
}

/// Whether the kernels of a GPU can walk so: with gaps they count in 32 bits.
fn is_for_kernels<const S: usize>(walk: &Walk<S>) -> bool {
    match walk.path() {
        Path::Nested(dims) if !walk.is_packed() => dims.len() <= DIMS && u32::try_from(walk.len()).is_ok(),
        _ => true,
    }
}

impl<'a, R: Rule<C, S>, const C: usize, const S: usize> Batch<'a, R, C, S> {
    /// A step on the CPU over nothing yet. With `unscale`, the gradients are multiplied by it, in memory too.
    pub fn new(unscale: Option<f64>) -> Self {
        Self::on(Device::Cpu, unscale)
    }

    /// A step on this device over nothing yet. A GPU may take what it unscales by from its own memory instead.
    pub fn on(device: Device, unscale: Option<f64>) -> Self {
        let (settings, tasks, scalars) = (Vec::new(), Vec::new(), Vec::new());
        let step = Step { settings, tasks, scalars, total: 0, unscale, factor: 1.0 };
        Self { device, step, written: Vec::new(), read: Vec::new(), memory: PhantomData }
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
        let device = operands.param.device();
        if device != self.device {
            return Err(Unfit::Refused("param", Refusal::Device(device)));
        }
        let is_countable = operands.is_countable() && (!R::HAS_SCALARS || operands.has_scalars());
        if !(is_countable && walk.as_ref().is_some_and(|walk| walk.matches(operands))) {
            *walk = None;
            operands.check(R::SLOTS, &place).map_err(Unfit::Wrong)?;
            if let Some((name, refusal)) = operands.refusal(R::SLOTS) {
                return Err(Unfit::Refused(name, refusal));
            }
        }
        let walk = walk.get_or_insert_with(|| Arc::new(Walk::of(operands)));
        if device != Device::Cpu && !is_for_kernels(walk) {
            return Err(Unfit::Refused("param", Refusal::Way));
        }
        let step = &mut self.step;
        let with_grad = step.unscale.is_some();
        walk.written(operands, with_grad, |span| self.written.push(span));
        self.written.extend(operands.step.and_then(|count| count.span()));
        self.read.extend(Some(&operands.grad).filter(|_| !with_grad).and_then(|grad| walk.read(grad)));
        let count = operands.step.as_ref().map(Count::next);
        let on_device = count.as_ref().is_some_and(|count| !count.place.is_host);
        if R::OVER_ALL && group.lr_at.is_some() {
            return Err(Unfit::Refused("param", Refusal::HostRate));
        }
        let mut now = Known::NONE;
        if R::HAS_SCALARS {
            if group.lr_at.is_some() && !on_device {
                // What becomes of the scalars only the device would know.
                return Err(Unfit::Refused("step", Refusal::RateApart));
            }
            self.written.extend(operands.scalars.iter().flatten().filter_map(|scalar| scalar.span()));
            let scalars = operands.scalars.each_ref().map(|scalar| scalar.as_ref().map(Scalar::of));
            // SAFETY: the views' promise.
            now = unsafe { Known::of(&scalars) };
            step.scalars.push(scalars);
        }
        let at = Task::<S>::at(count.as_ref(), fresh);
        let setting = step.setting((number, group), (at, now), on_device, place).map_err(Unfit::Wrong)?;
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
        let Self { device, step, written, read, memory } = self;
        territory.is_disjoint(&written, &read).then_some(Ready { device, step, memory })
    }
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Ready<'_, R, C, S> {
    /// The number of elements that the step changes.
    pub fn total(&self) -> usize {
        self.step.total
    }

    /// Has the rules see all gradients multiplied by `factor`; those in memory stay.
    pub fn scale_grads(&mut self, factor: f64) {
        self.step.factor = factor;
    }

    /// The groups of the step, with their numbers.
    pub fn groups(&self) -> impl Iterator<Item = (usize, &Group<R>)> {
        self.step.settings.iter().map(|setting| (setting.number, &setting.group))
    }

    /// Tells the rules the sums over all parameters of all devices, where they [ask](Rule::OVER_ALL) for them. What the
    /// groups are to keep of it.
    pub fn learn(&mut self, sums: [f64; SUMS]) -> Learned {
        let mut learned = Learned::new();
        for Setting { group, coeffs, step, before, .. } in &mut self.step.settings {
            group.rule.learn(sums);
            learned = group.rule.learned();
            *coeffs = group.rule.begin(group.lr, *step, before.numbers, before.single).0;
        }
        learned
    }
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Kept<R, C, S> {
    /// The number of parameters.
    pub fn len(&self) -> usize {
        self.step.tasks.len()
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.step.tasks.is_empty()
    }

    /// Takes the gradient of this place, laid out as it was, from here; whether that can be, since it shares no memory
    /// with what is written.
    #[inline]
    pub fn move_grad(&mut self, place: usize, data: *mut u8, territory: &mut Territory) -> bool {
        let Some(task) = self.step.tasks.get_mut(place) else { return false };
        if task.grad == data {
            return true;
        }
        task.grad = data;
        task.walk.is_there(data) && task.walk.read_at(data).is_none_or(|span| territory.is_free(place, span))
    }

    /// The same step once more, its groups as they are now; `None` where it has to be collected anew, be it for an error.
    ///
    /// # Safety
    ///
    /// For as long as `'a`, all tensors must be what they were in that step, but for the gradients that
    /// [`move_grad`](Self::move_grad) took, and it must not have been one that unscales.
    pub unsafe fn again<'a, 'g>(mut self, group: impl Fn(usize) -> Option<&'g Group<R>>) -> Option<Ready<'a, R, C, S>>
    where
        R: 'g,
    {
        let mut tasks = core::mem::take(&mut self.step.tasks);
        self.step.settings.clear();
        for (place, task) in tasks.iter_mut().enumerate() {
            if let Some(count) = &mut task.count {
                // SAFETY: the caller's promise.
                unsafe { count.renew() };
            }
            // SAFETY: the caller's promise.
            let now = if R::HAS_SCALARS { unsafe { Known::of(&self.step.scalars[place]) } } else { Known::NONE };
            let on_device = task.count.as_ref().is_some_and(|count| !count.place.is_host);
            let (at, of_group) = (Task::<S>::at(task.count.as_ref(), false), (task.group, group(task.group)?));
            if R::HAS_SCALARS && of_group.1.lr_at.is_some() && !on_device {
                return None;
            }
            task.setting = self.step.setting(of_group, (at, now), on_device, String::new).ok()?;
        }
        self.step.tasks = tasks;
        self.step.factor = 1.0;
        Some(Ready { device: self.device, step: self.step, memory: PhantomData })
    }
}
