//! The parameters of a step, collected and checked.
#![allow(unsafe_code)]

use core::marker::PhantomData;

use super::super::sweep::Treatment;
use super::grid::{Grid, stretches};
use super::operand::{Moments, Numbers, Operand};
use crate::batch::Unfit;
use crate::error::{Error, Fault};
use crate::number::Number;
use crate::tensor::{Dtype, Span, Territory, View};

/// A step of Adafactor.
#[derive(Debug)]
pub struct Adafactor<'a> {
    pub(super) tasks: Vec<Task>,
    pub(super) counts: Vec<Count>,
    /// The number of elements.
    pub(super) total: usize,
    pub(super) unscale: Option<f64>,
    factor: f64,
    written: Vec<Span>,
    read: Vec<Span>,
    memory: PhantomData<&'a ()>,
}

/// A step count, and what it becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    at: *mut u8,
    dtype: Dtype,
    value: f64,
}

/// A parameter with elements.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub param: *mut u8,
    pub grad: *mut u8,
    /// Each element's moment, or the rows' means.
    pub first: *mut u8,
    /// The columns' means, if it has matrices.
    pub second: *mut u8,
    pub dtype: Dtype,
    pub len: usize,
    /// The number of elements of the tasks before.
    pub begin: usize,
    pub grid: Option<Grid>,
    pub coeffs: Coeffs,
}

/// The numbers of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coeffs {
    /// The share of the moment that is new.
    pub new: f64,
    /// The relative step.
    pub rate: f64,
    pub eps1: f64,
    pub eps2: f64,
    pub d: f64,
    /// What is left of the parameter.
    pub decay: f64,
    /// What the gradient is multiplied by.
    pub factor: f64,
    pub limit: Option<f64>,
}

// SAFETY: the pointers are those of views whose memory the step borrows; tensors that are written share none, and two
// threads never get the same part of one.
unsafe impl Send for Task {}
// SAFETY: as above.
unsafe impl Sync for Task {}
// SAFETY: as above.
unsafe impl Send for Count {}
// SAFETY: as above.
unsafe impl Sync for Count {}

impl<'a> Adafactor<'a> {
    /// A step over nothing yet. Gradients are multiplied by `unscale`, in memory too, and then by `factor`.
    pub fn new(unscale: Option<f64>, factor: f64) -> Self {
        let (tasks, counts, written, read) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { tasks, counts, total: 0, unscale, factor, written, read, memory: PhantomData }
    }

    /// Adds a parameter; `place` names it in errors.
    ///
    /// # Errors
    ///
    /// Why it cannot be stepped on.
    pub fn push(&mut self, numbers: &Numbers, operand: &Operand<'a>, place: impl Fn() -> String) -> Result<(), Unfit> {
        let Operand { param, grad, step, moments } = *operand;
        operand.check(&place)?;
        // SAFETY: it has been checked.
        let before = unsafe { operand.count() };
        let value = if step.dtype() == Dtype::F32 { f64::from(before as f32 + 1.0) } else { before + 1.0 };
        let coeffs = self.coeffs(numbers, param.dtype(), value, &place).map_err(Unfit::Wrong)?;
        let (first, second, grid) = match moments {
            Moments::Each(all) => (all, None, None),
            Moments::Means(rows, columns) => {
                let shape: Vec<usize> = param.shape().iter().map(|&size| size as usize).collect();
                (rows, Some(columns), (!param.is_empty()).then(|| Grid::of(&shape)))
            }
        };
        self.counts.push(Count { at: step.data(), dtype: step.dtype(), value });
        self.written.extend([Some(param), Some(step), Some(first), second].iter().flatten().filter_map(View::span));
        (if self.unscale.is_some() { &mut self.written } else { &mut self.read }).extend(grad.span());
        if param.is_empty() {
            return Ok(());
        }
        let second = second.map_or(core::ptr::null_mut(), |view| view.data());
        let (len, begin) = (param.len(), self.total);
        let (param, grad, dtype) = (param.data(), grad.data(), param.dtype());
        self.tasks.push(Task { param, grad, first: first.data(), second, dtype, len, begin, grid, coeffs });
        self.total += len;
        Ok(())
    }

    /// The number of elements.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Whether what is written shares no memory with anything else.
    pub fn is_apart(&self) -> bool {
        Territory::default().is_disjoint(&self.written, &self.read)
    }

    fn coeffs(&self, numbers: &Numbers, dtype: Dtype, step: f64, place: &impl Fn() -> String) -> Result<Coeffs, Error> {
        let Numbers { lr, beta2_decay, eps1, eps2, d, weight_decay, maximize, clip_value } = *numbers;
        let least = 1.0 / step.sqrt();
        let coeffs = Coeffs {
            new: step.powf(beta2_decay),
            // As Python's `min`; an infinite rate leaves the root alone.
            rate: if least < lr { least } else { lr },
            eps1: eps1.unwrap_or_else(|| eps_of(dtype)),
            eps2,
            d,
            decay: if weight_decay == 0.0 { 1.0 } else { 1.0 - lr * weight_decay },
            factor: if maximize { -self.factor } else { self.factor },
            limit: clip_value,
        };
        let Coeffs { new, rate, eps1, decay, .. } = coeffs;
        let all = [
            ("beta2_decay", "1 - beta2", new, Fault::Division),
            ("lr", "rho", rate, Fault::Option),
            ("eps", "eps1", eps1, Fault::Option),
            ("eps", "eps2", eps2, Fault::Option),
            ("d", "1 / d", 1.0 / d, Fault::Division),
            ("weight_decay", "1 - lr * weight_decay", decay, Fault::Option),
        ];
        match all.into_iter().find(|(_, _, found, _)| !found.is_finite()) {
            Some((option, coeff, found, fault)) => {
                let fault = if found.is_infinite() { fault } else { Fault::Option };
                Err(Error::Coefficient { place: place(), option, coeff, found, step, fault })
            }
            None => Ok(coeffs),
        }
    }
}

impl Count {
    /// Writes it.
    ///
    /// # Safety
    ///
    /// Nobody else may use its memory meanwhile.
    pub unsafe fn write(&self) {
        // SAFETY: the caller's promise; `push` has checked the memory.
        unsafe {
            match self.dtype {
                Dtype::F32 => self.at.cast::<f32>().write_unaligned(self.value as f32),
                _ => self.at.cast::<f64>().write_unaligned(self.value),
            }
        }
    }
}

impl Task {
    /// How many parts it has that are swept over.
    pub fn tiles(&self) -> usize {
        self.grid.as_ref().map_or_else(|| stretches(self.len), Grid::tiles)
    }
}

impl Coeffs {
    /// What gradients go through.
    pub fn treatment<T: Number>(&self, unscale: Option<f64>) -> Treatment<T> {
        Treatment { unscale: unscale.map(T::lit), factor: Some(T::lit(self.factor)), limit: self.limit.map(T::lit) }
    }
}

/// The least difference from 1.
fn eps_of(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => 2.0_f64.powi(-10),
        Dtype::Bf16 => 2.0_f64.powi(-7),
        Dtype::F32 => f32::EPSILON.into(),
        _ => f64::EPSILON,
    }
}
