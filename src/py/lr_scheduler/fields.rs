//! What a scheduler's step reads: attributes out of its `__dict__`, and the optimizer's groups. Whatever is not of the
//! plainest type is `None`, and torch's own code takes the step.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};

use super::super::torch::Torch;

/// The integers that are floating-point numbers too.
const EXACT: i64 = 1 << 53;

/// The attributes of a scheduler.
pub struct Fields<'py> {
    dict: Bound<'py, PyDict>,
}

/// A parameter group, and its learning rate as an object and as a number.
pub struct Group<'py> {
    dict: Bound<'py, PyDict>,
    lr: Bound<'py, PyAny>,
    value: f64,
}

impl<'py> Fields<'py> {
    /// Of a scheduler.
    pub fn of(scheduler: &Bound<'py, PyAny>) -> Option<Self> {
        let dict = scheduler.getattr(intern!(scheduler.py(), "__dict__")).ok()?;
        Some(Self { dict: dict.cast_into_exact().ok()? })
    }

    /// An attribute.
    pub fn get(&self, name: &Bound<'py, PyString>) -> Option<Bound<'py, PyAny>> {
        self.dict.get_item(name).ok()?
    }

    /// Sets an attribute.
    pub fn set(&self, name: &Bound<'py, PyString>, value: impl IntoPyObject<'py>) -> PyResult<()> {
        self.dict.set_item(name, value)
    }

    /// An attribute that is an integer.
    pub fn int(&self, name: &Bound<'py, PyString>) -> Option<i64> {
        int(&self.get(name)?)
    }

    /// An attribute that is a float, and no integer: of those Python works out powers exactly.
    pub fn float(&self, name: &Bound<'py, PyString>) -> Option<f64> {
        float(&self.get(name)?)
    }

    /// An attribute that is an integer or a float.
    pub fn number(&self, name: &Bound<'py, PyString>) -> Option<f64> {
        number(&self.get(name)?)
    }

    /// An attribute that is `True` or `False`.
    pub fn flag(&self, name: &Bound<'py, PyString>) -> Option<bool> {
        Some(self.get(name)?.cast_exact::<PyBool>().ok()?.is_true())
    }

    /// An attribute that is a list of one number for each group.
    pub fn numbers(&self, name: &Bound<'py, PyString>, count: usize) -> Option<Vec<f64>> {
        let list = self.get(name)?.cast_into_exact::<PyList>().ok()?;
        if list.len() != count {
            return None;
        }
        list.iter().map(|item| number(&item)).collect()
    }

    /// Whether the class's methods, and only they, make the step.
    pub fn untouched(&self) -> bool {
        let py = self.dict.py();
        let has = |name| self.dict.contains(name).unwrap_or(true);
        !has(intern!(py, "get_lr")) && !has(intern!(py, "_update_lr")) && !has(intern!(py, "step"))
    }

    /// The groups of the optimizer, if all have a float for a learning rate and were there when the scheduler last
    /// looked.
    pub fn groups(&self) -> Option<Vec<Group<'py>>> {
        let py = self.dict.py();
        let groups = self.group_list()?;
        let known = self.get(intern!(py, "base_lrs"))?.cast_into_exact::<PyList>().ok()?.len();
        if groups.len() != known {
            return None;
        }
        groups
            .iter()
            .map(|group| {
                let dict = group.cast_into_exact::<PyDict>().ok()?;
                let lr = dict.get_item(intern!(py, "lr")).ok()??;
                let value = float(&lr)?;
                Some(Group { dict, lr, value })
            })
            .collect()
    }

    /// The optimizer's list of groups.
    pub fn group_list(&self) -> Option<Bound<'py, PyList>> {
        let py = self.dict.py();
        // By its attribute: a wrapped optimizer hands on its inner one's.
        let groups = self.get(intern!(py, "optimizer"))?.getattr(intern!(py, "param_groups")).ok()?;
        groups.cast_into_exact().ok()
    }
}

impl<'py> Group<'py> {
    /// The learning rate.
    pub fn lr(&self) -> f64 {
        self.value
    }

    /// The learning rate as it is.
    pub fn lr_object(&self) -> &Bound<'py, PyAny> {
        &self.lr
    }

    /// The group.
    pub fn dict(&self) -> &Bound<'py, PyDict> {
        &self.dict
    }

    /// An entry that is an integer or a float.
    pub fn number(&self, name: &Bound<'py, PyAny>) -> Option<f64> {
        number(&self.dict.get_item(name).ok()??)
    }
}

/// An integer that is a floating-point number too; no `True`, and nothing that only behaves like an integer.
pub fn int(value: &Bound<'_, PyAny>) -> Option<i64> {
    let value = value.cast_exact::<PyInt>().ok()?.extract::<i64>().ok()?;
    (-EXACT..=EXACT).contains(&value).then_some(value)
}

/// A float, and nothing that only behaves like one.
pub fn float(value: &Bound<'_, PyAny>) -> Option<f64> {
    Some(value.cast_exact::<PyFloat>().ok()?.value())
}

/// Either.
pub fn number(value: &Bound<'_, PyAny>) -> Option<f64> {
    float(value).or_else(|| int(value).map(|value| value as f64))
}

/// The number of the step to make, and of those made with it. The first is torch's, for its warnings.
pub fn counts(py: Python<'_>, fields: &Fields<'_>) -> Option<(i64, i64)> {
    let count = fields.int(intern!(py, "_step_count"))?;
    let initial =
        fields.get(intern!(py, "_is_initial")).is_some_and(|flag| !flag.is(pyo3::types::PyBool::new(py, false)));
    (count >= 2 && !initial).then_some((fields.int(intern!(py, "last_epoch"))? + 1, count + 1))
}

/// A learning rate that does not change with the group's: a tensor's clone.
pub fn copy<'py>(lr: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = lr.py();
    if Torch::get(py)?.is_tensor(lr)? { lr.call_method0(intern!(py, "clone")) } else { Ok(lr.clone()) }
}
