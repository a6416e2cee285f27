//! Fused optimizer steps for PyTorch tensors.
//!
//! An update rule is written once ([`rules`]), generic over its arithmetic ([`number`]); a driver ([`cpu`]) walks the
//! memory of all tensors ([`tensor`]) and applies it. Learning rates come from [`lr_scheduler`]. The Python face (`py`)
//! only converts.
//!
//! Arrows point down only: `py` -> `cpu`, `rules`, [`lr_scheduler`]; `cpu`, `rules` -> `tensor`, [`rule`] -> [`number`], [`error`].

pub mod cpu;
pub mod error;
pub mod lr_scheduler;
pub mod number;
pub mod rule;
pub mod rules;
pub mod tensor;

#[cfg(feature = "python")]
mod py;
