//! What each class reads, and the step it makes of it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::fields::{Fields, Group, number};
use crate::lr_scheduler::cycle::{self, Anneal, Scale};
use crate::lr_scheduler::swa::Swa;
use crate::lr_scheduler::{Change, cosine, ramp, steps};

/// What a step writes, besides the counts.
pub struct Step<'py> {
    /// The learning rates; `None` leaves them as they are.
    pub lrs: Option<Vec<f64>>,
    /// The momentum of each group.
    pub momenta: Option<Momenta>,
    /// Attributes of the scheduler.
    pub attributes: Vec<(&'py Bound<'py, PyString>, Bound<'py, PyAny>)>,
}

/// A momentum for each group.
pub struct Momenta {
    values: Vec<f64>,
    /// Whether it is the first of the betas.
    first_beta: bool,
}

impl Step<'_> {
    fn to(lrs: Vec<f64>) -> Self {
        Self { lrs: Some(lrs), momenta: None, attributes: Vec::new() }
    }
}

/// Applies a change; `bases` are read only where they matter.
fn change<'py>(change: Change, fields: &Fields<'py>, groups: &[Group<'py>]) -> Option<Step<'py>> {
    let lrs = match change {
        Change::Keep => None,
        Change::Rise { .. } => {
            let bases = fields.numbers(intern!(py(groups)?, "base_lrs"), groups.len())?;
            Some(groups.iter().zip(bases).map(|(group, base)| change.apply(group.lr(), base)).collect())
        }
        _ => Some(groups.iter().map(|group| change.apply(group.lr(), group.lr())).collect()),
    };
    Some(Step { lrs, momenta: None, attributes: Vec::new() })
}

fn py<'py>(groups: &[Group<'py>]) -> Option<Python<'py>> {
    Some(groups.first()?.dict().py())
}

/// `StepLR`.
pub fn step<'py>(fields: &Fields<'py>, groups: &[Group<'py>], epoch: i64) -> Option<Step<'py>> {
    let py = py(groups)?;
    let gamma = fields.number(intern!(py, "gamma"))?;
    change(steps::step(epoch, fields.int(intern!(py, "step_size"))?, gamma)?, fields, groups)
}

/// `MultiStepLR`.
pub fn multi_step<'py>(fields: &Fields<'py>, groups: &[Group<'py>], epoch: i64) -> Option<Step<'py>> {
    let py = py(groups)?;
    let milestones = fields.get(intern!(py, "milestones"))?;
    if !milestones.is_exact_instance_of::<PyDict>() && !milestones.get_type().is(counter(py)?) {
        return None;
    }
    let count = match milestones.cast::<PyDict>().ok()?.get_item(epoch).ok()? {
        Some(count) => Some(super::fields::int(&count)?),
        None => None,
    };
    change(steps::multi_step(count, fields.float(intern!(py, "gamma"))?)?, fields, groups)
}

/// `ConstantLR`.
pub fn constant<'py>(fields: &Fields<'py>, groups: &[Group<'py>], epoch: i64) -> Option<Step<'py>> {
    let py = py(groups)?;
    let (factor, total) = (fields.number(intern!(py, "factor"))?, fields.number(intern!(py, "total_iters"))?);
    change(ramp::constant(epoch as f64, factor, total)?, fields, groups)
}

/// `LinearLR`.
pub fn linear<'py>(fields: &Fields<'py>, groups: &[Group<'py>], epoch: i64) -> Option<Step<'py>> {
    let py = py(groups)?;
    let start = fields.number(intern!(py, "start_factor"))?;
    let end = fields.number(intern!(py, "end_factor"))?;
    let total = fields.number(intern!(py, "total_iters"))?;
    change(ramp::linear(epoch as f64, start, end, total)?, fields, groups)
}

/// `ExponentialLR`.
pub fn exponential<'py>(fields: &Fields<'py>, groups: &[Group<'py>], _epoch: i64) -> Option<Step<'py>> {
    change(steps::exponential(fields.number(intern!(py(groups)?, "gamma"))?), fields, groups)
}

/// `PolynomialLR`.
pub fn polynomial<'py>(fields: &Fields<'py>, groups: &[Group<'py>], epoch: i64) -> Option<Step<'py>> {
    let py = py(groups)?;
    let (total, power) = (fields.number(intern!(py, "total_iters"))?, fields.number(intern!(py, "power"))?);
    change(ramp::polynomial(epoch as f64, total, power)?, fields, groups)
}

/// `CosineAnnealingLR`.
pub fn annealing<'py>(fields: &Fields<'py>, groups: &[Group<'py>], epoch: i64) -> Option<Step<'py>> {
    let py = py(groups)?;
    let (t_max, eta_min) = (fields.int(intern!(py, "T_max"))?, fields.number(intern!(py, "eta_min"))?);
    change(cosine::annealing(epoch, t_max, eta_min)?, fields, groups)
}

/// `CosineAnnealingWarmRestarts`.
pub fn restarts<'py>(fields: &Fields<'py>, groups: &[Group<'py>], epoch: i64) -> Option<Step<'py>> {
    let py = py(groups)?;
    if epoch < 1 {
        return None; // the first step, whose class takes another way
    }
    let (since, period) = (intern!(py, "T_cur"), intern!(py, "T_i"));
    let (since_object, growth) = (fields.get(since)?, fields.int(intern!(py, "T_mult"))?);
    let now = cosine::Restarts { since: number(&since_object)?, period: fields.int(period)? as f64 };
    let next = now.next(growth as f64)?;
    if next.period.abs() > 9e15 || next.since.abs() > 9e15 {
        return None; // where not every integer is a floating-point number
    }
    let height = next.height()?;
    let eta_min = fields.number(intern!(py, "eta_min"))?;
    let bases = fields.numbers(intern!(py, "base_lrs"), groups.len())?;
    let mut step = Step::to(bases.into_iter().map(|base| cosine::restarts(base, eta_min, height)).collect());
    let next_since = if since_object.is_exact_instance_of::<PyInt>() {
        (next.since as i64).into_pyobject(py).ok()?.into_any()
    } else {
        PyFloat::new(py, next.since).into_any()
    };
    step.attributes.push((since, next_since));
    if next.period != now.period {
        step.attributes.push((period, (next.period as i64).into_pyobject(py).ok()?.into_any()));
    }
    Some(step)
}

/// `CyclicLR`.
pub fn cyclic<'py>(fields: &Fields<'py>, groups: &[Group<'py>], epoch: i64) -> Option<Step<'py>> {
    let (py, count) = (py(groups)?, groups.len());
    if !fields.get(intern!(py, "_scale_fn_custom"))?.is_none() || fields.get(intern!(py, "scale_fn")).is_some() {
        return None;
    }
    let scale = scale(&fields.get(intern!(py, "_scale_fn_ref"))?)?;
    let (cycle, height) = cycle::cyclic(
        epoch as f64,
        fields.float(intern!(py, "total_size"))?,
        fields.float(intern!(py, "step_ratio"))?,
    )?;
    let by_cycle = fields.get(intern!(py, "scale_mode"))?.cast_exact::<PyString>().ok()? == "cycle";
    let share = scale.at(if by_cycle { cycle } else { epoch as f64 })?;
    let pairs = |low, high| {
        let (low, high) = (fields.numbers(low, count)?, fields.numbers(high, count)?);
        Some(low.into_iter().zip(high))
    };
    let rates = pairs(intern!(py, "base_lrs"), intern!(py, "max_lrs"))?;
    let mut step = Step::to(rates.map(|(low, high)| low + (high - low) * height * share).collect());
    if fields.flag(intern!(py, "cycle_momentum"))? {
        let momenta = pairs(intern!(py, "base_momentums"), intern!(py, "max_momentums"))?;
        let values = momenta.map(|(low, high)| high - (high - low) * height * share).collect();
        step.momenta = Some(Momenta { values, first_beta: fields.flag(intern!(py, "use_beta1"))? });
    }
    Some(step)
}

/// `OneCycleLR`.
pub fn one_cycle<'py>(fields: &Fields<'py>, groups: &[Group<'py>], epoch: i64) -> Option<Step<'py>> {
    let py = py(groups)?;
    let total = fields.int(intern!(py, "total_steps"))?;
    if fields.get(intern!(py, "_anneal_func")).is_some() {
        return None;
    }
    let mut at = epoch;
    match fields.get(intern!(py, "past_end")) {
        None if epoch <= total => (),
        Some(past) if past.cast_exact::<PyString>().ok()? == "hold" => at = epoch.min(total - 1),
        Some(past) if epoch <= total && past.cast_exact::<PyString>().ok()? == "extend" => (),
        _ => return None,
    }
    let phases = fields.get(intern!(py, "_schedule_phases"))?.cast_into_exact::<PyList>().ok()?;
    let ends: Option<Vec<f64>> = phases.iter().map(|phase| number(&entry(&phase, intern!(py, "end_step"))?)).collect();
    let (index, share) = cycle::phase(at as f64, &ends?)?;
    let kind = fields.get(intern!(py, "_anneal_func_type"))?;
    let kind = kind.cast_exact::<PyString>().ok()?;
    let anneal = if kind == "cos" {
        Anneal::cos(share)?
    } else if kind == "linear" {
        Anneal::Linear(share)
    } else {
        return None;
    };
    let phase = phases.get_item(index).ok()?;
    let between = |start, end| -> Option<Vec<f64>> {
        let (start, end) = (entry(&phase, start)?, entry(&phase, end)?);
        groups.iter().map(|group| Some(anneal.between(group.number(&start)?, group.number(&end)?))).collect()
    };
    let mut step = Step::to(between(intern!(py, "start_lr"), intern!(py, "end_lr"))?);
    if fields.flag(intern!(py, "cycle_momentum"))? {
        let values = between(intern!(py, "start_momentum"), intern!(py, "end_momentum"))?;
        step.momenta = Some(Momenta { values, first_beta: fields.flag(intern!(py, "use_beta1"))? });
    }
    Some(step)
}

/// `SWALR`.
pub fn swa<'py>(fields: &Fields<'py>, groups: &[Group<'py>], _epoch: i64) -> Option<Step<'py>> {
    let py = py(groups)?;
    let torch = Torchs::get(py)?;
    let function = fields.get(intern!(py, "anneal_func"))?;
    let along_cosine = function.is(&torch.swa_cosine);
    if !along_cosine && !function.is(&torch.swa_linear) {
        return None;
    }
    if fields.get(intern!(py, "_get_initial_lr")).is_some() {
        return None;
    }
    // The count after this step, less one.
    let count = fields.int(intern!(py, "_step_count"))?;
    let swa = Swa::at(count as f64, fields.int(intern!(py, "anneal_epochs"))? as f64, along_cosine)?;
    let key = intern!(py, "swa_lr");
    let next = |group: &Group<'py>| {
        // An integer would stay one, with the learning rate, in a straight line.
        let swa_lr = super::fields::float(&group.dict().get_item(key).ok()??)?;
        swa.next(group.lr(), swa_lr)
    };
    groups.iter().map(next).collect::<Option<Vec<f64>>>().map(Step::to)
}

fn entry<'py>(dict: &Bound<'py, PyAny>, key: &Bound<'py, PyString>) -> Option<Bound<'py, PyAny>> {
    dict.cast_exact::<PyDict>().ok()?.get_item(key).ok()?
}

impl Momenta {
    /// What to write to each group: its key and value.
    pub fn entries<'py>(&self, groups: &[Group<'py>]) -> Option<Vec<(&'py Bound<'py, PyString>, Bound<'py, PyAny>)>> {
        let py = py(groups)?;
        let entry = |(group, &value): (&Group<'py>, &f64)| {
            let value = PyFloat::new(py, value).into_any();
            if !self.first_beta {
                return Some((intern!(py, "momentum"), value));
            }
            let key = intern!(py, "betas");
            let betas = group.dict().get_item(key).ok()??;
            let rest: Vec<Bound<'py, PyAny>> = match betas.cast_exact::<PyTuple>() {
                Ok(tuple) => tuple.iter().skip(1).collect(),
                Err(_) => betas.cast_exact::<PyList>().ok()?.iter().skip(1).collect(),
            };
            Some((key, PyTuple::new(py, core::iter::once(value).chain(rest).collect::<Vec<_>>()).ok()?.into_any()))
        };
        groups.iter().zip(&self.values).map(entry).collect()
    }
}

/// Functions of torch's that a scheduler may hold.
struct Torchs {
    triangular: Py<PyAny>,
    triangular2: Py<PyAny>,
    exp_range: Py<PyAny>,
    swa_cosine: Py<PyAny>,
    swa_linear: Py<PyAny>,
    partial: Py<PyAny>,
}

impl Torchs {
    fn get(py: Python<'_>) -> Option<&Self> {
        static TORCHS: PyOnceLock<Option<Torchs>> = PyOnceLock::new();
        let find = || -> PyResult<Self> {
            let cyclic = py.import("torch.optim.lr_scheduler")?.getattr("CyclicLR")?;
            let swa = py.import("torch.optim.swa_utils")?.getattr("SWALR")?;
            Ok(Self {
                triangular: cyclic.getattr("_triangular_scale_fn")?.unbind(),
                triangular2: cyclic.getattr("_triangular2_scale_fn")?.unbind(),
                exp_range: cyclic.getattr("_exp_range_scale_fn")?.unbind(),
                swa_cosine: swa.getattr("_cosine_anneal")?.unbind(),
                swa_linear: swa.getattr("_linear_anneal")?.unbind(),
                partial: py.import("functools")?.getattr("partial")?.unbind(),
            })
        };
        // A torch that lacks one of them takes all such steps itself.
        TORCHS.get_or_init(py, || find().ok()).as_ref()
    }
}

/// The scale that a function of torch's stands for.
fn scale(function: &Bound<'_, PyAny>) -> Option<Scale> {
    let py = function.py();
    let torch = Torchs::get(py)?;
    if function.is(&torch.triangular) {
        return Some(Scale::Triangular);
    }
    if function.is(&torch.triangular2) {
        return Some(Scale::Triangular2);
    }
    if !function.get_type().is(&torch.partial)
        || !function.getattr(intern!(py, "func")).ok()?.is(&torch.exp_range)
        || !function.getattr(intern!(py, "keywords")).ok()?.cast_exact::<PyDict>().ok()?.is_empty()
    {
        return None;
    }
    let arguments = function.getattr(intern!(py, "args")).ok()?.cast_into_exact::<PyTuple>().ok()?;
    if arguments.len() != 1 {
        return None;
    }
    super::fields::float(&arguments.get_item(0).ok()?).map(Scale::ExpRange)
}

fn counter(py: Python<'_>) -> Option<&Bound<'_, PyAny>> {
    static COUNTER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    COUNTER
        .get_or_try_init(py, || Ok::<_, PyErr>(py.import("collections")?.getattr("Counter")?.unbind()))
        .ok()
        .map(|counter| counter.bind(py))
}
