//! The sweeps over tiles of matrices with fewer columns than lanes: blocks then run over many rows.
#![allow(unsafe_code)]

use core::ops::Range;

use super::super::element::Element;
use super::super::isa::{Kernel, Registers};
use super::super::nested::LANES;
use super::super::pack::Vector;
use super::grid::{Grid, Tile, WIDTH};
use super::kernel::{Few, Memory, Sums, add_squares, get, put, total, wide, zero};
use super::matrices::{Factors, Size, Squares, Step, SumUp, Update, Work};
use crate::number::Number;

/// What is done with a tile, done on narrow matrices.
pub(super) struct Narrow<K>(pub K);

impl<E: Element> Kernel for Narrow<Squares<'_, E>> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let Squares { memory, grid, tile, scratch, squares } = self.0;
        let (mut all, mut columns, mut of_param) = ([0.0_f64; WIDTH], [0.0_f64; LANES], zero::<Sums<G>>());
        let (mut matrix, mut left) = (tile.matrices.start, tile.rows.len());
        for rows in some_rows(&grid, &tile) {
            let (start, len) = (rows.start * grid.columns, rows.len() * grid.columns);
            let whole = len / LANES * LANES;
            // SAFETY: the caller's promise: the tile lies within the parameter; its blocks in the array, whose length is a
            // multiple of theirs.
            unsafe {
                for at in (0..whole).step_by(LANES) {
                    of_param = block::<E, G>(&memory, start + at, LANES, all.as_mut_ptr().add(at), of_param);
                }
                if whole < len {
                    let into = all.as_mut_ptr().add(whole);
                    of_param = block::<E, G>(&memory, start + whole, len - whole, into, of_param);
                }
            }
            for (row, own) in rows.zip(all.chunks_exact(grid.columns)) {
                let mut of_row = 0.0;
                for (column, square) in columns.iter_mut().zip(own) {
                    *column += square;
                    of_row += square;
                }
                put(&scratch.rows[row], of_row);
                left -= 1;
                if left == 0 {
                    let into = &scratch.columns[grid.column(matrix, tile.down)..][..grid.columns];
                    into.iter().zip(columns).for_each(|(at, sum)| put(at, sum));
                    columns = [0.0; LANES];
                    (matrix, left) = (matrix + 1, tile.rows.len());
                }
            }
        }
        put(squares, total(of_param));
    }
}

/// Writes the squares of a block's gradients, and adds those of its parameters to sums.
///
/// # Safety
///
/// The block must be there, and room for `LANES` squares.
#[inline(always)]
unsafe fn block<E: Element, G: Registers>(
    memory: &Memory<E>,
    at: usize,
    count: usize,
    into: *mut f64,
    sums: Sums<G>,
) -> Sums<G> {
    // SAFETY: the caller's promise; a vector is its numbers in memory.
    unsafe {
        let (param, grad): (Few<E, G>, Few<E, G>) = memory.load(at, count);
        let grad: Sums<G> = wide(grad);
        into.cast::<Sums<G>>().write_unaligned(grad * grad);
        add_squares(param, sums)
    }
}

impl<E: Element> Kernel for Narrow<Size<'_, E>> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let mut sums = SumUp::<G>(zero());
        // SAFETY: the caller's promise.
        unsafe { each_block::<E, G>(&self.0.factors, &mut sums) };
        put(self.0.squares, total(sums.0));
    }
}

impl<E: Element> Kernel for Narrow<Update<'_, E>> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let Update { factors, decay, scale } = self.0;
        let mut step = Step::<E, G>::of(&factors.memory, decay, scale);
        // SAFETY: the caller's promise.
        unsafe { each_block::<E, G>(&factors, &mut step) };
    }
}

/// Does `work` with the update of each block.
///
/// # Safety
///
/// The tile must lie within the parameter, and nobody else may use what is written.
#[inline(always)]
unsafe fn each_block<E: Element, G: Registers>(factors: &Factors<'_, E>, work: &mut impl Work<E, G>) {
    let Factors { grid, tile, scratch, eps1, .. } = factors;
    let limit = Few::<E, G>::lit(1.0 / eps1);
    let (mut all, mut columns) = ([E::Compute::lit(1.0); WIDTH], [E::Compute::lit(1.0); LANES]);
    let (mut matrix, mut left) = (tile.matrices.start, 0);
    for rows in some_rows(grid, tile) {
        let (start, len) = (rows.start * grid.columns, rows.len() * grid.columns);
        for (row, own) in rows.zip(all.chunks_exact_mut(grid.columns)) {
            if left == 0 {
                let from = &scratch.columns[grid.column(matrix, 0)..][..grid.columns];
                columns.iter_mut().zip(from).for_each(|(factor, from)| *factor = E::Compute::lit(get(from)));
                (matrix, left) = (matrix + 1, tile.rows.len());
            }
            left -= 1;
            let of_row = E::Compute::lit(get(&scratch.rows[row]));
            own.iter_mut().zip(columns).for_each(|(factor, of_column)| *factor = of_row * of_column);
        }
        let whole = len / LANES * LANES;
        // SAFETY: the caller's promise; all blocks of the factors are there.
        unsafe {
            for at in (0..whole).step_by(LANES) {
                let factor = Few::<E, G>::from_lanes(all.as_ptr().add(at).cast::<[E::Compute; LANES]>().read());
                work.on(start + at, LANES, factors.limited::<G>(start + at, LANES, factor, limit));
            }
            if whole < len {
                let factor = Few::<E, G>::from_lanes(all.as_ptr().add(whole).cast::<[E::Compute; LANES]>().read());
                let (at, count) = (start + whole, len - whole);
                work.on(at, count, factors.limited::<G>(at, count, factor, limit));
            }
        }
    }
}

/// A tile's rows, counted through all matrices, as many at a time as an array of `WIDTH` elements holds.
#[inline(always)]
fn some_rows(grid: &Grid, tile: &Tile) -> impl Iterator<Item = Range<usize>> + use<> {
    let first = tile.matrices.start * grid.rows + tile.rows.start;
    let end = (tile.matrices.end - 1) * grid.rows + tile.rows.end;
    let most = WIDTH / grid.columns;
    (first..end).step_by(most).map(move |row| row..(row + most).min(end))
}
