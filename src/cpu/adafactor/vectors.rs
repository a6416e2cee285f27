//! The sweeps over stretches of parameters that are no matrices: the sums of both the parameter and the update; the update.
#![allow(unsafe_code)]

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use super::super::element::Element;
use super::super::isa::{Kernel, Registers};
use super::super::lanes::{load, store};
use super::super::nested::LANES;
use super::super::pack::Vector;
use super::kernel::{Few, Memory, Sums, add_squares, only, put, total, zero};
use crate::number::Number;

/// A stretch of a parameter, its gradient and its second moment.
pub(super) struct Stretch<E: Element> {
    pub memory: Memory<E>,
    pub variance: *mut E,
    pub part: Range<usize>,
    /// The share of the moment that is new.
    pub new: f64,
    pub eps1: f64,
}

impl<E: Element> Stretch<E> {
    /// The new moment of the block at `at`, and the update.
    ///
    /// # Safety
    ///
    /// The block must be there.
    #[inline(always)]
    unsafe fn update<V: Vector<E::Compute, LANES>>(&self, at: usize, count: usize, grad: V) -> (V, V) {
        // SAFETY: the caller's promise.
        let before: V = V::from_lanes(unsafe { load(self.variance.add(at), count) });
        let variance = (grad * grad).fma(V::lit(self.new), before * V::lit(1.0 - self.new));
        (variance, grad / variance.sqrt().max(V::lit(self.eps1)))
    }

    /// Adds the squares of a block's parameters and updates to sums.
    ///
    /// # Safety
    ///
    /// The block must be there.
    #[inline(always)]
    unsafe fn squares<G: Registers>(
        &self,
        at: usize,
        count: usize,
        (params, updates): (Sums<G>, Sums<G>),
    ) -> (Sums<G>, Sums<G>) {
        // SAFETY: the caller's promise.
        let (param, update) = unsafe {
            let (param, grad): (Few<E, G>, _) = self.memory.load(at, count);
            (param, self.update(at, count, grad).1)
        };
        (add_squares(param, params), add_squares(only(update, count), updates))
    }

    /// Steps on a block.
    ///
    /// # Safety
    ///
    /// It must be there, and nobody else may use it.
    #[inline(always)]
    unsafe fn step<G: Registers>(&self, at: usize, count: usize, decay: Few<E, G>, scale: Few<E, G>) {
        // SAFETY: the caller's promise.
        unsafe {
            let (variance, update) = self.update(at, count, self.memory.grad::<Few<E, G>>(at, count));
            store(self.variance.add(at), &variance.lanes(), count);
            self.memory.step(at, count, update, decay, scale);
        }
    }

    /// Where the whole blocks end.
    #[inline(always)]
    fn whole(&self) -> usize {
        self.part.start + self.part.len() / LANES * LANES
    }
}

/// The squares of a stretch's parameter and of its update.
pub(super) struct Sizes<'a, E: Element> {
    pub stretch: Stretch<E>,
    pub of_param: &'a AtomicU64,
    pub of_update: &'a AtomicU64,
}

impl<E: Element> Kernel for Sizes<'_, E> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let Self { stretch, of_param, of_update } = self;
        let (mut sums, whole, end) = ((zero::<Sums<G>>(), zero::<Sums<G>>()), stretch.whole(), stretch.part.end);
        // SAFETY: the caller's promise.
        unsafe {
            // Whole blocks by themselves: so their length is known to the compiler.
            for at in (stretch.part.start..whole).step_by(LANES) {
                sums = stretch.squares::<G>(at, LANES, sums);
            }
            if whole < end {
                sums = stretch.squares::<G>(whole, end - whole, sums);
            }
        }
        put(of_param, total(sums.0));
        put(of_update, total(sums.1));
    }
}

/// A step on a stretch, as on a tile of a matrix.
pub(super) struct Update<E: Element> {
    pub stretch: Stretch<E>,
    pub decay: f64,
    pub scale: f64,
}

impl<E: Element> Kernel for Update<E> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let Self { stretch, decay, scale } = self;
        let (decay, scale) = (Few::<E, G>::lit(decay), Few::<E, G>::lit(scale));
        let (whole, end) = (stretch.whole(), stretch.part.end);
        // SAFETY: the caller's promise.
        unsafe {
            for at in (stretch.part.start..whole).step_by(LANES) {
                stretch.step::<G>(at, LANES, decay, scale);
            }
            if whole < end {
                stretch.step::<G>(whole, end - whole, decay, scale);
            }
        }
    }
}
