//! A parameter cut into tiles, by its shape alone: so no bit depends on the threads.

use core::ops::Range;

/// The most columns of a tile: their sums lie on the stack.
pub(super) const WIDTH: usize = 512;

/// About the elements of a tile.
const TILE: usize = 1 << 15;

/// A parameter as matrices: those of the last two dimensions, one for each index of the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub count: usize,
    pub rows: usize,
    pub columns: usize,
    /// The rows of a tile.
    height: usize,
    /// The tiles of a matrix, one below the other and side by side.
    pub down: usize,
    pub across: usize,
    /// The matrices of a tile, if each is one tile or less.
    together: usize,
}

/// A part of each of some matrices.
#[derive(Debug, Clone)]
pub(super) struct Tile {
    pub matrices: Range<usize>,
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    /// Its place in the matrix, counted in tiles.
    pub down: usize,
    pub across: usize,
}

impl Grid {
    /// The grid of a shape with at least two dimensions, and elements.
    pub fn of(shape: &[usize]) -> Self {
        let (&columns, rest) = shape.split_last().unwrap_or((&1, &[]));
        let (&rows, rest) = rest.split_last().unwrap_or((&1, &[]));
        let height = TILE / columns.min(WIDTH);
        let (down, across) = (rows.div_ceil(height), columns.div_ceil(WIDTH));
        let together = if down * across == 1 { TILE / (rows * columns) } else { 1 };
        Self { count: rest.iter().product(), rows, columns, height, down, across, together }
    }

    /// How many tiles there are.
    pub fn tiles(&self) -> usize {
        self.count.div_ceil(self.together) * self.down * self.across
    }

    /// The `k`th of them.
    pub fn tile(&self, k: usize) -> Tile {
        let (first, within) = (k / (self.down * self.across), k % (self.down * self.across));
        let (down, across) = (within / self.across, within % self.across);
        let part = |at: usize, length: usize, of: usize| at * length..((at + 1) * length).min(of);
        Tile {
            matrices: part(first, self.together, self.count),
            rows: part(down, self.height, self.rows),
            columns: part(across, WIDTH, self.columns),
            down,
            across,
        }
    }

    /// How many sums all rows have: one for each tile that they run through.
    pub fn row_sums(&self) -> usize {
        self.count * self.rows * self.across
    }

    /// The same of all columns.
    pub fn column_sums(&self) -> usize {
        self.count * self.columns * self.down
    }

    /// Where the first of a row's sums is; the others follow.
    pub fn row(&self, matrix: usize, row: usize) -> usize {
        (matrix * self.rows + row) * self.across
    }

    /// Where those of the first column in a row of tiles are; the other columns' follow.
    pub fn column(&self, matrix: usize, down: usize) -> usize {
        (matrix * self.down + down) * self.columns
    }
}

/// The stretches that a parameter without matrices is cut into.
pub(super) fn stretches(len: usize) -> usize {
    len.div_ceil(TILE)
}

/// The `k`th of them.
pub(super) fn stretch(len: usize, k: usize) -> Range<usize> {
    k * TILE..((k + 1) * TILE).min(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tiles_cover_all_once(
            count in 1_usize..40,
            rows in prop::sample::select(vec![1_usize, 2, 3, 17, 64, 65, 700, 40_000]),
            columns in prop::sample::select(vec![1_usize, 2, 3, 16, 511, 512, 513, 1100, 40_000]),
        ) {
            prop_assume!(rows * columns < 200_000);
            let count = if rows * columns > 10_000 { 2 } else { count };
            let grid = Grid::of(&[count, rows, columns]);
            let mut seen = vec![0_u8; count * rows * columns];
            for k in 0..grid.tiles() {
                let tile = grid.tile(k);
                prop_assert!(tile.columns.len() <= WIDTH);
                prop_assert!(tile.matrices.len() * tile.rows.len() * tile.columns.len() <= TILE);
                for matrix in tile.matrices {
                    for row in tile.rows.clone() {
                        for column in tile.columns.clone() {
                            seen[(matrix * rows + row) * columns + column] += 1;
                        }
                    }
                }
            }
            prop_assert!(seen.iter().all(|&times| times == 1));
        }
    }
}
