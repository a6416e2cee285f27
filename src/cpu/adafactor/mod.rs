//! Adafactor, whose second moment of a matrix is a mean for each row and one for each column: no rule on elements, but
//! three sweeps over each tensor.

mod collect;
mod grid;
mod kernel;
mod matrices;
mod narrow;
mod run;
mod vectors;

pub use collect::{Adafactor, Moments, Numbers, Operand};
