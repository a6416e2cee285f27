//! The Python face: conversion only.

mod adafactor;
mod arguments;
mod call;
mod describe;
mod end;
mod error;
mod function;
mod functional;
mod grads;
mod list;
mod lr_scheduler;
mod optimizer;
mod options;
mod plain;
mod plan;
mod schedule;
mod step;
mod theory;
mod torch;
mod vectors;

use pyo3::prelude::*;

/// The compiled core of torchpace. Its Python face is `torchpace.optim`, `torchpace.schedule` and `torchpace.control`.
#[pymodule(name = "_native")]
mod native {
    #[pymodule_export]
    use super::adafactor::step_adafactor;
    #[pymodule_export]
    use super::arguments::number;
    #[pymodule_export]
    use super::functional::step_on_lists;
    #[pymodule_export]
    use super::grads::clear_grads;
    #[pymodule_export]
    use super::lr_scheduler::{Formula, advance, observe};
    #[pymodule_export]
    use super::optimizer::Plan;
    #[pymodule_export]
    use super::schedule::Schedule;
    #[pymodule_export]
    use super::theory::{effective_lr, max_stable_lr, max_stable_lr_adam, max_stable_lr_rmsprop, retune, scale_lr};
    #[pymodule_export]
    use super::vectors::{axpy, dot, scale};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // Fails here, at import, where torch's interface is not the one this was built for.
        super::torch::Torch::get(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
