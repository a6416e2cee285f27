//! The step of a scheduler: reads what it needs out of the scheduler's `__dict__`, checks it, and writes.

mod fields;
mod formulas;
mod lambdas;
mod plateau;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyList, PyTuple};

use fields::{Fields, Group, copy, counts};
use formulas::Step;

/// How a class of schedulers works out its learning rates.
#[pyclass(frozen, module = "torchpace._native")]
pub struct Formula {
    way: Way,
}

type OfNumbers = for<'py> fn(&Fields<'py>, &[Group<'py>], i64) -> Option<Step<'py>>;

#[derive(Clone, Copy)]
enum Way {
    /// From numbers.
    Numbers(OfNumbers),
    /// From numbers, in a class that does not count its steps.
    Uncounted(OfNumbers),
    /// By calling the user's functions, times a group's first learning rate or its last.
    Functions(lambdas::Times),
    /// As the one scheduler whose turn it is.
    Sequence,
    /// As several schedulers, one after the other.
    Chain,
    /// From a metric.
    Plateau,
}

#[pymethods]
impl Formula {
    #[new]
    fn new(name: &str) -> PyResult<Self> {
        let way = match name {
            "StepLR" => Way::Numbers(formulas::step),
            "MultiStepLR" => Way::Numbers(formulas::multi_step),
            "ConstantLR" => Way::Numbers(formulas::constant),
            "LinearLR" => Way::Numbers(formulas::linear),
            "ExponentialLR" => Way::Numbers(formulas::exponential),
            "PolynomialLR" => Way::Numbers(formulas::polynomial),
            "CosineAnnealingLR" => Way::Numbers(formulas::annealing),
            "CosineAnnealingWarmRestarts" => Way::Uncounted(formulas::restarts),
            "CyclicLR" => Way::Numbers(formulas::cyclic),
            "OneCycleLR" => Way::Numbers(formulas::one_cycle),
            "SWALR" => Way::Numbers(formulas::swa),
            "LambdaLR" => Way::Functions(lambdas::Times::First),
            "MultiplicativeLR" => Way::Functions(lambdas::Times::Last),
            "SequentialLR" => Way::Sequence,
            "ChainedScheduler" => Way::Chain,
            "ReduceLROnPlateau" => Way::Plateau,
            _ => return Err(PyValueError::new_err(format!("no scheduler is named {name:?}"))),
        };
        Ok(Self { way })
    }
}

/// Makes a scheduler's step, if it is certain to be torch's to the bit; else nothing was written.
#[pyfunction]
pub fn advance(scheduler: &Bound<'_, PyAny>) -> PyResult<bool> {
    let (Some(way), Some(fields)) = (way(scheduler), Fields::of(scheduler)) else { return Ok(false) };
    Ok(run(scheduler.py(), way, &fields)?.is_some())
}

/// Makes the step of a `ReduceLROnPlateau` on a metric, if it is torch's and reduces nothing; else nothing was written.
#[pyfunction]
pub fn observe(scheduler: &Bound<'_, PyAny>, metrics: &Bound<'_, PyAny>) -> PyResult<bool> {
    let (Some(Way::Plateau), Some(fields)) = (way(scheduler), Fields::of(scheduler)) else { return Ok(false) };
    Ok(plateau::step(scheduler.py(), &fields, metrics)?.is_some())
}

fn run<'py>(py: Python<'py>, way: Way, fields: &Fields<'py>) -> PyResult<Option<()>> {
    if !fields.untouched() {
        return Ok(None);
    }
    match way {
        Way::Numbers(formula) => numbers(py, fields, formula, true),
        Way::Uncounted(formula) => numbers(py, fields, formula, false),
        Way::Functions(times) => lambdas::step(py, fields, times),
        Way::Sequence => sequence(py, fields),
        Way::Chain => chain(py, fields),
        Way::Plateau => Ok(None), // it needs a metric
    }
}

fn way(scheduler: &Bound<'_, PyAny>) -> Option<Way> {
    // Of the class: what is set on an instance is a value of the user's.
    let formula = scheduler.get_type().getattr(intern!(scheduler.py(), "_formula")).ok()?;
    Some(formula.cast_exact::<Formula>().ok()?.get().way)
}

/// A step by a formula. `None` where torch has to take it.
fn numbers<'py>(py: Python<'py>, fields: &Fields<'py>, formula: OfNumbers, counted: bool) -> PyResult<Option<()>> {
    let plan = || {
        let (epoch, count) = if counted {
            counts(py, fields).map(|(epoch, count)| (epoch, Some(count)))?
        } else {
            (fields.int(intern!(py, "last_epoch"))? + 1, None)
        };
        let groups = fields.groups()?;
        let step = formula(fields, &groups, epoch)?;
        let momenta = match &step.momenta {
            Some(momenta) => Some(momenta.entries(&groups)?),
            None => None,
        };
        Some((epoch, count, groups, step, momenta))
    };
    let Some((epoch, count, groups, step, momenta)) = plan() else { return Ok(None) };
    // From here on all is written.
    if let Some(momenta) = momenta {
        for (group, (key, value)) in groups.iter().zip(momenta) {
            group.dict().set_item(key, value)?;
        }
    }
    let last = match step.lrs {
        None => PyList::new(py, groups.iter().map(Group::lr_object))?,
        Some(lrs) => {
            let lrs: Vec<_> = lrs.into_iter().map(|lr| PyFloat::new(py, lr)).collect();
            for (group, lr) in groups.iter().zip(&lrs) {
                group.dict().set_item(intern!(py, "lr"), lr)?;
            }
            PyList::new(py, lrs)?
        }
    };
    for (name, value) in step.attributes {
        fields.set(name, value)?;
    }
    if let Some(count) = count {
        fields.set(intern!(py, "_step_count"), count)?;
    }
    fields.set(intern!(py, "last_epoch"), epoch)?;
    fields.set(intern!(py, "_last_lr"), last)?;
    Ok(Some(()))
}

/// A step of the scheduler whose turn it is, except at the first of its turn, which torch makes.
fn sequence<'py>(py: Python<'py>, fields: &Fields<'py>) -> PyResult<Option<()>> {
    let plan = || {
        let epoch = fields.int(intern!(py, "last_epoch"))? + 1;
        let milestones = fields.get(intern!(py, "_milestones"))?.cast_into_exact::<PyList>().ok()?;
        let (mut turn, mut before) = (0, i64::MIN);
        for milestone in &milestones {
            let milestone = fields::int(&milestone)?;
            if milestone < before || milestone == epoch {
                return None;
            }
            turn += usize::from(milestone < epoch);
            before = milestone;
        }
        let schedulers = fields.get(intern!(py, "_schedulers"))?;
        let child = schedulers.cast_exact::<PyList>().ok()?.get_item(turn).ok()?;
        Some((epoch, way(&child)?, Fields::of(&child)?))
    };
    let Some((epoch, way, child)) = plan() else { return Ok(None) };
    let done = run(py, way, &child);
    if matches!(done, Ok(None)) {
        return Ok(None);
    }
    // Also where a function of the user's raised: torch counts before.
    fields.set(intern!(py, "last_epoch"), epoch)?;
    done?;
    fields.set(intern!(py, "_last_lr"), child.get(intern!(py, "_last_lr")))?;
    Ok(Some(()))
}

/// A step of each scheduler, if each has a formula of its own.
fn chain<'py>(py: Python<'py>, fields: &Fields<'py>) -> PyResult<Option<()>> {
    let plan = || {
        let schedulers = schedulers(py, fields)?;
        let formula = |child| matches!(way(child), Some(Way::Numbers(_) | Way::Uncounted(_) | Way::Functions(_)));
        let last = Fields::of(schedulers.last()?)?;
        schedulers.iter().all(formula).then_some((schedulers, last))
    };
    let Some((schedulers, last)) = plan() else { return Ok(None) };
    for scheduler in &schedulers {
        if !advance(scheduler)? {
            scheduler.call_method0(intern!(py, "step"))?;
        }
    }
    let optimizer = last.get(intern!(py, "optimizer")).ok_or_else(|| PyValueError::new_err("no optimizer"))?;
    let lrs = optimizer
        .getattr(intern!(py, "param_groups"))?
        .try_iter()?
        .map(|group| copy(&group?.get_item(intern!(py, "lr"))?))
        .collect::<PyResult<Vec<_>>>()?;
    fields.set(intern!(py, "_last_lr"), lrs)?;
    Ok(Some(()))
}

fn schedulers<'py>(py: Python<'py>, fields: &Fields<'py>) -> Option<Vec<Bound<'py, PyAny>>> {
    let schedulers = fields.get(intern!(py, "_schedulers"))?;
    match schedulers.cast_exact::<PyList>() {
        Ok(list) => Some(list.iter().collect()),
        Err(_) => Some(schedulers.cast_exact::<PyTuple>().ok()?.iter().collect()),
    }
}
