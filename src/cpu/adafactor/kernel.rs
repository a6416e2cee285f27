//! What the sweeps over matrices and over vectors share.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use super::super::element::{Element, Float};
use super::super::isa::Registers;
use super::super::lanes::{load, store};
use super::super::nested::LANES;
use super::super::pack::Vector;
use super::super::sweep::Treatment;
use super::collect::Task;
use crate::number::Number;

/// As many numbers as lanes, as an element is computed in.
pub(super) type Few<E, G> = <<E as Element>::Compute as Float>::In16<G>;

/// A parameter and its gradient.
pub(super) struct Memory<E: Element> {
    pub param: *mut E,
    pub grad: *mut E,
    pub treatment: Treatment<E::Compute>,
}

impl<E: Element> Memory<E> {
    /// Those of a task.
    pub fn of(task: &Task, unscale: Option<f64>) -> Self {
        Self { param: task.param.cast(), grad: task.grad.cast(), treatment: task.coeffs.treatment(unscale) }
    }

    /// `count <= LANES` elements of the parameter and of the gradient, as the rule sees it; first unscaled in memory.
    ///
    /// # Safety
    ///
    /// They must be there, and nobody else may use the gradient where it is unscaled.
    #[inline(always)]
    pub unsafe fn load<V: Vector<E::Compute, LANES>>(&self, at: usize, count: usize) -> (V, V) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(scale) = self.treatment.unscale {
                let grad: V = V::from_lanes(load(self.grad.add(at), count)) * V::splat(scale);
                store(self.grad.add(at), &grad.lanes(), count);
            }
            (V::from_lanes(load(self.param.add(at), count)), self.grad(at, count))
        }
    }

    /// The same of a gradient that has been unscaled.
    ///
    /// # Safety
    ///
    /// They must be there.
    #[inline(always)]
    pub unsafe fn grad<V: Vector<E::Compute, LANES>>(&self, at: usize, count: usize) -> V {
        // SAFETY: the caller's promise.
        self.treatment.of_unscaled(V::from_lanes(unsafe { load(self.grad.add(at), count) }))
    }

    /// Moves `count <= LANES` elements of the parameter, of which `decay` is left, by `scale` times `update`.
    ///
    /// # Safety
    ///
    /// They must be there, and nobody else may use them.
    #[inline(always)]
    pub unsafe fn step<V: Vector<E::Compute, LANES>>(&self, at: usize, count: usize, update: V, decay: V, scale: V) {
        // SAFETY: the caller's promise.
        unsafe {
            let param: V = V::from_lanes(load(self.param.add(at), count));
            store(self.param.add(at), &update.fma(scale, param * decay).lanes(), count);
        }
    }
}

/// The same numbers in `f64`.
#[inline(always)]
pub(super) fn wide<T: Float, V: Vector<T, LANES>, W: Vector<f64, LANES>>(values: V) -> W {
    let (values, mut wide) = (values.lanes(), [0.0; LANES]);
    for lane in 0..LANES {
        wide[lane] = values[lane].to_f64();
    }
    W::from_lanes(wide)
}

/// The squares of numbers, added to sums.
#[inline(always)]
pub(super) fn add_squares<T: Float, V: Vector<T, LANES>, W: Vector<f64, LANES>>(values: V, sums: W) -> W {
    let values: W = wide(values);
    values.fma(values, sums)
}

/// The first `count` numbers, and 0 for the others: where there is nothing, 0 may have been divided by 0.
#[inline(always)]
pub(super) fn only<T: Float, V: Vector<T, LANES>>(values: V, count: usize) -> V {
    if count == LANES {
        return values;
    }
    let mut lanes = values.lanes();
    lanes[count..].fill(T::lit(0.0));
    V::from_lanes(lanes)
}

/// The sum of all lanes, by halves.
#[inline(always)]
pub(super) fn total<W: Vector<f64, LANES>>(sums: W) -> f64 {
    let mut sums = sums.lanes();
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// The sums of a register in 64 bits each.
pub(super) type Sums<G> = <G as Registers>::F64x16;

/// A sum that several threads may look at, one after the other.
pub(super) fn put(at: &AtomicU64, value: f64) {
    at.store(value.to_bits(), Ordering::Relaxed);
}

/// What was put there.
pub(super) fn get(at: &AtomicU64) -> f64 {
    f64::from_bits(at.load(Ordering::Relaxed))
}

/// Nothing summed up yet.
pub(super) fn zero<V: Number>() -> V {
    V::lit(0.0)
}
