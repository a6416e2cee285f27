//! One parameter's tensors, checked before a step writes to any.

use core::fmt;

use super::overlap::Access;
use super::view::{Device, Dtype, View};
use crate::error::Error;

/// A named state buffer.
#[derive(Debug, Clone, Copy)]
pub struct Slot<'a> {
    /// Its name, as in torch's `state_dict`.
    pub name: &'static str,
    /// Its memory, if the slot is live.
    pub view: Option<View<'a>>,
}

/// The tensors that one parameter brings to a step.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a, const S: usize> {
    /// The parameter.
    pub param: View<'a>,
    /// Its gradient.
    pub grad: View<'a>,
    /// Its state buffers.
    pub slots: [Slot<'a>; S],
    /// Its step count, if the rule keeps one.
    pub step: Option<View<'a>>,
}

/// Why tensors that are in order cannot be walked by the drivers here. The framework's own code steps on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The tensor has elements and no memory (a lazy zero, say).
    Memory,
    /// The tensor is on another device.
    Device(Device),
    /// The tensor's elements are of another type than `f32` and `f64`.
    Dtype(Dtype),
    /// The tensor's elements are of another type than the parameter's.
    Mixed {
        /// The tensor's.
        found: Dtype,
        /// The parameter's.
        param: Dtype,
    },
    /// The tensor does not fill its memory, or not in the parameter's order.
    Layout,
    /// The step count is not one `f32` or `f64` number on the CPU.
    StepCount,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Memory => f.write_str("has no memory"),
            Refusal::Device(device) => write!(f, "is on another device ({device:?})"),
            Refusal::Dtype(dtype) => write!(f, "is {dtype}"),
            Refusal::Mixed { found, param } => write!(f, "is {found} and the parameter is {param}"),
            Refusal::Layout => f.write_str("has gaps, overlaps itself or is laid out unlike the parameter"),
            Refusal::StepCount => f.write_str("is not one float32 or float64 number on the CPU"),
        }
    }
}

impl<'a, const S: usize> Operands<'a, S> {
    /// The gradient and the live slots with their names.
    fn followers(&self) -> impl Iterator<Item = (&'static str, View<'a>)> {
        let slots = self.slots.into_iter().filter_map(|slot| Some((slot.name, slot.view?)));
        core::iter::once(("grad", self.grad)).chain(slots)
    }

    /// That gradient and state have the parameter's shape. `place` names the parameter in the error.
    pub fn check_shapes(&self, place: impl Fn() -> String) -> Result<(), Error> {
        for (name, view) in self.followers() {
            if view.shape() != self.param.shape() {
                return Err(Error::Shape {
                    place: place(),
                    name,
                    found: view.shape().to_vec(),
                    expected: self.param.shape().to_vec(),
                });
            }
        }
        Ok(())
    }

    /// Why the CPU driver cannot walk these tensors, with the tensor's name; `None` if it can.
    pub fn refusal(&self) -> Option<(&'static str, Refusal)> {
        let dtype = self.param.dtype();
        if let Some(refusal) = unreachable(&self.param) {
            return Some(("param", refusal));
        }
        if !matches!(dtype, Dtype::F32 | Dtype::F64) {
            return Some(("param", Refusal::Dtype(dtype)));
        }
        if !self.param.is_dense() {
            return Some(("param", Refusal::Layout));
        }
        for (name, view) in self.followers() {
            if let Some(refusal) = unreachable(&view) {
                return Some((name, refusal));
            }
            if view.dtype() != dtype {
                return Some((name, Refusal::Mixed { found: view.dtype(), param: dtype }));
            }
            if !view.walks_like(&self.param) {
                return Some((name, Refusal::Layout));
            }
        }
        let countable = |step: View<'_>| {
            unreachable(&step).is_none() && step.len() == 1 && matches!(step.dtype(), Dtype::F32 | Dtype::F64)
        };
        self.step.filter(|&step| !countable(step)).map(|_| ("step", Refusal::StepCount))
    }

    /// The memory that a step touches, for tensors that [`refusal`](Self::refusal) lets pass.
    pub fn accesses(&self) -> impl Iterator<Item = Access> {
        let written =
            core::iter::once(self.param).chain(self.slots.into_iter().filter_map(|slot| slot.view)).chain(self.step);
        written.map(|view| (view, true)).chain([(self.grad, false)]).map(|(view, writes)| {
            let width = if view.dtype() == Dtype::F64 { 8 } else { 4 };
            let from = view.data().addr();
            Access { from, to: from + view.len() * width, writes }
        })
    }
}

fn unreachable(view: &View<'_>) -> Option<Refusal> {
    match view.device() {
        Device::Cpu => (!view.has_memory()).then_some(Refusal::Memory),
        device => Some(Refusal::Device(device)),
    }
}
