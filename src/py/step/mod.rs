//! A step of a Python optimizer, stage by stage: collect, find, see, ready, run. Each stage says where Python code may run;
//! where it did, what was found before may be gone, and the step begins anew.

mod collect;
mod find;
mod gpus;
mod ready;
mod resolve;
mod run;
mod see;

use self::gpus::Told;
use super::call::{Call, Scaling};
use super::end::{Path, Stop};
use super::plan::Known;
use super::plan::drive::Drive;
use super::plan::members::Member;
use super::plan::parts::Role;
use crate::batch::Clip;
use crate::rule::Rule;
use crate::tensor::Device;

/// How many times a step looks anew at tensors that change under it.
const ATTEMPTS: usize = 16;

/// What a step has done so far.
struct Progress<'py> {
    /// Whether it has made state.
    made: bool,
    /// What is left of what a GradScaler asks for.
    scaling: Scaling<'py>,
    /// Whether the step multiplied the gradients.
    unscaled: bool,
}

/// Steps on all parameters that have a gradient.
pub fn step<R: Rule<C, S>, const C: usize, const S: usize>(
    known: &mut Known<R, C, S>,
    call: &Call<'_>,
) -> Result<Path, Stop> {
    let mut progress = Progress { made: false, scaling: call.scaling, unscaled: false };
    known.owned.is_needed |= !call.torch.has_handles();
    known.owned.was_needed = false;
    known.left.begin(call.left);
    collect::read_volatile(known, call);
    let mut path = known.begin_step(call).map(|()| None);
    let mut attempts = 0;
    while matches!(path, Ok(None)) && attempts < ATTEMPTS {
        let left = known.left.found().len();
        known.owned.clear();
        path = attempt(known, call, &mut progress);
        attempts += usize::from(known.left.found().len() == left);
    }
    // What the next step finds as it was is what this one ran on, or nothing.
    known.is_same = matches!(path, Ok(Some(Path::Fused(_)))) && !progress.unscaled;
    known.owned.is_needed &= known.owned.was_needed;
    known.owned.clear();
    match path? {
        Some(path) => Ok(path),
        None => Err(Stop::Torch("its tensors change while the step looks at them".to_owned())),
    }
}

/// One attempt; None if it has to begin anew.
fn attempt<R: Rule<C, S>, const C: usize, const S: usize>(
    known: &mut Known<R, C, S>,
    call: &Call<'_>,
    progress: &mut Progress<'_>,
) -> Result<Option<Path>, Stop> {
    if !collect::collect(known, call)? || !find::find(known, call, progress.made)? {
        return Ok(None);
    }
    let clip = clip(known)?;
    if known.left.is_any() && (known.spots.is_empty() || clip.wants_norm() || call.scaling.is_any() || R::OVER_ALL) {
        return Err(Stop::Torch(why_left(known, call)?));
    }
    if !known.owned.spread.is_empty() && needs_sums(known) {
        let reason = "a parameter is spread over processes, and its update needs sums over all of it";
        return Err(Stop::Torch(reason.to_owned()));
    }
    if clip.wants_norm() && call.norm.get().is_none() && !known.owned.spread.is_empty() {
        return Ok(Some(Path::NormWanted));
    }
    if !see::see(known, call)? || !route(known, call)? || known.begin_devices(call)? {
        return Ok(None);
    }
    let scaling = &mut progress.scaling;
    let mut grad_norm = None;
    let is_scaled_on_gpu = scaling.found_inf.is_some() || (scaling.grad_scale.is_some() && scaling.unscale.is_none());
    if is_scaled_on_gpu || known.concerns_gpus() {
        match known.see_to_gpus(call, scaling, clip)? {
            Told::Go(norm) => grad_norm = norm,
            Told::Anew => return Ok(None),
            Told::Path(path) => return Ok(Some(path)),
        }
    }
    // A GPU looks at the scale itself.
    let unscale = scaling.unscale.or(scaling.grad_scale.map(|_| 1.0));
    let clip = Some(clip).filter(|clip| clip.wants_norm() && grad_norm.is_none());
    match run::run(known, call, unscale, clip)? {
        run::Ran::All(learned) => {
            progress.unscaled = unscale.is_some();
            run::bump(known, call, unscale.is_some())?;
            run::keep(call, &learned)?;
            Ok(Some(Path::Fused(grad_norm)))
        }
        run::Ran::LacksParams => Ok(None),
        run::Ran::Leaves if R::OVER_ALL => Err(Stop::Torch(why_left(known, call)?)),
        run::Ran::Leaves => Ok(Some(Path::Left(why_left(known, call)?, known.left.found().iter().copied().collect()))),
        run::Ran::LeftOut(reason) => Ok(Some(Path::Skipped(reason))),
        run::Ran::LacksMemory(lacking) => {
            for (d, bytes) in lacking {
                if let Some(gpu) = &mut known.drives[d].gpu {
                    gpu.allocate(call.py, bytes)?;
                }
            }
            Ok(None)
        }
        // All else was checked before the first state is made, so that a step left to torch makes none.
        run::Ran::LacksState => {
            find::make(known, call)?;
            progress.made = true;
            Ok(None)
        }
    }
}

/// Why the first of the parameters that are left to torch is. Runs Python code.
fn why_left<R, const C: usize, const S: usize>(known: &mut Known<R, C, S>, call: &Call<'_>) -> Result<String, Stop> {
    let Some((place, reason)) = known.left.first() else { return Ok("all was left before".to_owned()) };
    if let Some(reason) = reason {
        return Ok(reason.clone());
    }
    let (group, index) = *place;
    let param = call.param(group, index)?;
    let name = || call.place(group, index);
    let found = resolve::param(call, &mut known.owned, &param, (group, index))
        .and_then(|_| resolve::examine(call, &call.torch.grad(&param)?, Role::Grad, &name));
    match found {
        Err(Stop::One(reason)) => Ok(reason),
        Err(stop) => Err(stop),
        Ok(()) => Ok(format!("{} was not for this step", name())),
    }
}

/// How the gradients are clipped by their norm: in one way for all groups that take part.
fn clip<R, const C: usize, const S: usize>(known: &Known<R, C, S>) -> Result<Clip, Stop> {
    let mut clip: Option<Clip> = None;
    let mut last = u32::MAX;
    for member in &known.members {
        if core::mem::replace(&mut last, member.group) == member.group {
            continue;
        }
        let Some(group) = &known.groups[member.group as usize] else { continue };
        clip.get_or_insert(group.clip).check(group.clip, &format!("param_groups[{}]", member.group))?;
    }
    Ok(clip.unwrap_or(Clip::OFF))
}

/// Whether the update of any parameter that takes part depends on sums over that.
fn needs_sums<R: Rule<C, S>, const C: usize, const S: usize>(known: &Known<R, C, S>) -> bool {
    let group_of = |member: &Member| known.groups[member.group as usize].as_ref();
    R::OVER_ALL
        || R::HAS_SUMS
            && known.members.iter().any(|member| group_of(member).is_some_and(|group| group.group.rule.needs_sums()))
}

/// Finds the device of each parameter; false if Python code ran, since one was new.
fn route<R: Rule<C, S>, const C: usize, const S: usize>(
    known: &mut Known<R, C, S>,
    call: &Call<'_>,
) -> Result<bool, Stop> {
    if known.is_same {
        return Ok(true);
    }
    let Known { members, seen, layouts, drives, .. } = known;
    drives.iter_mut().for_each(|drive| drive.is_used = false);
    for (member, seen) in members.iter_mut().zip(seen) {
        let device = layouts.get(seen.param.layout).map_or(Device::Cpu, |layout| layout.device);
        match drives.iter().position(|drive| drive.device == device) {
            Some(place) => {
                member.drive = place as u16;
                drives[place].is_used = true;
            }
            None => {
                drives.push(Drive::new(call.py, device)?);
                return Ok(false);
            }
        }
    }
    Ok(true)
}
