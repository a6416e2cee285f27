//! A step of Adafactor, whose parameters Python has collected.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::arguments::float;
use super::describe::describe;
use super::options::GroupOptions;
use super::plain::{Lists, MUCH};
use super::torch::Torch;
use crate::batch::Unfit;
use crate::cpu::{Adafactor, Moments, Numbers, Operand};
use crate::error::Error;
use crate::rule::Options;
use crate::tensor::{Refusal, View};

/// Steps on the parameters at `places` (group and place in it). `tensors` are for each of them the parameter, its gradient,
/// its step count, and its state: `variance`, or `row_var` and `col_var`. Gradients are multiplied by `unscale`, in memory
/// too, and then by `factor`.
///
/// None, and no places, if it is done. Else nothing was written: the reason, and which of the places are left to torch; none
/// where all are.
#[pyfunction]
pub fn step_adafactor<'py>(
    groups: Vec<Bound<'py, PyDict>>,
    places: Vec<(usize, usize)>,
    tensors: Vec<Vec<Bound<'py, PyAny>>>,
    unscale: Option<f64>,
    factor: f64,
    threads: usize,
) -> PyResult<(Option<String>, Vec<usize>)> {
    let Some(py) = groups.first().map(|group| group.py()) else { return Ok((None, Vec::new())) };
    let torch = Torch::get(py)?;
    let groups: Vec<_> =
        groups.into_iter().enumerate().map(|(index, group)| GroupOptions::new(torch, group, index)).collect();
    let mut numbers = vec![None; groups.len()];
    for &(group, _) in &places {
        if let (Some(options), Some(numbers @ None)) = (groups.get(group), numbers.get_mut(group)) {
            *numbers = Some(read(options)?);
        }
    }
    let mut lists = Vec::with_capacity(tensors.len());
    for own in &tensors {
        lists.push(Lists::of(torch, &[own])?);
    }
    let views = lists.iter().map(|list| list.as_ref().map_or(Ok(None), |list| list.views(py, torch)));
    // From the last reading on no Python code runs, so what was read stays true; where some ran, all is refused.
    let views = views.collect::<PyResult<Vec<_>>>()?;
    let mut step = Adafactor::new(unscale, factor);
    let (mut reason, mut left) = (None, Vec::new());
    for (k, (views, &(group, at))) in views.iter().zip(&places).enumerate() {
        let place = || groups.get(group).map_or_else(String::new, |options| options.place_of(at));
        let (Some(Some(numbers)), Some(operand)) =
            (numbers.get(group), views.as_ref().and_then(|views| operand(views)))
        else {
            reason.get_or_insert_with(|| format!("{}: a tensor is not plain memory", place()));
            left.push(k);
            continue;
        };
        match step.push(numbers, &operand, place) {
            Ok(()) => {}
            Err(Unfit::Wrong(error)) => return Err(error.into()),
            Err(Unfit::Refused(name, refusal)) => {
                if refusal == Refusal::Memory && has_freed(&tensors[k])? {
                    let expected = operand.param.len();
                    return Err(Error::FreedStorage { place: place(), name, expected }.into());
                }
                reason.get_or_insert_with(|| format!("{}: {name} {refusal}", place()));
                left.push(k);
            }
        }
    }
    if reason.is_some() {
        return Ok((reason, left));
    }
    if !step.is_apart() {
        return Ok((Some("tensors of the step share memory".to_owned()), Vec::new()));
    }
    let threads = torch.threads(threads);
    if step.total() < MUCH {
        step.run(&threads);
    } else {
        py.detach(|| step.run(&threads));
    }
    let written = PyList::empty(py);
    for own in &tensors {
        for (k, tensor) in own.iter().enumerate() {
            // The gradient only if it was unscaled.
            if k != 1 || unscale.is_some() {
                written.append(tensor)?;
            }
        }
    }
    torch.increment_version(&written)?;
    Ok((None, Vec::new()))
}

/// A parameter's tensors by their places.
fn operand<'a>(views: &[Vec<View<'a>>]) -> Option<Operand<'a>> {
    let (&[param, grad, step, first], second) = views.first()?.split_first_chunk()?;
    let moments = second.first().map_or(Moments::Each(first), |&second| Moments::Means(first, second));
    Some(Operand { param, grad, step, moments })
}

fn has_freed(tensors: &[Bound<'_, PyAny>]) -> PyResult<bool> {
    for tensor in tensors {
        let (elements, bytes) = (
            tensor.call_method0("numel")?.extract::<usize>()?,
            tensor.call_method0("untyped_storage")?.call_method0("nbytes")?.extract::<usize>()?,
        );
        if elements > 0 && bytes == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A group's options.
fn read(options: &GroupOptions<'_>) -> PyResult<Numbers> {
    let (eps1, eps2) = eps(options)?;
    Ok(Numbers {
        lr: options.number("lr")?,
        beta2_decay: options.number("beta2_decay")?,
        eps1,
        eps2,
        d: options.number("d")?,
        weight_decay: options.number("weight_decay")?,
        maximize: options.flag("maximize")?,
        clip_value: options.bound("clip_value")?,
    })
}

fn eps(options: &GroupOptions<'_>) -> PyResult<(Option<f64>, f64)> {
    let (place, name) = (options.place(), "eps");
    let Some(value) = options.dict().get_item(name)? else { return Err(Error::MissingOption { place, name }.into()) };
    let both = || -> PyResult<_> {
        let all = value.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let [first, second] = &all[..] else { return Err(PyTypeError::new_err(())) };
        Ok((if first.is_none() { None } else { Some(float(first)?) }, float(second)?))
    };
    both().map_err(|_| {
        let expected = "None or a number, and a number";
        Error::OptionType { place, name, found: describe(&value), expected }.into()
    })
}
