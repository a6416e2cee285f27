//! The loop: a rule applied to a stretch of memory.
#![allow(unsafe_code)]

use super::element::{Element, Float};
use super::isa::{Kernel, Registers};
use super::lanes::{load_vector, store_vector};
use super::pack::Vector;
use crate::number::Number;
use crate::rule::{Rule, SUMS};

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
    unsafe fn run<G: Registers>(self) {
        let Self { rule, coeffs, treatment, run } = self;
        let mut at = 0;
        // SAFETY: in each block, `at + count <= len`.
        unsafe {
            while run.len - at >= 32 {
                block::<E, <E::Compute as Float>::In32<G>, R, C, S, 32>(rule, coeffs, treatment, &run, at, 32);
                at += 32;
            }
            while run.len - at >= 16 {
                block::<E, <E::Compute as Float>::In16<G>, R, C, S, 16>(rule, coeffs, treatment, &run, at, 16);
                at += 16;
            }
            if at < run.len {
                block::<E, <E::Compute as Float>::In16<G>, R, C, S, 16>(
                    rule,
                    coeffs,
                    treatment,
                    &run,
                    at,
                    run.len - at,
                );
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
unsafe fn block<E: Element, V: Vector<E::Compute, L>, R: Rule<C, S>, const C: usize, const S: usize, const L: usize>(
    rule: &R,
    coeffs: [E::Compute; C],
    treatment: Treatment<E::Compute>,
    run: &Run<E, S>,
    at: usize,
    count: usize,
) {
    let mut slots = [V::lit(0.0); S];
    // SAFETY: the caller's promise, for all loads and stores here.
    unsafe {
        let (param, mut grad): (V, V) = (load_vector(run.param.add(at), count), load_vector(run.grad.add(at), count));
        for (slot, from) in slots.iter_mut().zip(run.slots) {
            if let Some(from) = from {
                *slot = load_vector(from.add(at), count);
            }
        }
        if let Some(scale) = treatment.unscale {
            grad = grad * V::splat(scale);
            store_vector(run.grad.add(at), grad, count);
        }
        let (param, slots) = update(rule, coeffs, treatment, param, grad, slots);
        store_vector(run.param.add(at), param, count);
        for (slot, to) in slots.into_iter().zip(run.slots) {
            if let Some(to) = to {
                store_vector(to.add(at), slot, count);
            }
        }
    }
}

/// The rule on a vector of elements, its gradient unscaled.
#[inline(always)]
pub(super) fn update<T: Float, V: Vector<T, L>, R: Rule<C, S>, const C: usize, const S: usize, const L: usize>(
    rule: &R,
    coeffs: [T; C],
    treatment: Treatment<T>,
    param: V,
    grad: V,
    slots: [V; S],
) -> (V, [V; S]) {
    let grad = treatment.of_unscaled(grad);
    rule.update(splat(coeffs), param, grad, slots)
}

/// What an element of each lane adds to the sums of the rule, as the update is about to see it.
#[inline(always)]
pub(super) fn summands<T: Float, V: Vector<T, L>, R: Rule<C, S>, const C: usize, const S: usize, const L: usize>(
    rule: &R,
    coeffs: [T; C],
    treatment: Treatment<T>,
    param: V,
    mut grad: V,
    slots: [V; S],
) -> [[V; 2]; SUMS] {
    if let Some(scale) = treatment.unscale {
        grad = grad * V::splat(scale);
    }
    rule.summands(splat(coeffs), param, treatment.of_unscaled(grad), slots)
}

impl<T: Float> Treatment<T> {
    /// The gradient that the rule sees, of the unscaled one.
    #[inline(always)]
    pub(super) fn of_unscaled<V: Vector<T, L>, const L: usize>(&self, mut grad: V) -> V {
        if let Some(factor) = self.factor {
            grad = grad * V::splat(factor);
        }
        if let Some(limit) = self.limit {
            grad = within(grad, V::splat(limit));
        }
        grad
    }
}

/// Each coefficient in all lanes.
#[inline(always)]
fn splat<T: Float, V: Vector<T, L>, const C: usize, const L: usize>(coeffs: [T; C]) -> [V; C] {
    let mut all = [V::lit(0.0); C];
    for (vector, coeff) in all.iter_mut().zip(coeffs) {
        *vector = V::splat(coeff);
    }
    all
}

/// `value`, or the nearer of `-limit` and `limit`; NaN stays.
#[inline(always)]
fn within<T: Number>(value: T, limit: T) -> T {
    // The smaller of two is the negative of the larger of their negatives.
    -(-value.max(-limit)).max(-limit)
}
