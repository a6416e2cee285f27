//! Fused optimizer steps for PyTorch tensors, and learning-rate schedules.
//!
//! An update rule is written once ([`rules`]), generic over its arithmetic ([`number`]). A step over all parameters of a
//! device is collected and checked ([`batch`]) from their memory ([`tensor`]); then a driver runs it: one ([`cpu`]) walks
//! that memory, the other ([`cuda`]) makes kernels of the rules. A schedule ([`schedule`]) is a function of the step; torch's
//! schedulers go from step to step in torch's own arithmetic ([`lr_scheduler`]). What is known of rates that are stable is
//! in [`theory`]. The Python face (`py`) only converts; the Rust face (`tch`, a feature) has the optimizers over the tensors
//! of the crate tch.
//!
//! Arrows point down only: `py`, `tch` -> `cpu`, `cuda`, `rules`, `schedule`, `lr_scheduler`, `theory` -> `batch` ->
//! `tensor`, [`rule`] -> [`number`], [`error`].

#![deny(missing_docs)]

pub mod batch;
mod check;
pub mod cpu;
pub mod cuda;
pub mod error;
pub mod lr_scheduler;
pub mod number;
pub mod rule;
pub mod rules;
pub mod schedule;
pub mod tensor;
pub mod theory;

#[cfg(feature = "python")]
mod py;
#[cfg(feature = "simulated")]
extern crate self as torchpace;
#[cfg(feature = "tch")]
pub mod tch;
