//! The means of rows and columns, made of their sums.
#![allow(unsafe_code)]

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use super::super::element::{Element, Float};
use super::super::isa::{Kernel, Registers};
use super::super::lanes::{load, store};
use super::grid::Grid;
use super::kernel::{get, put};
use crate::number::Number;

/// Where a matrix's sums lie, and after [`Means`] the factors made of them.
#[derive(Clone, Copy)]
pub(super) struct Scratch<'a> {
    pub rows: &'a [AtomicU64],
    pub columns: &'a [AtomicU64],
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
        for matrix in matrices {
            let (mut mean, in_row, in_column) = (0.0, 1.0 / columns as f64, 1.0 / rows as f64);
            for row in 0..rows {
                let sums = &scratch.rows[grid.row(matrix, row)..][..across];
                let sum: f64 = sums.iter().map(get).sum();
                // SAFETY: the caller's promise: an element of a mean.
                let value = unsafe { lerp(row_var.add(matrix * rows + row), sum * in_row, new) };
                mean += value;
                put(&sums[0], value);
            }
            // As torch's clamp, through which NaN goes.
            let mean = Number::max(mean / rows as f64, eps1);
            for row in 0..rows {
                let at = &scratch.rows[grid.row(matrix, row)];
                put(at, (mean / get(at)).sqrt());
            }
            let first = grid.column(matrix, 0);
            for column in 0..columns {
                let sum: f64 = (0..down).map(|k| get(&scratch.columns[first + k * columns + column])).sum();
                // SAFETY: as above.
                let value = unsafe { lerp(col_var.add(matrix * columns + column), sum * in_column, new) };
                put(&scratch.columns[first + column], 1.0 / value.sqrt());
            }
        }
    }
}

/// Moves an element by the share `new` to `mean`; where it is then, before it is rounded.
///
/// # Safety
///
/// It must be there, and nobody else may use it.
#[inline(always)]
unsafe fn lerp<E: Element>(at: *mut E, mean: f64, new: f64) -> f64 {
    // SAFETY: the caller's promise.
    unsafe {
        let [before] = load::<E, 1>(at, 1);
        let value = mean.mul_add(new, (1.0 - new) * before.to_f64());
        store::<E, 1>(at, &[E::Compute::lit(value)], 1);
        value
    }
}
