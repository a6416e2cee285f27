//! Schedules for Python. The classes and functions that users see are in `torchpace.schedule`.

use std::str::FromStr;
use std::sync::Arc;

use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyFloat, PyList, PyString};

use super::function::{PyFunction, raised};
use crate::error::Error;
use crate::schedule::{
    Constant, Cosine, Cyclic, Exponential, Function, InverseSqrt, InverseTime, Linear, Memory, MultiStep, Noam, Node,
    OneCycle, Piecewise, Plateau, Polynomial, Schedule as Pure, Step, WarmRestarts, Warmup, WarmupStableDecay,
};

/// A schedule.
#[pyclass(frozen, from_py_object, module = "torchpace._native")]
#[derive(Clone)]
pub struct Schedule(Pure);

/// What a plateau remembers: scale, best, worse, better, cooldown.
type Remembered = (f64, f64, f64, f64, f64);

fn new(curve: impl Into<Node>) -> PyResult<Schedule> {
    Ok(Schedule(Pure::new(curve)?))
}

fn word<T: FromStr<Err = Error>>(text: &str) -> PyResult<T> {
    Ok(text.parse()?)
}

#[pymethods]
impl Schedule {
    #[staticmethod]
    fn constant(factor: f64) -> PyResult<Self> {
        new(Constant { factor })
    }

    #[staticmethod]
    fn linear(steps: f64, start: f64, end: f64) -> PyResult<Self> {
        new(Linear { steps, start, end })
    }

    #[staticmethod]
    fn polynomial(steps: f64, power: f64, floor: f64) -> PyResult<Self> {
        new(Polynomial { steps, power, floor })
    }

    #[staticmethod]
    fn cosine(steps: f64, floor: f64) -> PyResult<Self> {
        new(Cosine { steps, floor })
    }

    #[staticmethod]
    fn exponential(factor: f64, period: f64, floor: f64) -> PyResult<Self> {
        new(Exponential { factor, period, floor })
    }

    #[staticmethod]
    fn step(period: f64, factor: f64, floor: f64) -> PyResult<Self> {
        new(Step { period, factor, floor })
    }

    #[staticmethod]
    fn multi_step(milestones: Vec<f64>, factor: f64, floor: f64) -> PyResult<Self> {
        new(MultiStep { milestones, factor, floor })
    }

    #[staticmethod]
    fn piecewise(milestones: Vec<f64>, values: Vec<f64>) -> PyResult<Self> {
        new(Piecewise { milestones, values })
    }

    #[staticmethod]
    fn inverse_sqrt(timescale: f64, floor: f64) -> PyResult<Self> {
        new(InverseSqrt { timescale, floor })
    }

    #[staticmethod]
    fn inverse_time(timescale: f64, floor: f64) -> PyResult<Self> {
        new(InverseTime { timescale, floor })
    }

    #[staticmethod]
    fn noam(model_size: f64, warmup: f64) -> PyResult<Self> {
        new(Noam { model_size, warmup })
    }

    #[staticmethod]
    fn one_cycle(steps: f64, rise: f64, start: f64, peak: f64, end: f64, shape: &str) -> PyResult<Self> {
        new(OneCycle { steps, rise, start, peak, end, shape: word(shape)? })
    }

    #[staticmethod]
    fn cyclic(up: f64, down: f64, low: f64, high: f64, shape: &str, gamma: f64) -> PyResult<Self> {
        new(Cyclic { up, down, low, high, shape: word(shape)?, gamma })
    }

    #[staticmethod]
    fn warm_restarts(period: f64, growth: f64, decay: f64, floor: f64) -> PyResult<Self> {
        new(WarmRestarts { period, growth, decay, floor })
    }

    #[staticmethod]
    fn warmup(steps: f64, start: f64, shape: &str) -> PyResult<Self> {
        new(Warmup { steps, start, shape: word(shape)? })
    }

    #[staticmethod]
    fn warmup_stable_decay(
        warmup: f64,
        stable: f64,
        decay: f64,
        start: f64,
        floor: f64,
        shape: &str,
    ) -> PyResult<Self> {
        new(WarmupStableDecay { warmup, stable, decay, start, floor, shape: word(shape)? })
    }

    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "as many as a plateau has")]
    fn plateau(
        factor: f64,
        patience: f64,
        mode: &str,
        threshold: f64,
        threshold_mode: &str,
        cooldown: f64,
        floor: f64,
        ceiling: f64,
        raises: bool,
    ) -> PyResult<Self> {
        let (mode, threshold_mode) = (word(mode)?, word(threshold_mode)?);
        new(Plateau { factor, patience, mode, threshold, threshold_mode, cooldown, floor, ceiling, raises })
    }

    #[staticmethod]
    fn function(call: Bound<'_, PyAny>) -> PyResult<Self> {
        new(Function::new(Arc::new(PyFunction::new(&call)?)))
    }

    #[pyo3(signature = (next, at))]
    fn then(&self, next: &Self, at: Option<f64>) -> PyResult<Self> {
        Ok(Self(self.0.then(&next.0, at)?))
    }

    fn times(&self, factor: &Self) -> PyResult<Self> {
        Ok(Self(self.0.times(&factor.0)?))
    }

    fn plus(&self, term: &Self) -> PyResult<Self> {
        Ok(Self(self.0.plus(&term.0)?))
    }

    #[pyo3(signature = (low, high))]
    fn clamp(&self, low: Option<f64>, high: Option<f64>) -> PyResult<Self> {
        Ok(Self(self.0.clamp(low, high)?))
    }

    #[pyo3(signature = (every, times))]
    fn repeat(&self, every: Option<f64>, times: Option<f64>) -> PyResult<Self> {
        Ok(Self(self.0.repeat(every, times)?))
    }

    fn scale(&self, factor: f64) -> PyResult<Self> {
        Ok(Self(self.0.scale(factor)?))
    }

    fn shift(&self, steps: f64) -> PyResult<Self> {
        Ok(Self(self.0.shift(steps)?))
    }

    #[pyo3(signature = (steps))]
    fn reverse(&self, steps: Option<f64>) -> PyResult<Self> {
        Ok(Self(self.0.reverse(steps)?))
    }

    fn above(&self, low: f64) -> PyResult<Self> {
        Ok(Self(self.0.above(low)?))
    }

    fn rebase(&self, base: f64) -> PyResult<Self> {
        Ok(Self(self.0.rebase(base)?))
    }

    /// The rate at a step, where the plateaus have come to these scales.
    fn lr(&self, base: f64, step: f64, scales: Vec<f64>) -> PyResult<f64> {
        let rate = self.0.lr_scaled(base, step, &scales);
        raised()?;
        Ok(rate)
    }

    /// Sets a key of each group that has a base to its rate at a step, if all are floats now; else nothing was written.
    fn set(
        &self,
        py: Python<'_>,
        groups: &Bound<'_, PyList>,
        key: &Bound<'_, PyString>,
        bases: Vec<Option<f64>>,
        step: f64,
        scales: Vec<f64>,
    ) -> PyResult<bool> {
        let mut places = Vec::with_capacity(bases.len());
        for (base, group) in bases.into_iter().zip(groups) {
            let Some(base) = base else { continue };
            let Ok(group) = group.cast_into_exact::<PyDict>() else { return Ok(false) };
            if !group.get_item(key)?.is_some_and(|old| old.is_exact_instance_of::<PyFloat>()) {
                return Ok(false);
            }
            places.push((group, base));
        }
        let rates: Vec<f64> = places.iter().map(|(_, base)| self.0.lr_scaled(*base, step, &scales)).collect();
        raised()?;
        for ((group, _), rate) in places.iter().zip(rates) {
            group.set_item(key, PyFloat::new(py, rate))?;
        }
        Ok(true)
    }

    /// The rates at steps that are given, as the rates are, as the bytes of float64.
    fn lrs<'py>(&self, py: Python<'py>, base: f64, steps: &[u8]) -> PyResult<Bound<'py, PyByteArray>> {
        let (steps, _) = steps.as_chunks::<{ size_of::<f64>() }>();
        self.fill(py, steps.len(), |index| self.0.lr(base, f64::from_ne_bytes(steps[index])))
    }

    /// The rates at `count` steps from `start` on, as the bytes of float64.
    fn values<'py>(
        &self,
        py: Python<'py>,
        base: f64,
        start: f64,
        count: usize,
        stride: f64,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        self.fill(py, count, |index| self.0.lr(base, start + index as f64 * stride))
    }

    /// The step from which on nothing changes, if there is one.
    fn length(&self) -> Option<f64> {
        self.0.length()
    }

    /// How many plateaus are inside.
    fn plateau_count(&self) -> usize {
        self.0.plateau_count()
    }

    /// Arguments of the first plateau, as torch names them: mode, factor, patience, threshold, threshold_mode, cooldown.
    fn first_plateau(&self) -> Option<(&'static str, f64, f64, f64, &'static str, f64)> {
        let plateaus = self.0.plateaus();
        let first = plateaus.first()?;
        Some((
            first.mode.name(),
            first.factor,
            first.patience,
            first.threshold,
            first.threshold_mode.name(),
            first.cooldown,
        ))
    }

    /// Whether the rate at a step depends on a metric.
    fn wants_metric(&self, step: f64) -> bool {
        !self.0.active(step).is_empty()
    }

    /// What the plateaus remember before the first metric.
    fn memories(&self) -> Vec<Remembered> {
        self.0.plateaus().into_iter().map(|plateau| remembered(Memory::new(plateau))).collect()
    }

    /// What they remember after a metric, of which those take notice that are active at a step.
    fn observe(&self, step: f64, metric: f64, memories: Vec<Remembered>) -> PyResult<Vec<Remembered>> {
        let plateaus = self.0.plateaus();
        if memories.len() != plateaus.len() {
            let (found, expected) = (memories.len(), plateaus.len());
            return Err(PyValueError::new_err(format!("state of {found} plateaus, expected {expected}")));
        }
        let active = self.0.active(step);
        let after = |(index, (plateau, old)): (usize, (&Plateau, Remembered))| {
            let (scale, best, worse, better, cooldown) = old;
            let mut memory = Memory { scale, best, worse, better, cooldown };
            if active.contains(&index) {
                plateau.observe(&mut memory, metric);
            }
            remembered(memory)
        };
        Ok(plateaus.into_iter().zip(memories).enumerate().map(after).collect())
    }

    fn to_json(&self) -> PyResult<String> {
        Ok(self.0.to_json()?)
    }

    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        Ok(Self(Pure::from_json(text)?))
    }

    /// The schedule as JSON in which functions are numbers, and the functions.
    fn parts(&self, py: Python<'_>) -> PyResult<(String, Vec<Py<PyAny>>)> {
        let mut functions = Vec::new();
        let text = self.0.map_functions(&mut |function| {
            functions.extend(PyFunction::object(function, py));
            Ok(Function::elsewhere(functions.len().saturating_sub(1)))
        })?;
        Ok((text.to_json()?, functions))
    }

    /// The inverse of `parts`.
    #[staticmethod]
    fn from_parts(text: &str, functions: Vec<Bound<'_, PyAny>>) -> PyResult<Self> {
        let schedule = Pure::from_json_with_places(text)?.map_functions(&mut |function| {
            let call = function.place().and_then(|place| functions.get(place));
            let call = call.and_then(|call| PyFunction::new(call).ok());
            let call = call.ok_or_else(|| Error::ReadJson { reason: format!("{function} is not at hand") })?;
            Ok(Function::new(Arc::new(call)))
        })?;
        Ok(Self(schedule))
    }

    // What several schedules share is seen in none of them, and so never taken for garbage.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        self.0.visit_own_functions(&mut |call| {
            if let (Ok(()), Some(function)) = (&result, PyFunction::of(call)) {
                result = visit.call(function.held());
            }
        });
        result
    }

    fn __repr__(&self) -> String {
        self.0.to_string()
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        // Equal schedules read alike.
        self.0.to_string().into_pyobject(py)?.hash()
    }
}

impl Schedule {
    /// The bytes of `count` rates, worked out without the GIL if no function of Python's is inside.
    fn fill<'py>(
        &self,
        py: Python<'py>,
        count: usize,
        rate: impl Fn(usize) -> f64 + Sync,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let length = count.checked_mul(size_of::<f64>()).filter(|length| isize::try_from(*length).is_ok());
        let length = length.ok_or_else(|| PyMemoryError::new_err(format!("{count} values do not fit in memory")))?;
        let fill = |bytes: &mut [u8]| {
            for (index, place) in bytes.chunks_exact_mut(size_of::<f64>()).enumerate() {
                place.copy_from_slice(&rate(index).to_ne_bytes());
            }
        };
        PyByteArray::new_with(py, length, |bytes| {
            if self.0.function_count() == 0 {
                py.detach(|| fill(bytes));
            } else {
                fill(bytes);
                raised()?;
            }
            Ok(())
        })
    }
}

fn remembered(memory: Memory) -> Remembered {
    (memory.scale, memory.best, memory.worse, memory.better, memory.cooldown)
}
