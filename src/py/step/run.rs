//! Run: the step on all devices, and what comes of it.
#![allow(unsafe_code)]

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyList};

use super::super::call::Call;
use super::super::end::Stop;
use super::super::plan::Known;
use super::super::plan::drive::Drive;
use super::super::plan::members::{Lacks, Owned};
use super::super::plan::parts::Parts;
use super::super::torch::Spot;
use super::ready::{Anew, ByDevice, again, anew};
use crate::batch::{Clip, Group, Kept, Ready};
use crate::rule::{Learned, Rule, SUMS};

/// Work of at least this many elements, some half a millisecond on one core, is done without the GIL. All tensors have to
/// be held for that, which takes longer than less work does.
const MUCH: usize = 1 << 18;

/// How a run ended.
pub enum Ran {
    /// All is done, and the groups are to keep this of it.
    All(Learned),
    /// Nothing is done, for this reason.
    LeftOut(String),
    /// Nothing is done: so many bytes of memory are needed on the devices of these places.
    LacksMemory(Vec<(usize, usize)>),
    /// Nothing is done: all was in order, but for state that has to be made.
    LacksState,
    /// Nothing is done: some parameters turned out to be left to torch, and the others are to be looked at anew.
    LacksParams,
    /// Nothing is done: all was in order, but for parameters that are left to torch.
    Leaves,
}

/// Runs the step on what was seen. `clip` is what the norm does, if the host has to find it. From when the tensors were
/// seen to the end of this no Python code runs, so that what was seen stays true.
pub fn run<R: Rule<C, S>, const C: usize, const S: usize>(
    known: &mut Known<R, C, S>,
    call: &Call<'_>,
    unscale: Option<f64>,
    clip: Option<Clip>,
) -> Result<Ran, Stop> {
    let Known { groups, members, spots, seen, is_same, layouts, walks, drives, owned, left, .. } = known;
    let lacks_state = members.iter().any(|member| member.lacks != Lacks::Nothing);
    let as_before = core::mem::take(is_same) && unscale.is_none();
    let again = if as_before { again(groups, members, seen, drives) } else { None };
    drives.iter_mut().for_each(|drive| drive.kept = None);
    let mut parts = match again {
        Some(parts) => parts,
        None => match anew(call, groups, (members, seen), (layouts, walks), drives, left, unscale)? {
            Anew::Ready(parts) => parts,
            Anew::Left => return Ok(Ran::LacksParams),
        },
    };
    if !left.found().is_empty() {
        return Ok(Ran::Leaves);
    }
    let is_much = |(d, ready): &(usize, Ready<'_, R, C, S>)| drives[*d].gpu.is_none() && ready.total() >= MUCH;
    let has_much = parts.iter().any(is_much);
    let mut lacking = Vec::new();
    for (d, ready) in &parts {
        if let Some(gpu) = &mut drives[*d].gpu
            && (clip.is_some() || !lacks_state)
        {
            lacking.extend(gpu.prepare(call.py, ready)?.map(|bytes| (*d, bytes)));
        }
    }
    if !lacking.is_empty() {
        return Ok(Ran::LacksMemory(lacking));
    }
    if has_much {
        hold(spots, owned, call);
    }
    let mut factor = 1.0;
    if let Some(clip) = clip {
        let norm = match call.norm.get() {
            Some(norm) => norm,
            None => grad_norm(call, drives, &parts)?,
        };
        call.norm.set(Some(norm));
        match clip.factor(norm)? {
            Some(found) => factor = found,
            None => return Ok(Ran::LeftOut(clip.reason(norm))),
        }
    }
    if R::OVER_ALL {
        Group::check_shared(parts.iter().flat_map(|(_, ready)| ready.groups()), |k| format!("param_groups[{k}]"))?;
    }
    if lacks_state {
        return Ok(Ran::LacksState);
    }
    parts.iter_mut().for_each(|(_, ready)| ready.scale_grads(factor));
    let mut learned = Learned::new();
    if R::OVER_ALL {
        let sums = sums(call, drives, &parts)?;
        parts.iter_mut().for_each(|(_, ready)| learned = ready.learn(sums));
    }
    // On the GPUs first: what they refuse, they refuse before anything is written.
    parts.sort_by_key(|(d, _)| drives[*d].gpu.is_none());
    for (d, ready) in parts {
        let drive = &mut drives[d];
        drive.kept = Some(run_on(call, drive, ready)?);
    }
    Ok(Ran::All(learned))
}

fn run_on<R: Rule<C, S>, const C: usize, const S: usize>(
    call: &Call<'_>,
    drive: &mut Drive<R, C, S>,
    ready: Ready<'_, R, C, S>,
) -> Result<Kept<R, C, S>, Stop> {
    if let Some(gpu) = &mut drive.gpu {
        return Ok(gpu.run(ready)?);
    }
    let threads = call.torch.threads(call.threads);
    Ok(if ready.total() < MUCH { ready.run(&threads) } else { call.py.detach(|| ready.run(&threads)) })
}

/// The norm of the gradients on all devices.
fn grad_norm<R: Rule<C, S>, const C: usize, const S: usize>(
    call: &Call<'_>,
    drives: &mut [Drive<R, C, S>],
    all: &ByDevice<'_, R, C, S>,
) -> Result<f64, Stop> {
    let threads = call.torch.threads(call.threads);
    let mut of = |(d, ready): &(usize, Ready<'_, R, C, S>)| -> Result<f64, Stop> {
        Ok(match &mut drives[*d].gpu {
            Some(gpu) => gpu.norm(ready)?,
            None if ready.total() < MUCH => ready.grad_norm(&threads),
            None => call.py.detach(|| ready.grad_norm(&threads)),
        })
    };
    match &all[..] {
        [only] => of(only),
        _ => {
            let norms = all.iter().map(of).collect::<Result<Vec<_>, _>>()?;
            Ok(norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt())
        }
    }
}

/// The sums over all parameters on all devices.
fn sums<R: Rule<C, S>, const C: usize, const S: usize>(
    call: &Call<'_>,
    drives: &mut [Drive<R, C, S>],
    all: &ByDevice<'_, R, C, S>,
) -> Result<[f64; SUMS], Stop> {
    let threads = call.torch.threads(call.threads);
    let mut total = [0.0; SUMS];
    for (d, ready) in all {
        let sums = match &mut drives[*d].gpu {
            Some(gpu) => gpu.sums(ready)?,
            None if ready.total() < MUCH => ready.sums(&threads),
            None => call.py.detach(|| ready.sums(&threads)),
        };
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    Ok(total)
}

/// Enters what the groups are to keep of a step.
pub fn keep(call: &Call<'_>, learned: &Learned) -> PyResult<()> {
    if learned.is_empty() {
        return Ok(());
    }
    for group in call.param_groups {
        let group = group.cast_into::<PyDict>()?;
        for &(name, value) in learned {
            match group.get_item(name)? {
                Some(old) if old.is_exact_instance_of::<PyInt>() && value.fract() == 0.0 => {
                    group.set_item(name, value as i64)?;
                }
                _ => group.set_item(name, value)?,
            }
        }
    }
    Ok(())
}

/// Holds all tensors of the step, so that other threads, or Python code, may let go of theirs.
fn hold<const S: usize>(spots: &mut [Parts<Spot, S>], owned: &mut Owned, call: &Call<'_>) {
    if owned.is_needed || owned.has_all {
        return;
    }
    owned.has_all = true;
    for parts in spots {
        // SAFETY: the tensors of this step.
        unsafe {
            let object = call.torch.object(parts.grad);
            if !object.is_null() {
                // Not where the parameter has it, which may come to have another.
                parts.grad = call.torch.spot(object);
            } else if let Some(grad) = call.torch.own(parts.grad) {
                parts.grad = grad.spot();
                owned.tensors.push(grad);
            }
            for spot in parts.each().filter(|spot| !spot.is_none()) {
                let object = call.torch.object(spot);
                if !object.is_null() {
                    owned.objects.push(Bound::from_borrowed_ptr(call.py, object).unbind());
                }
            }
        }
    }
}

/// Tells autograd what was written, the gradients among that or not.
pub fn bump<R, const C: usize, const S: usize>(
    known: &Known<R, C, S>,
    call: &Call<'_>,
    with_grad: bool,
) -> PyResult<()> {
    let Known { spots, owned, .. } = known;
    let written = |parts: &Parts<Spot, S>| {
        let grad = if with_grad { parts.grad } else { Spot::NONE };
        [parts.param, parts.step, grad].into_iter().chain(parts.slots).filter(|spot| !spot.is_none())
    };
    if !owned.is_needed {
        for parts in spots {
            // SAFETY: the tensors of this step, each of which a look has seen.
            written(parts).for_each(|spot| unsafe { call.torch.bump(spot) });
        }
        return Ok(());
    }
    let mut objects = Vec::new();
    for spot in spots.iter().flat_map(written) {
        // SAFETY: a tensor of this step, which is held, as an object.
        objects.push(unsafe { Bound::from_borrowed_ptr(call.py, call.torch.object(spot)).unbind() });
    }
    let spread = owned.spread.iter().chain(owned.spread_grads.iter().filter(|_| with_grad));
    objects.extend(spread.map(|object| object.clone_ref(call.py)));
    call.torch.increment_version(&PyList::new(call.py, objects)?)
}
