//! The sweeps over tiles of matrices: sums of squares by rows and columns; those of the update; the update itself.
#![allow(unsafe_code)]

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use super::super::element::{Element, Float};
use super::super::isa::{Kernel, Registers};
use super::super::lanes::{load, store};
use super::super::nested::LANES;
use super::grid::{Grid, Tile, WIDTH};
use super::kernel::{Few, Memory, Sums, add_squares, get, only, put, total, wide, zero};
use crate::number::Number;

/// Where a matrix's sums lie, and after [`Means`] the factors made of them.
#[derive(Clone, Copy)]
pub(super) struct Scratch<'a> {
    pub rows: &'a [AtomicU64],
    pub columns: &'a [AtomicU64],
}

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
        let Self { memory, grid, tile, scratch, squares } = self;
        let (begin, width) = (tile.columns.start, tile.columns.len());
        let (mut columns, mut of_param) = ([0.0_f64; WIDTH], zero::<Sums<G>>());
        for matrix in tile.matrices.clone() {
            columns[..width.next_multiple_of(LANES)].fill(0.0);
            for row in tile.rows.clone() {
                let start = (matrix * grid.rows + row) * grid.columns + begin;
                let mut of_row = zero::<Sums<G>>();
                each_block(width, |at, count| {
                    // SAFETY: the caller's promise: the tile lies within the parameter, and the block in the columns.
                    unsafe {
                        let (param, grad): (Few<E, G>, Few<E, G>) = memory.load(start + at, count);
                        of_param = add_squares(param, of_param);
                        let grad: Sums<G> = wide(grad);
                        let square = grad * grad;
                        of_row = of_row + square;
                        let sum = columns.as_mut_ptr().add(at).cast::<Sums<G>>();
                        sum.write_unaligned(sum.read_unaligned() + square);
                    }
                });
                put(&scratch.rows[grid.row(matrix, row) + tile.across], total(of_row));
            }
            let into = &scratch.columns[grid.column(matrix, tile.down) + begin..][..width];
            into.iter().zip(columns).for_each(|(at, sum)| put(at, sum));
        }
        put(squares, total(of_param));
    }
}

/// The means of some matrices made of the sums, and in their place the factors of the update: `g` times a row's and a
/// column's is `g / sqrt(v)`.
pub(super) struct Means<'a, E> {
    pub row_var: *mut E,
    pub col_var: *mut E,
    pub grid: Grid,
    pub matrices: Range<usize>,
    pub scratch: Scratch<'a>,
    /// The share of a mean that is new.
    pub new: f64,
    pub eps1: f64,
}

impl<E: Element> Kernel for Means<'_, E> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let Self { row_var, col_var, grid, matrices, scratch, new, eps1 } = self;
        let Grid { rows, columns, down, across, .. } = grid;
        // SAFETY: the caller's promise, for an element of a mean.
        let lerp = |at: *mut E, mean: f64| unsafe {
            let [before] = load::<E, 1>(at, 1);
            let value = mean.fma(new, (1.0 - new) * before.to_f64());
            store::<E, 1>(at, &[E::Compute::lit(value)], 1);
            value
        };
        for matrix in matrices {
            let mut mean = 0.0;
            for row in 0..rows {
                let sums = &scratch.rows[grid.row(matrix, row)..][..across];
                let sum: f64 = sums.iter().map(get).sum();
                let value = lerp(row_var.wrapping_add(matrix * rows + row), sum / columns as f64);
                mean += value / rows as f64;
                put(&sums[0], value);
            }
            // As torch's clamp, through which NaN goes.
            let mean = Number::max(mean, eps1);
            for row in 0..rows {
                let at = &scratch.rows[grid.row(matrix, row)];
                put(at, (mean / get(at)).sqrt());
            }
            let first = grid.column(matrix, 0);
            for column in 0..columns {
                let sum: f64 = (0..down).map(|k| get(&scratch.columns[first + k * columns + column])).sum();
                let value = lerp(col_var.wrapping_add(matrix * columns + column), sum / rows as f64);
                put(&scratch.columns[first + column], 1.0 / value.sqrt());
            }
        }
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

impl<E: Element> Factors<'_, E> {
    /// Calls `work` with each block's place and number, and its update.
    ///
    /// # Safety
    ///
    /// The tile must lie within the parameter.
    #[inline(always)]
    unsafe fn each_update<G: Registers>(&self, mut work: impl FnMut(usize, usize, Few<E, G>)) {
        let Self { memory, grid, tile, scratch, eps1 } = self;
        let (begin, width) = (tile.columns.start, tile.columns.len());
        let limit = Few::<E, G>::lit(1.0 / eps1);
        let mut factors = [E::Compute::lit(0.0); WIDTH];
        for matrix in tile.matrices.clone() {
            let from = &scratch.columns[grid.column(matrix, 0) + begin..][..width];
            factors.iter_mut().zip(from).for_each(|(factor, from)| *factor = E::Compute::lit(get(from)));
            for row in tile.rows.clone() {
                let start = (matrix * grid.rows + row) * grid.columns + begin;
                let of_row = Few::<E, G>::lit(get(&scratch.rows[grid.row(matrix, row)]));
                each_block(width, |at, count| {
                    // SAFETY: the caller's promise; all blocks of the factors are there.
                    unsafe {
                        let of_columns = factors.as_ptr().add(at).cast::<Few<E, G>>().read_unaligned();
                        let factor = of_row * of_columns;
                        let factor = Few::<E, G>::if_less(limit, factor, limit, factor);
                        work(start + at, count, memory.grad::<Few<E, G>>(start + at, count) * factor);
                    }
                });
            }
        }
    }
}

/// The squares of a tile's updates.
pub(super) struct Size<'a, E: Element> {
    pub factors: Factors<'a, E>,
    pub squares: &'a AtomicU64,
}

impl<E: Element> Kernel for Size<'_, E> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let mut sums = zero::<Sums<G>>();
        // SAFETY: the caller's promise.
        unsafe { self.factors.each_update::<G>(|_, count, update| sums = add_squares(only(update, count), sums)) };
        put(self.squares, total(sums));
    }
}

/// A step on a tile: what is left of the parameter, and `scale` times the update.
pub(super) struct Update<'a, E: Element> {
    pub factors: Factors<'a, E>,
    pub decay: f64,
    pub scale: f64,
}

impl<E: Element> Kernel for Update<'_, E> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let (decay, scale) = (Few::<E, G>::lit(self.decay), Few::<E, G>::lit(self.scale));
        // SAFETY: the caller's promise.
        unsafe {
            self.factors.each_update::<G>(|at, count, update| self.factors.memory.step(at, count, update, decay, scale));
        }
    }
}

/// Calls `work` with the beginning and the number of each block. The whole ones by themselves: so their number is known to
/// the compiler.
#[inline(always)]
fn each_block(width: usize, mut work: impl FnMut(usize, usize)) {
    let whole = width / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        work(at, LANES);
    }
    if whole < width {
        work(whole, width - whole);
    }
}
