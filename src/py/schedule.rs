//! Schedules for Python. The classes and functions that users see are in `torchpace.schedule`.

use std::str::FromStr;
use std::sync::Arc;

use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyFloat, PyList, PyString};

use super::arguments::{flag, list, number, numbers, optional, text};
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

/// An argument, of which nothing is known yet.
type Any<'py> = Bound<'py, PyAny>;

/// What a plateau remembers: scale, best, worse, better, cooldown.
type Remembered = (f64, f64, f64, f64, f64);

fn new(curve: impl Into<Node>) -> PyResult<Schedule> {
    Ok(Schedule(Pure::new(curve)?))
}

fn word<T: FromStr<Err = Error>>(name: &str, value: &Any<'_>) -> PyResult<T> {
    Ok(text(name, value)?.parse()?)
}

#[pymethods]
impl Schedule {
    #[staticmethod]
    fn constant(factor: &Any<'_>) -> PyResult<Self> {
        numbers!("constant": factor);
        new(Constant { factor })
    }

    #[staticmethod]
    fn linear(steps: &Any<'_>, start: &Any<'_>, end: &Any<'_>) -> PyResult<Self> {
        numbers!("linear": steps, start, end);
        new(Linear { steps, start, end })
    }

    #[staticmethod]
    fn polynomial(steps: &Any<'_>, power: &Any<'_>, floor: &Any<'_>) -> PyResult<Self> {
        numbers!("polynomial": steps, power, floor);
        new(Polynomial { steps, power, floor })
    }

    #[staticmethod]
    fn cosine(steps: &Any<'_>, floor: &Any<'_>) -> PyResult<Self> {
        numbers!("cosine": steps, floor);
        new(Cosine { steps, floor })
    }

    #[staticmethod]
    fn exponential(factor: &Any<'_>, period: &Any<'_>, floor: &Any<'_>) -> PyResult<Self> {
        numbers!("exponential": factor, period, floor);
        new(Exponential { factor, period, floor })
    }

    #[staticmethod]
    fn step(period: &Any<'_>, factor: &Any<'_>, floor: &Any<'_>) -> PyResult<Self> {
        numbers!("step": period, factor, floor);
        new(Step { period, factor, floor })
    }

    #[staticmethod]
    fn multi_step(milestones: &Any<'_>, factor: &Any<'_>, floor: &Any<'_>) -> PyResult<Self> {
        let milestones = list("multi_step: milestones", milestones)?;
        numbers!("multi_step": factor, floor);
        new(MultiStep { milestones, factor, floor })
    }

    #[staticmethod]
    fn piecewise(milestones: &Any<'_>, values: &Any<'_>) -> PyResult<Self> {
        let (milestones, values) = (list("piecewise: milestones", milestones)?, list("piecewise: values", values)?);
        new(Piecewise { milestones, values })
    }

    #[staticmethod]
    fn inverse_sqrt(timescale: &Any<'_>, floor: &Any<'_>) -> PyResult<Self> {
        numbers!("inverse_sqrt": timescale, floor);
        new(InverseSqrt { timescale, floor })
    }

    #[staticmethod]
    fn inverse_time(timescale: &Any<'_>, floor: &Any<'_>) -> PyResult<Self> {
        numbers!("inverse_time": timescale, floor);
        new(InverseTime { timescale, floor })
    }

    #[staticmethod]
    fn noam(model_size: &Any<'_>, warmup: &Any<'_>) -> PyResult<Self> {
        numbers!("noam": model_size, warmup);
        new(Noam { model_size, warmup })
    }

    #[staticmethod]
    fn one_cycle(
        steps: &Any<'_>,
        rise: &Any<'_>,
        start: &Any<'_>,
        peak: &Any<'_>,
        end: &Any<'_>,
        shape: &Any<'_>,
    ) -> PyResult<Self> {
        numbers!("one_cycle": steps, rise, start, peak, end);
        new(OneCycle { steps, rise, start, peak, end, shape: word("one_cycle: shape", shape)? })
    }

    #[staticmethod]
    fn cyclic(
        up: &Any<'_>,
        down: &Any<'_>,
        low: &Any<'_>,
        high: &Any<'_>,
        shape: &Any<'_>,
        gamma: &Any<'_>,
    ) -> PyResult<Self> {
        numbers!("cyclic": up, down, low, high, gamma);
        new(Cyclic { up, down, low, high, shape: word("cyclic: shape", shape)?, gamma })
    }

    #[staticmethod]
    fn warm_restarts(period: &Any<'_>, growth: &Any<'_>, decay: &Any<'_>, floor: &Any<'_>) -> PyResult<Self> {
        numbers!("warm_restarts": period, growth, decay, floor);
        new(WarmRestarts { period, growth, decay, floor })
    }

    #[staticmethod]
    fn warmup(steps: &Any<'_>, start: &Any<'_>, shape: &Any<'_>) -> PyResult<Self> {
        numbers!("warmup": steps, start);
        new(Warmup { steps, start, shape: word("warmup: shape", shape)? })
    }

    #[staticmethod]
    fn warmup_stable_decay(
        warmup: &Any<'_>,
        stable: &Any<'_>,
        decay: &Any<'_>,
        start: &Any<'_>,
        floor: &Any<'_>,
        shape: &Any<'_>,
    ) -> PyResult<Self> {
        numbers!("warmup_stable_decay": warmup, stable, decay, start, floor);
        let shape = word("warmup_stable_decay: shape", shape)?;
        new(WarmupStableDecay { warmup, stable, decay, start, floor, shape })
    }

    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "as many as a plateau has")]
    fn plateau(
        factor: &Any<'_>,
        patience: &Any<'_>,
        mode: &Any<'_>,
        threshold: &Any<'_>,
        threshold_mode: &Any<'_>,
        cooldown: &Any<'_>,
        floor: &Any<'_>,
        ceiling: &Any<'_>,
        raises: &Any<'_>,
    ) -> PyResult<Self> {
        numbers!("plateau": factor, patience, threshold, cooldown, floor, ceiling);
        let mode = word("plateau: mode", mode)?;
        let threshold_mode = word("plateau: threshold_mode", threshold_mode)?;
        let raises = flag("plateau: raises", raises)?;
        new(Plateau { factor, patience, mode, threshold, threshold_mode, cooldown, floor, ceiling, raises })
    }

    #[staticmethod]
    fn function(call: Bound<'_, PyAny>) -> PyResult<Self> {
        new(Function::new(Arc::new(PyFunction::new(&call)?)))
    }

    #[pyo3(signature = (next, at))]
    fn then(&self, next: &Self, at: &Any<'_>) -> PyResult<Self> {
        Ok(Self(self.0.then(&next.0, optional("then: at", at)?)?))
    }

    fn times(&self, factor: &Self) -> PyResult<Self> {
        Ok(Self(self.0.times(&factor.0)?))
    }

    fn plus(&self, term: &Self) -> PyResult<Self> {
        Ok(Self(self.0.plus(&term.0)?))
    }

    #[pyo3(signature = (low, high))]
    fn clamp(&self, low: &Any<'_>, high: &Any<'_>) -> PyResult<Self> {
        Ok(Self(self.0.clamp(optional("clamp: low", low)?, optional("clamp: high", high)?)?))
    }

    #[pyo3(signature = (every, times))]
    fn repeat(&self, every: &Any<'_>, times: &Any<'_>) -> PyResult<Self> {
        Ok(Self(self.0.repeat(optional("repeat: every", every)?, optional("repeat: times", times)?)?))
    }

    fn scale(&self, factor: &Any<'_>) -> PyResult<Self> {
        Ok(Self(self.0.scale(number("scale: factor", factor)?)?))
    }

    fn shift(&self, steps: &Any<'_>) -> PyResult<Self> {
        Ok(Self(self.0.shift(number("shift: steps", steps)?)?))
    }

    #[pyo3(signature = (steps))]
    fn reverse(&self, steps: &Any<'_>) -> PyResult<Self> {
        Ok(Self(self.0.reverse(optional("reverse: steps", steps)?)?))
    }

    fn above(&self, low: &Any<'_>) -> PyResult<Self> {
        Ok(Self(self.0.above(number("above: low", low)?)?))
    }

    fn rebase(&self, base: &Any<'_>) -> PyResult<Self> {
        Ok(Self(self.0.rebase(number("rebase: base", base)?)?))
    }

    /// The rate at a step, where the plateaus have come to these scales.
    fn lr(&self, base: &Any<'_>, step: &Any<'_>, scales: Vec<f64>) -> PyResult<f64> {
        let rate = self.0.lr_scaled(number("base", base)?, number("step", step)?, &scales);
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
    fn lrs<'py>(&self, py: Python<'py>, base: &Any<'_>, steps: &[u8]) -> PyResult<Bound<'py, PyByteArray>> {
        let base = number("base", base)?;
        let (steps, _) = steps.as_chunks::<{ size_of::<f64>() }>();
        self.fill(py, steps.len(), |index| self.0.lr(base, f64::from_ne_bytes(steps[index])))
    }

    /// The rates at `count` steps from `start` on, as the bytes of float64.
    fn values<'py>(
        &self,
        py: Python<'py>,
        base: &Any<'_>,
        start: f64,
        count: usize,
        stride: f64,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let base = number("base", base)?;
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
    fn from_json(text: &Any<'_>) -> PyResult<Self> {
        Ok(Self(Pure::from_json(&self::text("text", text)?)?))
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
