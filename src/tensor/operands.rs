//! One parameter's tensors, checked before a step writes to any.

use core::fmt;

use super::view::{Device, Dtype, View};
use crate::error::Error;

/// The tensors that one parameter brings to a step.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a, const S: usize> {
    /// The parameter.
    pub param: View<'a>,
    /// Its gradient.
    pub grad: View<'a>,
    /// Its state buffers; `None` for one that is not live.
    pub slots: [Option<View<'a>>; S],
    /// Its step count, if the rule keeps one.
    pub step: Option<View<'a>>,
    /// Its scalars, in the places of the slots that they are.
    pub scalars: [Option<View<'a>>; S],
}

/// Why tensors that are in order cannot be walked by the drivers here. The framework's own code steps on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The tensor has elements and no memory (a lazy zero, say).
    Memory,
    /// The tensor is on another device.
    Device(Device),
    /// The tensor's elements are of a type that no driver computes with.
    Dtype(Dtype),
    /// The tensor's elements do not follow each other in the order of their indices.
    Order,
    /// The tensor's elements are of this type, and the parameter's of another.
    Unlike(Dtype),
    /// The tensors are walked in more dimensions, or have more elements, than kernels count.
    Way,
    /// The step count is not one `f32` or `f64` number on the CPU or the parameter's device.
    StepCount,
    /// The step count is on the host with scalars of which only the device knows what they become: the rate is there.
    RateApart,
    /// The learning rate is in a GPU's memory, and the host has to know it.
    HostRate,
    /// The scalar is not one `f32` or `f64` number on the step count's device.
    Scalar,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Memory => f.write_str("has no memory"),
            Refusal::Device(device) => write!(f, "is on another device ({device})"),
            Refusal::Dtype(dtype) => write!(f, "is {dtype}"),
            Refusal::Order => f.write_str("is not contiguous"),
            Refusal::Unlike(dtype) => write!(f, "is {dtype}, unlike the parameter"),
            Refusal::Way => f.write_str("is laid out unlike its gradient or state in too many dimensions or elements"),
            Refusal::StepCount => {
                f.write_str("is not one float32 or float64 number on the CPU or the parameter's device")
            }
            Refusal::HostRate => f.write_str("needs its lr where the host knows it"),
            Refusal::RateApart => f.write_str("is on the CPU with the other scalars of the state, and lr on the GPU"),
            Refusal::Scalar => f.write_str("is not one float32 or float64 number on the step count's device"),
        }
    }
}

impl<'a, const S: usize> Operands<'a, S> {
    /// The gradient and the live slots with their names.
    fn followers(&self, names: [&'static str; S]) -> impl Iterator<Item = (&'static str, View<'a>)> {
        let slots = names.into_iter().zip(self.slots).filter_map(|(name, slot)| Some((name, slot?)));
        core::iter::once(("grad", self.grad)).chain(slots)
    }

    /// The scalars with their names.
    fn named_scalars(&self, names: [&'static str; S]) -> impl Iterator<Item = (&'static str, View<'a>)> {
        names.into_iter().zip(self.scalars).filter_map(|(name, scalar)| Some((name, scalar?)))
    }

    /// That gradient and state belong to the parameter, and that what is written does not overlap itself. `names` are
    /// those of the slots, `place` names the parameter in the error.
    pub fn check(&self, names: [&'static str; S], place: impl Fn() -> String) -> Result<(), Error> {
        for (name, view) in self.followers(names) {
            if view.shape() != self.param.shape() {
                let (found, expected) = (view.shape().to_vec(), self.param.shape().to_vec());
                return Err(Error::Shape { place: place(), name, found, expected });
            }
            if view.device() != self.param.device() {
                let (found, expected) = (view.device().to_string(), self.param.device().to_string());
                return Err(Error::Device { place: place(), name, found, expected });
            }
            let known = view.dtype().size().is_some() || self.param.dtype().size().is_none();
            if !known || view.dtype().parts() != self.param.dtype().parts() {
                let (found, expected) = (view.dtype().to_string(), self.param.dtype().to_string());
                return Err(Error::Dtype { place: place(), name, found, expected });
            }
        }
        if let Some((name, scalar)) = self.named_scalars(names).find(|(_, scalar)| scalar.len() != 1) {
            let (found, expected) = (scalar.shape().to_vec(), Vec::new());
            return Err(Error::Shape { place: place(), name, found, expected });
        }
        let written = core::iter::once(("param", self.param)).chain(self.followers(names).skip(1));
        for (name, view) in written {
            if view.overlaps_itself() {
                let (shape, strides) = (view.shape().to_vec(), view.strides().to_vec());
                return Err(Error::SelfOverlap { place: place(), name, shape, strides });
            }
        }
        Ok(())
    }

    /// Why no driver can walk these tensors, with the tensor's name; `None` if it can.
    pub fn refusal(&self, names: [&'static str; S]) -> Option<(&'static str, Refusal)> {
        for (name, view) in core::iter::once(("param", self.param)).chain(self.followers(names)) {
            if let Some(refusal) = unreachable(&view) {
                return Some((name, refusal));
            }
            if view.dtype().size().is_none() {
                return Some((name, Refusal::Dtype(view.dtype())));
            }
        }
        if !self.is_countable() {
            return Some(("step", Refusal::StepCount));
        }
        let mut unfit = self.named_scalars(names).filter(|(_, scalar)| !self.is_beside_count(scalar));
        unfit.next().map(|(name, _)| (name, Refusal::Scalar))
    }

    /// Whether all scalars are numbers that the drivers can read where they read the step count.
    #[inline]
    pub fn has_scalars(&self) -> bool {
        self.scalars.iter().flatten().all(|scalar| self.is_beside_count(scalar))
    }

    fn is_beside_count(&self, scalar: &View<'_>) -> bool {
        is_single(scalar) && self.step.as_ref().is_some_and(|step| step.device() == scalar.device())
    }

    /// Whether the step count, if there is one, is one number that the drivers can read.
    #[inline]
    pub fn is_countable(&self) -> bool {
        self.step.as_ref().is_none_or(|step| {
            is_single(step) && (step.device() == Device::Cpu || step.device() == self.param.device())
        })
    }
}

/// Whether a driver can read it as one number of a state.
pub(crate) fn is_single(view: &View<'_>) -> bool {
    unreachable(view).is_none() && view.len() == 1 && matches!(view.dtype(), Dtype::F32 | Dtype::F64)
}

fn unreachable(view: &View<'_>) -> Option<Refusal> {
    match view.device() {
        Device::Cpu | Device::Cuda(_) => (!view.has_memory()).then_some(Refusal::Memory),
        Device::Other(_) => Some(Refusal::Device(view.device())),
    }
}
