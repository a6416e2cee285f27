//! The CPU driver: applies a rule to the memory of many tensors at once.

mod batch;
mod isa;
mod sweep;
mod threads;

pub use batch::{Batch, Group, Ready};
pub use isa::Isa;
pub use threads::{Spawned, Threads};
