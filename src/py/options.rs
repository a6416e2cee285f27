//! A parameter group's dict as the options of a rule.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::arguments::float;
use super::describe::describe;
use super::torch::{Tensor, Torch};
use crate::batch::{Clip, DeviceNumber, Nonfinite};
use crate::error::Error;
use crate::rule::Options;
use crate::tensor::{Device, Dtype};

/// A parameter group.
pub struct GroupOptions<'py> {
    torch: &'py Torch,
    group: Bound<'py, PyDict>,
    index: usize,
}

impl<'py> GroupOptions<'py> {
    /// The group `param_groups[index]`.
    pub fn new(torch: &'py Torch, group: Bound<'py, PyDict>, index: usize) -> Self {
        Self { torch, group, index }
    }

    /// The dict.
    pub fn dict(&self) -> &Bound<'py, PyDict> {
        &self.group
    }

    /// Its parameters.
    pub fn params(&self) -> PyResult<Bound<'py, PyList>> {
        self.value("params")?.cast_into::<PyList>().or_else(|other| {
            let iterable = other.into_inner();
            Ok(iterable.py().get_type::<PyList>().call1((iterable,))?.cast_into()?)
        })
    }

    /// Its parameters, if they are in a list. Runs no Python code.
    pub fn listed_params(&self) -> PyResult<Option<Bound<'py, PyList>>> {
        Ok(self.value("params")?.cast_into::<PyList>().ok())
    }

    /// Its name in a message.
    pub fn place(&self) -> String {
        format!("param_groups[{}]", self.index)
    }

    /// The name of a parameter in a message, with the name that the user gave it, if any.
    pub fn place_of(&self, param: usize) -> String {
        let place = format!("{}['params'][{param}]", self.place());
        match self.group.get_item("param_names").ok().flatten().and_then(|names| names.get_item(param).ok()) {
            Some(name) => format!("{place} ({name})"),
            None => place,
        }
    }

    /// An option under which only torch's own code steps.
    pub fn torch_only(&self) -> PyResult<Option<&'static str>> {
        let set = |name: &str| self.group.get_item(name)?.map_or(Ok(false), |value| value.is_truthy());
        if set("differentiable")? {
            return Ok(Some("differentiable=True"));
        }
        // torch refuses it for some optimizers, in its own words.
        if set("foreach")?
            && !set("capturable")?
            && self.group.get_item("lr")?.map_or(Ok(false), |lr| self.torch.is_tensor(&lr))?
        {
            return Ok(Some("foreach=True and a tensor lr"));
        }
        if let Some(betas) = self.group.get_item("betas")? {
            for beta in betas.try_iter().into_iter().flatten() {
                if self.is_on_gpu(&beta?)? {
                    return Ok(Some("betas on a GPU"));
                }
            }
        }
        Ok(None)
    }

    /// Whether a graph may capture the step; `None` where the optimizer does not ask.
    pub fn capturable(&self) -> PyResult<Option<bool>> {
        self.group.get_item("capturable")?.map(|value| value.is_truthy()).transpose()
    }

    /// Whether new step counts are made on the parameter's device, as torch makes them.
    pub fn counts_on_device(&self) -> PyResult<bool> {
        let set = |name| self.group.get_item(name)?.map_or(Ok(false), |value| value.is_truthy());
        Ok(set("fused")? || set("capturable")?)
    }

    /// The learning rate, if it is one number in a GPU's memory, with the tensor.
    pub fn lr_on_gpu(&self) -> PyResult<Option<(Tensor, Device, DeviceNumber)>> {
        let lr = self.value("lr")?;
        let Some(tensor) = self.torch.plain(&lr).filter(|_| self.is_on_gpu(&lr).unwrap_or(false)) else {
            return Ok(None);
        };
        let Ok(view) = self.torch.memory(lr.py(), &tensor) else { return Ok(None) };
        let (device, dtype, at) = (view.device(), view.dtype(), view.data().addr() as u64);
        let fits = view.len() == 1 && matches!(dtype, Dtype::F32 | Dtype::F64) && matches!(device, Device::Cuda(_));
        Ok(if fits { Some((tensor, device, DeviceNumber { at, dtype })) } else { None })
    }

    fn is_on_gpu(&self, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        #[cfg(feature = "simulated")]
        if super::torch::simulated::device_of(0) != Device::Cpu {
            return self.torch.is_tensor(value);
        }
        Ok(self.torch.is_tensor(value)? && value.getattr(intern!(value.py(), "is_cuda"))?.is_truthy()?)
    }

    /// How the norm of all gradients clips and skips.
    pub fn clip(&self) -> Result<Clip, Error> {
        let mut clip = Clip::OFF;
        (clip.max_norm, clip.nonfinite) = (self.bound("max_grad_norm")?, self.nonfinite()?);
        clip.skip_norm = self.bound("skip_grad_norm")?;
        if clip.skip_norm == Some(0.0) {
            return Err(self.wrong("skip_grad_norm", &self.value("skip_grad_norm")?, "None or a number > 0"));
        }
        Ok(clip)
    }

    /// A bound, if there is one: an option that torch lacks, and so its checkpoints.
    pub fn bound(&self, name: &'static str) -> Result<Option<f64>, Error> {
        let Some(value) = self.group.get_item(name).ok().flatten().filter(|value| !value.is_none()) else {
            return Ok(None);
        };
        match float(&value) {
            Ok(bound) if bound >= 0.0 => Ok(Some(bound)),
            _ => Err(self.wrong(name, &value, "None or a number >= 0")),
        }
    }

    /// What a norm that is not finite does.
    fn nonfinite(&self) -> Result<Nonfinite, Error> {
        let Some(value) = self.group.get_item("nonfinite_norm").ok().flatten() else { return Ok(Nonfinite::Propagate) };
        match value.extract::<&str>() {
            Ok("propagate") => Ok(Nonfinite::Propagate),
            Ok("skip") => Ok(Nonfinite::Skip),
            Ok("raise") => Ok(Nonfinite::Raise),
            _ => Err(self.wrong("nonfinite_norm", &value, "'propagate', 'skip' or 'raise'")),
        }
    }

    fn value(&self, name: &'static str) -> Result<Bound<'py, PyAny>, Error> {
        let found = self.group.get_item(name).ok().flatten();
        found.ok_or_else(|| Error::MissingOption { place: self.place(), name })
    }

    fn wrong(&self, name: &'static str, value: &Bound<'_, PyAny>, expected: &'static str) -> Error {
        Error::OptionType { place: self.place(), name, found: describe(value), expected }
    }
}

impl Options for GroupOptions<'_> {
    fn number(&self, name: &'static str) -> Result<f64, Error> {
        let value = self.value(name)?;
        float(&value).map_err(|_| self.wrong(name, &value, "a number"))
    }

    fn optional(&self, name: &'static str) -> Result<Option<f64>, Error> {
        self.bound(name)
    }

    fn numbers(&self, name: &'static str, into: &mut [f64]) -> Result<(), Error> {
        let value = self.value(name)?;
        let found = || value.try_iter()?.map(|number| float(&number?)).collect::<PyResult<Vec<_>>>();
        match found() {
            Ok(found) if found.len() == into.len() => into.copy_from_slice(&found),
            _ => {
                let expected = if into.len() == 2 { "two numbers" } else { "three numbers" };
                return Err(self.wrong(name, &value, expected));
            }
        }
        Ok(())
    }

    fn flag(&self, name: &'static str) -> Result<bool, Error> {
        let value = self.value(name)?;
        value.is_truthy().map_err(|_| self.wrong(name, &value, "True or False"))
    }

    fn extra(&self, name: &'static str) -> Result<bool, Error> {
        if self.group.contains(name).unwrap_or(false) { self.flag(name) } else { Ok(false) }
    }
}
