//! A parameter as a plan knows it.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::held::Held;
use super::step::Call;
use super::torch::Torch;
use crate::tensor::{Device, Operands, Walk};

/// A parameter as it was last seen.
pub struct Member<const S: usize> {
    pub group: usize,
    pub index: usize,
    /// The place of its device among those of the step.
    pub drive: usize,
    pub param: Option<Held>,
    pub grad: Option<Held>,
    pub state: MemberState<S>,
    /// Its place in the state.
    pub place: usize,
    pub walk: Option<Arc<Walk<S>>>,
    /// Whether it takes part in this step: it has a gradient.
    pub active: bool,
    /// Whether this step makes its state.
    pub fresh: bool,
    /// Whether all its tensors are known.
    pub known: bool,
    /// Whether its gradient is another object than in the step before.
    pub new_grad: bool,
}

/// A parameter's state: none at all if it is new.
pub struct MemberState<const S: usize> {
    pub step: Option<Held>,
    pub slots: [Option<Held>; S],
}

impl<const S: usize> Member<S> {
    /// One that was never seen.
    pub fn new() -> Self {
        Self {
            group: 0,
            index: 0,
            drive: 0,
            param: None,
            grad: None,
            state: MemberState::NONE,
            place: 0,
            walk: None,
            active: false,
            fresh: false,
            known: false,
            new_grad: true,
        }
    }

    /// All objects that it holds.
    pub fn take(&mut self) -> impl Iterator<Item = Held> + use<S> {
        self.param.take().into_iter().chain(self.grad.take()).chain(self.state.take())
    }

    /// Lets go of all objects, to know them again if they are still there in the next step; those to be dropped.
    pub fn let_go(&mut self, old: &mut Vec<Held>) {
        self.known = false;
        let MemberState { step, slots } = &mut self.state;
        let all = [&mut self.param, &mut self.grad, step].into_iter().chain(slots);
        for held in all {
            if let Some(known) = held {
                match known.let_go() {
                    Some(object) => old.push(object),
                    None => old.extend(held.take()),
                }
            }
        }
    }

    /// Shows the garbage collector all objects that it holds.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.param.iter().chain(&self.grad).chain(self.state.all()).try_for_each(|held| held.traverse(visit))
    }

    /// Where its parameter is; the CPU as long as that is not known.
    pub fn device(&self) -> Device {
        self.param.as_ref().and_then(Held::device).unwrap_or(Device::Cpu)
    }

    /// Whether the host keeps its step count.
    pub fn is_host_counted(&self) -> bool {
        self.state.step.as_ref().is_some_and(|step| step.device() == Some(Device::Cpu))
    }

    /// Whether its tensors are spread over several processes.
    pub fn is_spread(&self) -> bool {
        self.param.as_ref().is_some_and(|param| param.local().is_some())
    }
}

impl<const S: usize> MemberState<S> {
    /// No tensors.
    pub const NONE: Self = Self { step: None, slots: [const { None }; S] };

    /// All that are there.
    pub fn all(&self) -> impl Iterator<Item = &Held> {
        self.step.iter().chain(self.slots.iter().flatten())
    }

    /// All that are there, taken out.
    fn take(&mut self) -> impl Iterator<Item = Held> + use<S> {
        let Self { step, slots } = core::mem::replace(self, Self::NONE);
        step.into_iter().chain(slots.into_iter().flatten())
    }
}

/// A member's memory; None if some is not where it was found.
#[inline]
pub fn operands<'a, const S: usize>(
    call: &Call<'_>,
    param: &'a Held,
    grad: &'a Held,
    state: &'a MemberState<S>,
) -> Option<Operands<'a, S>> {
    let view = |held: &'a Held| held.view(call.py, call.torch);
    let mut slots = [None; S];
    for (slot, held) in slots.iter_mut().zip(&state.slots) {
        if let Some(held) = held {
            *slot = Some(view(held)?);
        }
    }
    let step = match &state.step {
        Some(held) => Some(view(held)?),
        None => None,
    };
    Some(Operands { param: view(param)?, grad: view(grad)?, slots, step })
}

/// Puts `object` in the place of what is held there; whether it is another.
#[inline]
pub fn replace(torch: &Torch, held: &mut Option<Held>, object: Borrowed<'_, '_, PyAny>, old: &mut Vec<Held>) -> bool {
    if held.as_mut().is_some_and(|held| held.meets(torch, object)) {
        return false;
    }
    old.extend(held.replace(Held::new(object.to_owned().unbind())));
    true
}

/// [`replace`] for what may not be there.
#[inline]
pub fn replace_optional(
    torch: &Torch,
    held: &mut Option<Held>,
    object: Option<Borrowed<'_, '_, PyAny>>,
    old: &mut Vec<Held>,
) -> bool {
    match object {
        Some(object) => replace(torch, held, object, old),
        None => {
            let was = held.take();
            let changed = was.is_some();
            old.extend(was);
            changed
        }
    }
}
