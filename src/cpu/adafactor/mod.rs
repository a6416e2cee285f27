//! Adafactor, whose second moment of a matrix is a mean for each row and one for each column: no rule on elements, but
//! three sweeps over each tensor.

mod collect;
mod grid;
mod kernel;
mod matrices;
mod means;
mod narrow;
mod operand;
mod run;
mod vectors;

pub use collect::Adafactor;
pub use operand::{Moments, Numbers, Operand};
