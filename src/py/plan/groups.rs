//! What a plan knows of a parameter group.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString, PyTuple};

use super::super::end::Stop;
use super::super::options::GroupOptions;
use super::super::torch::Tensor;
use super::state::{Keys, each_item};
use crate::batch::{Clip, Group};
use crate::rule::{Options, Rule};
use crate::tensor::Device;

/// A group as it was last read.
pub struct KnownGroup<R> {
    /// Its items in the dict's order; `None` for one whose value does not matter. Empty if a value may change unseen.
    items: Vec<(Py<PyAny>, Option<Py<PyAny>>)>,
    /// The rule and its rate.
    pub group: Group<R>,
    /// The keys of a parameter's state.
    pub keys: Keys,
    /// Clipping by the norm over all groups.
    pub clip: Clip,
    /// Whether a graph may capture the step; `None` where the optimizer does not ask.
    pub capturable: Option<bool>,
    /// Whether new step counts are made where the parameter is.
    pub counts_on_device: bool,
    /// The learning rate where it is in a GPU's memory, and on which.
    pub lr: Option<(Tensor, Device)>,
}

impl<R> KnownGroup<R> {
    /// Reads a group.
    pub fn read<const C: usize, const S: usize>(py: Python<'_>, options: &GroupOptions<'_>) -> Result<Self, Stop>
    where
        R: Rule<C, S>,
    {
        if let Some(reason) = options.torch_only()? {
            return Err(Stop::Torch(format!("{} has {reason}", options.place())));
        }
        let rule = R::read(options)?;
        // Reading it on the host would wait for the device.
        let on_gpu = options.lr_on_gpu()?;
        if R::OVER_ALL && on_gpu.is_some() {
            return Err(Stop::Torch(format!("{} has an lr on a GPU, which the host has to know", options.place())));
        }
        let lr = if on_gpu.is_some() { f64::NAN } else { options.number("lr")? };
        let mut group = Group::new(rule, lr);
        group.lr_at = on_gpu.as_ref().map(|lr| lr.2);
        group.maximize = options.flag("maximize")?;
        group.clip_value = options.bound("clip_value")?;
        let clip = options.clip()?;
        let (items, keys, capturable) = (items(options.dict()), Keys::of(py, &rule), options.capturable()?);
        let counts_on_device = options.counts_on_device()?;
        Ok(Self {
            items,
            group,
            keys,
            clip,
            capturable,
            counts_on_device,
            lr: on_gpu.map(|(tensor, device, _)| (tensor, device)),
        })
    }

    /// Whether a value may change unseen.
    pub fn is_volatile(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether the dict has the items it had, but for a new `lr`, which is taken over.
    pub fn is_current(&mut self, dict: &Bound<'_, PyDict>) -> bool {
        let py = dict.py();
        if self.is_volatile() || self.items.len() != dict.len() {
            return false;
        }
        let mut items = self.items.iter_mut();
        let mut same = true;
        each_item(dict.as_any().as_borrowed(), |key, value| {
            let Some((known_key, known_value)) = items.next() else {
                same = false;
                return false;
            };
            if known_key.as_ptr() != key.as_ptr() {
                same = false;
                return false;
            }
            let Some(known_value) = known_value else { return true };
            if known_value.as_ptr() != value.as_ptr() {
                match value.cast_exact::<PyFloat>() {
                    Ok(lr) if is_named(known_key.bind(py), "lr") => {
                        self.group.lr = lr.value();
                        *known_value = value.to_owned().unbind();
                    }
                    _ => same = false,
                }
            }
            same
        });
        same
    }
}

fn is_named(key: &Bound<'_, PyAny>, name: &str) -> bool {
    key.cast::<PyString>().is_ok_and(|key| key.to_str().is_ok_and(|key| key == name))
}

/// The items of a group, if no value that matters can change but by being replaced.
fn items(dict: &Bound<'_, PyDict>) -> Vec<(Py<PyAny>, Option<Py<PyAny>>)> {
    let mut all = Vec::with_capacity(dict.len());
    for (key, value) in dict {
        // The parameters are looked at one by one, and their names only for messages.
        let matters = !is_named(&key, "params") && !is_named(&key, "param_names");
        if matters && !is_constant(&value) {
            return Vec::new();
        }
        all.push((key.unbind(), matters.then(|| value.unbind())));
    }
    all
}

fn is_constant(value: &Bound<'_, PyAny>) -> bool {
    value.is_none()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyString>()
        || value.cast_exact::<PyTuple>().is_ok_and(|tuple| tuple.iter().all(|item| is_constant(&item)))
}
