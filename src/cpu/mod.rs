//! The CPU driver: applies a rule to the memory of many tensors at once, or takes lists of them for vectors.

mod adafactor;
mod element;
mod isa;
mod lanes;
mod nested;
mod norm;
mod pack;
mod piece;
mod pool;
#[cfg(target_arch = "x86_64")]
mod registers;
mod run;
mod sums;
mod sweep;
mod threads;
mod vectors;

pub use adafactor::{Adafactor, Moments, Numbers, Operand};
pub use isa::Isa;
pub use pool::{ParallelFor, Piece, Pool, PoolThreads};
pub use threads::{Spawned, Threads};
pub use vectors::Pairs;
