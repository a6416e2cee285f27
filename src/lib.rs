//! Fused optimizer steps for PyTorch tensors.
//!
//! An update rule is written once ([`rules`]), generic over its arithmetic ([`number`]); a driver ([`cpu`]) walks the
//! memory of all tensors ([`tensor`]) and applies it. The Python face (`py`) only converts.
//!
//! Arrows point down only: `py` -> `cpu`, `rules` -> `tensor`, [`rule`] -> [`number`], [`error`].

pub mod cpu;
pub mod error;
pub mod number;
pub mod rule;
pub mod rules;
pub mod tensor;

#[cfg(feature = "python")]
mod py;
