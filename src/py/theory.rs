//! Bounds and scaling rules for Python. What users see is in `torchpace.control`.

use pyo3::prelude::*;

use crate::theory::{self, ScalingRule};

#[pyfunction]
pub fn max_stable_lr(
    lambda_max: f64,
    momentum: f64,
    dampening: f64,
    nesterov: bool,
    weight_decay: f64,
) -> PyResult<f64> {
    Ok(theory::max_stable_lr(lambda_max, momentum, dampening, nesterov, weight_decay)?)
}

#[pyfunction]
pub fn max_stable_lr_rmsprop(lambda_max: f64, momentum: f64) -> PyResult<f64> {
    Ok(theory::max_stable_lr_rmsprop(lambda_max, momentum)?)
}

#[pyfunction]
pub fn max_stable_lr_adam(lambda_max: f64, beta1: f64, decoupled_weight_decay: f64) -> PyResult<f64> {
    Ok(theory::max_stable_lr_adam(lambda_max, beta1, decoupled_weight_decay)?)
}

#[pyfunction]
pub fn scale_lr(lr: f64, batch: f64, to_batch: f64, rule: &str) -> PyResult<f64> {
    Ok(theory::scale_lr(lr, batch, to_batch, ScalingRule::named(rule)?)?)
}

#[pyfunction]
pub fn effective_lr(lr: f64, momentum: f64, dampening: f64) -> PyResult<f64> {
    Ok(theory::effective_lr(lr, momentum, dampening)?)
}

#[pyfunction]
pub fn retune(lr: f64, momentum: f64, to_momentum: f64) -> PyResult<f64> {
    Ok(theory::retune(lr, momentum, to_momentum)?)
}
