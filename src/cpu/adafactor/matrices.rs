//! The sweeps over tiles of matrices: sums of squares by rows and columns; those of the update; the update itself.
#![allow(unsafe_code)]

use core::sync::atomic::AtomicU64;

use super::super::element::Element;
use super::super::isa::{Kernel, Registers};
use super::super::nested::LANES;
use super::grid::{Grid, Tile, WIDTH};
use super::kernel::{Few, Memory, Sums, add_squares, get, only, put, total, wide, zero};
use super::means::Scratch;
use crate::number::Number;

/// The squares of a tile's gradient by rows and by columns, and of its parameter, into `squares`.
pub(super) struct Squares<'a, E: Element> {
    pub memory: Memory<E>,
    pub grid: Grid,
    pub tile: Tile,
    pub scratch: Scratch<'a>,
    pub squares: &'a AtomicU64,
}

impl<E: Element> Kernel for Squares<'_, E> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let Self { grid, ref tile, scratch, squares, .. } = self;
        let (begin, width) = (tile.columns.start, tile.columns.len());
        let whole = width / LANES * LANES;
        let (mut columns, mut of_param) = ([0.0_f64; WIDTH], zero::<Sums<G>>());
        for matrix in tile.matrices.clone() {
            columns[..width.next_multiple_of(LANES)].fill(0.0);
            for row in tile.rows.clone() {
                let start = (matrix * grid.rows + row) * grid.columns + begin;
                let mut sums = (zero::<Sums<G>>(), of_param);
                // SAFETY: the caller's promise: the tile lies within the parameter, and the blocks in the columns.
                unsafe {
                    // Whole blocks by themselves: so their length is known to the compiler.
                    for at in (0..whole).step_by(LANES) {
                        sums = self.block::<G>(start + at, LANES, columns.as_mut_ptr().add(at), sums);
                    }
                    if whole < width {
                        sums = self.block::<G>(start + whole, width - whole, columns.as_mut_ptr().add(whole), sums);
                    }
                }
                of_param = sums.1;
                put(&scratch.rows[grid.row(matrix, row) + tile.across], total(sums.0));
            }
            let into = &scratch.columns[grid.column(matrix, tile.down) + begin..][..width];
            into.iter().zip(columns).for_each(|(at, sum)| put(at, sum));
        }
        put(squares, total(of_param));
    }
}

impl<E: Element> Squares<'_, E> {
    /// Adds a block of a row to the sums of its columns, and to those of the row and of the parameter.
    ///
    /// # Safety
    ///
    /// The block must be there, and `LANES` sums of columns.
    #[inline(always)]
    unsafe fn block<G: Registers>(
        &self,
        at: usize,
        count: usize,
        columns: *mut f64,
        (of_row, of_param): (Sums<G>, Sums<G>),
    ) -> (Sums<G>, Sums<G>) {
        // SAFETY: the caller's promise.
        let (param, grad): (Few<E, G>, Few<E, G>) = unsafe { self.memory.load(at, count) };
        let grad: Sums<G> = wide(grad);
        let (square, columns) = (grad * grad, columns.cast::<Sums<G>>());
        // SAFETY: as above; a vector is its numbers in memory.
        unsafe { columns.write_unaligned(columns.read_unaligned() + square) };
        (of_row + square, add_squares(param, of_param))
    }
}

/// What the updates of a tile are made of.
pub(super) struct Factors<'a, E: Element> {
    pub memory: Memory<E>,
    pub grid: Grid,
    pub tile: Tile,
    pub scratch: Scratch<'a>,
    pub eps1: f64,
}

/// What is done with an update.
pub(super) trait Work<E: Element, G: Registers> {
    /// Does it with that of the `count` elements at `at`.
    ///
    /// # Safety
    ///
    /// They must be there, and nobody else may use what is written.
    unsafe fn on(&mut self, at: usize, count: usize, update: Few<E, G>);
}

impl<E: Element> Factors<'_, E> {
    /// Does `work` with each block.
    ///
    /// # Safety
    ///
    /// The tile must lie within the parameter, and nobody else may use what is written.
    #[inline(always)]
    unsafe fn each_block<G: Registers>(&self, work: &mut impl Work<E, G>) {
        let Self { grid, tile, scratch, eps1, .. } = self;
        let (begin, width) = (tile.columns.start, tile.columns.len());
        let whole = width / LANES * LANES;
        let limit = Few::<E, G>::lit(1.0 / eps1);
        let mut factors = [E::Compute::lit(0.0); WIDTH];
        for matrix in tile.matrices.clone() {
            let from = &scratch.columns[grid.column(matrix, 0) + begin..][..width];
            factors.iter_mut().zip(from).for_each(|(factor, from)| *factor = E::Compute::lit(get(from)));
            for row in tile.rows.clone() {
                let start = (matrix * grid.rows + row) * grid.columns + begin;
                let of_row = Few::<E, G>::lit(get(&scratch.rows[grid.row(matrix, row)]));
                // SAFETY: the caller's promise; all blocks of the factors are there.
                unsafe {
                    for at in (0..whole).step_by(LANES) {
                        let update = self.update::<G>(start + at, LANES, factors.as_ptr().add(at), of_row, limit);
                        work.on(start + at, LANES, update);
                    }
                    if whole < width {
                        let (at, count) = (start + whole, width - whole);
                        work.on(at, count, self.update::<G>(at, count, factors.as_ptr().add(whole), of_row, limit));
                    }
                }
            }
        }
    }

    /// The update of a block.
    ///
    /// # Safety
    ///
    /// The block must be there, and `LANES` factors.
    #[inline(always)]
    unsafe fn update<G: Registers>(
        &self,
        at: usize,
        count: usize,
        factors: *const E::Compute,
        of_row: Few<E, G>,
        limit: Few<E, G>,
    ) -> Few<E, G> {
        // SAFETY: the caller's promise; a vector is its numbers in memory.
        unsafe { self.limited::<G>(at, count, of_row * factors.cast::<Few<E, G>>().read_unaligned(), limit) }
    }

    /// The update of a block by its factors, which are `limit` at most.
    ///
    /// # Safety
    ///
    /// The block must be there.
    #[inline(always)]
    pub unsafe fn limited<G: Registers>(
        &self,
        at: usize,
        count: usize,
        factor: Few<E, G>,
        limit: Few<E, G>,
    ) -> Few<E, G> {
        // SAFETY: the caller's promise.
        let grad: Few<E, G> = unsafe { self.memory.grad(at, count) };
        grad * Few::<E, G>::if_less(limit, factor, limit, factor)
    }
}

/// The squares of a tile's updates.
pub(super) struct Size<'a, E: Element> {
    pub factors: Factors<'a, E>,
    pub squares: &'a AtomicU64,
}

/// Sums up squares.
pub(super) struct SumUp<G: Registers>(pub Sums<G>);

impl<E: Element, G: Registers> Work<E, G> for SumUp<G> {
    #[inline(always)]
    unsafe fn on(&mut self, _: usize, count: usize, update: Few<E, G>) {
        self.0 = add_squares(only(update, count), self.0);
    }
}

impl<E: Element> Kernel for Size<'_, E> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let mut sums = SumUp::<G>(zero());
        // SAFETY: the caller's promise.
        unsafe { self.factors.each_block::<G>(&mut sums) };
        put(self.squares, total(sums.0));
    }
}

/// A step on a tile: what is left of the parameter, and `scale` times the update.
pub(super) struct Update<'a, E: Element> {
    pub factors: Factors<'a, E>,
    pub decay: f64,
    pub scale: f64,
}

/// Steps.
pub(super) struct Step<'a, E: Element, G: Registers> {
    memory: &'a Memory<E>,
    decay: Few<E, G>,
    scale: Few<E, G>,
}

impl<'a, E: Element, G: Registers> Step<'a, E, G> {
    #[inline(always)]
    pub fn of(memory: &'a Memory<E>, decay: f64, scale: f64) -> Self {
        Self { memory, decay: Few::<E, G>::lit(decay), scale: Few::<E, G>::lit(scale) }
    }
}

impl<E: Element, G: Registers> Work<E, G> for Step<'_, E, G> {
    #[inline(always)]
    unsafe fn on(&mut self, at: usize, count: usize, update: Few<E, G>) {
        // SAFETY: the caller's promise.
        unsafe { self.memory.step(at, count, update, self.decay, self.scale) };
    }
}

impl<E: Element> Kernel for Update<'_, E> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let Self { factors, decay, scale } = self;
        let mut step = Step::<E, G>::of(&factors.memory, decay, scale);
        // SAFETY: the caller's promise.
        unsafe { factors.each_block::<G>(&mut step) };
    }
}
