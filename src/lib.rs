//! Fused optimizer steps for PyTorch tensors, and learning-rate schedules.
//!
//! An update rule is written once ([`rules`]), generic over its arithmetic ([`number`]); a driver ([`cpu`]) walks the
//! memory of all tensors ([`tensor`]) and applies it. A schedule ([`schedule`]) is a function of the step. The Python face
//! (`py`) only converts.
//!
//! Arrows point down only: `py` -> `cpu`, `rules`, `schedule` -> `tensor`, [`rule`] -> [`number`], [`error`].

pub mod cpu;
pub mod error;
pub mod number;
pub mod rule;
pub mod rules;
pub mod schedule;
pub mod tensor;

#[cfg(feature = "python")]
mod py;
