//! The step of `ReduceLROnPlateau` on a metric. Where the learning rate goes down, torch makes it.

use std::str::FromStr;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyList, PyString};

use super::fields::{Fields, float, number};
use crate::lr_scheduler::plateau::Counts;
use crate::schedule::{Mode, ThresholdMode};

/// A step that reduces nothing. `None`, with nothing written, where torch has to take it.
pub fn step<'py>(py: Python<'py>, fields: &Fields<'py>, metrics: &Bound<'py, PyAny>) -> PyResult<Option<()>> {
    let plan = || {
        let own = |name| fields.get(name).is_none();
        if !own(intern!(py, "_is_better")) || !own(intern!(py, "step")) || !own(intern!(py, "_reduce_lr")) {
            return None;
        }
        let metric = metrics.cast_exact::<PyFloat>().ok()?.value();
        let mode = word::<Mode>(fields, intern!(py, "mode"))?;
        let measured_in = word::<ThresholdMode>(fields, intern!(py, "threshold_mode"))?;
        let (threshold, before) = (fields.float(intern!(py, "threshold"))?, float(&fields.get(intern!(py, "best"))?)?);
        let counts = Counts {
            bad: fields.int(intern!(py, "num_bad_epochs"))?,
            cooldown: fields.int(intern!(py, "cooldown_counter"))?,
        };
        let best = mode.beats(metric, before, threshold, measured_in);
        let next = counts.next(best);
        if next.bad as f64 > number(&fields.get(intern!(py, "patience"))?)? {
            return None;
        }
        let groups = fields.group_list()?;
        let lr = |group: Bound<'py, PyAny>| {
            let lr = group.cast_into_exact::<pyo3::types::PyDict>().ok()?.get_item(intern!(py, "lr")).ok()??;
            float(&lr)?;
            Some(lr)
        };
        let last = groups.iter().map(lr).collect::<Option<Vec<_>>>()?;
        Some((best, counts, next, fields.int(intern!(py, "last_epoch"))? + 1, last))
    };
    let Some((best, counts, next, epoch, last)) = plan() else { return Ok(None) };
    fields.set(intern!(py, "last_epoch"), epoch)?;
    if best {
        fields.set(intern!(py, "best"), metrics)?;
    }
    if next.bad != counts.bad {
        fields.set(intern!(py, "num_bad_epochs"), next.bad)?;
    }
    if next.cooldown != counts.cooldown {
        fields.set(intern!(py, "cooldown_counter"), next.cooldown)?;
    }
    fields.set(intern!(py, "_last_lr"), PyList::new(py, last)?)?;
    Ok(Some(()))
}

fn word<T: FromStr>(fields: &Fields<'_>, name: &Bound<'_, PyString>) -> Option<T> {
    fields.get(name)?.cast_exact::<PyString>().ok()?.to_str().ok()?.parse().ok()
}
