//! The loop: a rule applied to a stretch of memory.
#![allow(unsafe_code)]

use super::element::{Element, Float};
use super::isa::Kernel;
use super::lanes::{load, store, zeros};
use super::pack::Pack;
use crate::number::Number;
use crate::rule::Rule;

/// A stretch of memory of one parameter: the n-th elements of all its tensors belong together.
#[derive(Clone, Copy)]
pub(super) struct Run<E, const S: usize> {
    pub param: *mut E,
    /// Written to only by an [unscaling](Treatment::unscale) step.
    pub grad: *mut E,
    /// `None` for a slot that is not live.
    pub slots: [Option<*mut E>; S],
    pub len: usize,
}

/// What a gradient goes through before the rule sees it.
#[derive(Clone, Copy)]
pub(super) struct Treatment<T> {
    /// Multiplies it first, and the gradient in memory with it.
    pub unscale: Option<T>,
    /// Multiplies it then: a clip by norm, and the sign of `maximize`.
    pub factor: Option<T>,
    /// Bounds its absolute value at the last.
    pub limit: Option<T>,
}

/// A step on each element of a run.
pub(super) struct Sweep<'a, E: Element, R, const C: usize, const S: usize> {
    pub rule: &'a R,
    pub coeffs: [E::Compute; C],
    pub treatment: Treatment<E::Compute>,
    /// Its pointers must be valid for `len` elements, those of `param` and `slots`, and that of `grad` if the step
    /// unscales, for writing. They may be unaligned.
    pub run: Run<E, S>,
}

impl<E: Element, R: Rule<C, S>, const C: usize, const S: usize> Kernel for Sweep<'_, E, R, C, S> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { rule, coeffs, treatment, run } = self;
        let mut at = 0;
        // SAFETY: in each block, `at + count <= len`.
        unsafe {
            if E::IN_32 {
                while run.len - at >= 32 {
                    block::<E, R, C, S, 32>(rule, coeffs, treatment, &run, at, 32);
                    at += 32;
                }
            }
            while run.len - at >= 16 {
                block::<E, R, C, S, 16>(rule, coeffs, treatment, &run, at, 16);
                at += 16;
            }
            if at < run.len {
                block::<E, R, C, S, 16>(rule, coeffs, treatment, &run, at, run.len - at);
            }
        }
    }
}

/// The `count <= L` elements from `at`.
///
/// # Safety
///
/// As for [`Sweep`], and `at + count <= run.len`.
#[inline(always)]
unsafe fn block<E: Element, R: Rule<C, S>, const C: usize, const S: usize, const L: usize>(
    rule: &R,
    coeffs: [E::Compute; C],
    treatment: Treatment<E::Compute>,
    run: &Run<E, S>,
    at: usize,
    count: usize,
) {
    let mut slots = [zeros::<_, L>(); S];
    // SAFETY: the caller's promise, for all loads and stores here.
    unsafe {
        let (mut param, mut grad) = (load(run.param.add(at), count), load(run.grad.add(at), count));
        for (lanes, from) in slots.iter_mut().zip(run.slots) {
            if let Some(from) = from {
                *lanes = load(from.add(at), count);
            }
        }
        if unscale(treatment, &mut grad) {
            store(run.grad.add(at), &grad, count);
        }
        update(rule, coeffs, treatment, &mut param, grad, &mut slots);
        store(run.param.add(at), &param, count);
        for (lanes, to) in slots.iter().zip(run.slots) {
            if let Some(to) = to {
                store(to.add(at), lanes, count);
            }
        }
    }
}

/// Unscales the gradients, if the step does; whether it does.
#[inline(always)]
pub(super) fn unscale<T: Float, const L: usize>(treatment: Treatment<T>, grad: &mut [T; L]) -> bool {
    let Some(scale) = treatment.unscale else { return false };
    for value in grad.iter_mut() {
        *value = *value * scale;
    }
    true
}

/// The rule on a pack of elements.
#[inline(always)]
pub(super) fn update<T: Float, R: Rule<C, S>, const C: usize, const S: usize, const L: usize>(
    rule: &R,
    coeffs: [T; C],
    treatment: Treatment<T>,
    param: &mut [T; L],
    mut grad: [T; L],
    slots: &mut [[T; L]; S],
) {
    if let Some(factor) = treatment.factor {
        for value in &mut grad {
            *value = *value * factor;
        }
    }
    if let Some(limit) = treatment.limit {
        for value in &mut grad {
            *value = within(*value, limit);
        }
    }
    let mut own = [Pack::lit(0.0); S];
    for (own, lanes) in own.iter_mut().zip(slots.iter()) {
        *own = Pack(*lanes);
    }
    let mut all = [Pack::lit(0.0); C];
    for (pack, coeff) in all.iter_mut().zip(coeffs) {
        *pack = Pack([coeff; L]);
    }
    let (new, own) = rule.update(all, Pack(*param), Pack(grad), own);
    *param = new.0;
    for (own, lanes) in own.into_iter().zip(slots.iter_mut()) {
        *lanes = own.0;
    }
}

/// `value`, or the nearer of `-limit` and `limit`; NaN stays.
#[inline(always)]
fn within<T: Float>(value: T, limit: T) -> T {
    // The smaller of two is the negative of the larger of their negatives.
    -(-value.max(-limit)).max(-limit)
}
