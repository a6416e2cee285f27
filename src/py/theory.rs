//! Bounds and scaling rules for Python. What users see is in `torchpace.control`.

use pyo3::prelude::*;

use super::arguments::{flag, numbers, text};
use crate::theory::{self, ScalingRule};

/// An argument, of which nothing is known yet.
type Any<'py> = Bound<'py, PyAny>;

#[pyfunction]
pub fn max_stable_lr(
    lambda_max: &Any<'_>,
    momentum: &Any<'_>,
    dampening: &Any<'_>,
    nesterov: &Any<'_>,
    weight_decay: &Any<'_>,
) -> PyResult<f64> {
    numbers!("max_stable_lr": lambda_max, momentum, dampening, weight_decay);
    let nesterov = flag("max_stable_lr: nesterov", nesterov)?;
    Ok(theory::max_stable_lr(lambda_max, momentum, dampening, nesterov, weight_decay)?)
}

#[pyfunction]
pub fn max_stable_lr_rmsprop(lambda_max: &Any<'_>, momentum: &Any<'_>) -> PyResult<f64> {
    numbers!("max_stable_lr_rmsprop": lambda_max, momentum);
    Ok(theory::max_stable_lr_rmsprop(lambda_max, momentum)?)
}

#[pyfunction]
pub fn max_stable_lr_adam(lambda_max: &Any<'_>, beta1: &Any<'_>, decoupled_weight_decay: &Any<'_>) -> PyResult<f64> {
    numbers!("max_stable_lr_adam": lambda_max, beta1, decoupled_weight_decay);
    Ok(theory::max_stable_lr_adam(lambda_max, beta1, decoupled_weight_decay)?)
}

#[pyfunction]
pub fn scale_lr(lr: &Any<'_>, batch: &Any<'_>, to_batch: &Any<'_>, rule: &Any<'_>) -> PyResult<f64> {
    numbers!("scale_lr": lr, batch, to_batch);
    Ok(theory::scale_lr(lr, batch, to_batch, ScalingRule::named(&text("scale_lr: rule", rule)?)?)?)
}

#[pyfunction]
pub fn effective_lr(lr: &Any<'_>, momentum: &Any<'_>, dampening: &Any<'_>) -> PyResult<f64> {
    numbers!("effective_lr": lr, momentum, dampening);
    Ok(theory::effective_lr(lr, momentum, dampening)?)
}

#[pyfunction]
pub fn retune(lr: &Any<'_>, momentum: &Any<'_>, to_momentum: &Any<'_>) -> PyResult<f64> {
    numbers!("retune": lr, momentum, to_momentum);
    Ok(theory::retune(lr, momentum, to_momentum)?)
}
