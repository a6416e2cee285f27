//! What a step is made of, and what has to be true of it.
#![allow(unsafe_code)]

use crate::batch::Unfit;
use crate::error::Error;
use crate::tensor::{Device, Dtype, Refusal, View, is_single};

/// The options of a group.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    /// The largest relative step, and what decays.
    pub lr: f64,
    /// The power of the step that is the share of the second moment that is new.
    pub beta2_decay: f64,
    /// The least root of a second moment; `None` for the least difference from 1 in the parameter's type.
    pub eps1: Option<f64>,
    /// The least size of a parameter that its step is a share of.
    pub eps2: f64,
    /// The largest size of an update.
    pub d: f64,
    /// The share of a parameter that is lost, times the rate.
    pub weight_decay: f64,
    /// Whether the step is up the gradient.
    pub maximize: bool,
    /// The bound of each element of the gradient.
    pub clip_value: Option<f64>,
}

/// The second moment of a parameter.
#[derive(Debug, Clone, Copy)]
pub enum Moments<'a> {
    /// Of one without two dimensions: each element's.
    Each(View<'a>),
    /// The means of rows and of columns.
    Means(View<'a>, View<'a>),
}

/// A parameter's tensors.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a> {
    /// The parameter.
    pub param: View<'a>,
    /// Its gradient.
    pub grad: View<'a>,
    /// Its step count.
    pub step: View<'a>,
    /// Its second moment.
    pub moments: Moments<'a>,
}

impl Operand<'_> {
    /// That the tensors belong together, and are such as the sweeps go over.
    pub(super) fn check(&self, place: &impl Fn() -> String) -> Result<(), Unfit> {
        let Self { param, grad, step, moments } = self;
        let is_matrix = param.shape().len() > 1;
        let without = |from_last: usize| {
            let mut shape = param.shape().to_vec();
            let at = shape.len() - from_last;
            shape[at] = 1;
            shape
        };
        let mut all = vec![("param", param, param.shape().to_vec()), ("grad", grad, param.shape().to_vec())];
        match moments {
            Moments::Each(view) if !is_matrix => all.push(("variance", view, param.shape().to_vec())),
            Moments::Means(rows, columns) if is_matrix => {
                all.extend([("row_var", rows, without(1)), ("col_var", columns, without(2))]);
            }
            Moments::Each(_) => return Err(missing(place, "row_var", &["variance"])),
            Moments::Means(..) => return Err(missing(place, "variance", &["row_var", "col_var"])),
        }
        for (name, view, shape) in all {
            if view.device() != Device::Cpu {
                return Err(Unfit::Refused(name, Refusal::Device(view.device())));
            }
            if view.shape() != shape {
                let found = view.shape().to_vec();
                return Err(Unfit::Wrong(Error::Shape { place: place(), name, found, expected: shape }));
            }
            let refusal = match view.dtype() {
                _ if !view.has_memory() => Refusal::Memory,
                dtype @ (Dtype::C64 | Dtype::C128 | Dtype::OtherFloat | Dtype::NoFloat) => Refusal::Dtype(dtype),
                dtype if dtype != param.dtype() => Refusal::Unlike(dtype),
                _ if !view.is_empty() && !view.is_contiguous() => Refusal::Order,
                _ => continue,
            };
            return Err(Unfit::Refused(name, refusal));
        }
        if step.device() != Device::Cpu || !is_single(step) {
            return Err(Unfit::Refused("step", Refusal::StepCount));
        }
        Ok(())
    }

    /// The step count.
    ///
    /// # Safety
    ///
    /// It must have been checked.
    pub(super) unsafe fn count(&self) -> f64 {
        // SAFETY: the caller's promise, and that of the view.
        unsafe {
            match self.step.dtype() {
                Dtype::F32 => self.step.data().cast::<f32>().read_unaligned().into(),
                _ => self.step.data().cast::<f64>().read_unaligned(),
            }
        }
    }
}

fn missing(place: &impl Fn() -> String, name: &'static str, found: &[&'static str]) -> Unfit {
    Unfit::Wrong(Error::MissingState { place: place(), name, found: found.to_vec() })
}
