//! Ready: a step over what was seen, as the drivers take it.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use super::super::call::Call;
use super::super::end::Stop;
use super::super::plan::drive::Drive;
use super::super::plan::groups::KnownGroup;
use super::super::plan::layouts::Layouts;
use super::super::plan::left::Left;
use super::super::plan::members::{Member, Seen};
use super::super::plan::parts::{Parts, Role};
use super::{find, resolve};
use crate::batch::{Batch, Ready, Unfit};
use crate::rule::Rule;
use crate::tensor::{Operands, View, Walk};

/// The parts of a step, each with the place of its device among those of the step.
pub type ByDevice<'a, R, const C: usize, const S: usize> = Vec<(usize, Ready<'a, R, C, S>)>;

/// The step before on all devices once more, with the gradients where they are now.
pub fn again<'a, R: Rule<C, S>, const C: usize, const S: usize>(
    groups: &[Option<KnownGroup<R>>],
    members: &[Member],
    seen: &[Parts<Seen, S>],
    drives: &mut [Drive<R, C, S>],
) -> Option<ByDevice<'a, R, C, S>> {
    let mut all = Vec::with_capacity(1);
    for (d, drive) in drives.iter_mut().enumerate().filter(|(_, drive)| drive.is_used) {
        let mut kept = drive.kept.take()?;
        let own = members.iter().zip(seen.iter()).filter(|(member, _)| usize::from(member.drive) == d);
        for (place, (_, seen)) in own.enumerate() {
            if !kept.move_grad(place, core::ptr::with_exposed_provenance_mut(seen.grad.data), &mut drive.territory) {
                return None;
            }
        }
        // SAFETY: all tensors were just seen where they were in that step, and no Python code ran since.
        all.push((d, unsafe { kept.again(|number| groups[number].as_ref().map(|known| &known.group)) }?));
    }
    Some(all)
}

/// What came of collecting and checking a step.
pub enum Anew<'a, R, const C: usize, const S: usize> {
    /// It can run.
    Ready(ByDevice<'a, R, C, S>),
    /// Some parameters turned out to be left to torch: all is to be done anew without them.
    Left,
}

/// The step collected and checked. With `unscale` the gradients are multiplied by it, or on a GPU by a number that is there.
pub fn anew<'a, R: Rule<C, S>, const C: usize, const S: usize>(
    call: &Call<'_>,
    groups: &[Option<KnownGroup<R>>],
    (members, seen): (&[Member], &[Parts<Seen, S>]),
    (layouts, walks): (&'a Layouts, &mut HashMap<Parts<u32, S>, Arc<Walk<S>>>),
    drives: &mut [Drive<R, C, S>],
    left: &mut Left,
    unscale: Option<f64>,
) -> Result<Anew<'a, R, C, S>, Stop> {
    let mut refused = Vec::new();
    let mut batches: Vec<_> = drives.iter().map(|drive| Batch::on(drive.device, unscale)).collect();
    for (member, seen) in members.iter().zip(seen.iter()) {
        let (group, index) = (member.group as usize, member.index as usize);
        let Some(known) = &groups[group] else { continue };
        let place = || call.place(group, index);
        let Some(operands) = operands::<R, C, S>(layouts, seen) else { continue };
        let has_memory = check_memory::<R, C, S>(call, &operands, (group, index))?;
        if unscale.is_some() && operands.grad.overlaps_itself() {
            return Err(Stop::Torch(format!("{}: grad overlaps itself, and a GradScaler unscales it", place())));
        }
        let key = Parts {
            param: seen.param.layout,
            grad: seen.grad.layout,
            step: u32::MAX,
            slots: seen.slots.map(|slot| slot.layout),
        };
        let mut walk: Option<Arc<Walk<S>>> = walks.get(&key).cloned();
        let was_there = walk.is_some();
        let batch = &mut batches[usize::from(member.drive)];
        match batch.push((group, &known.group), member.is_new, &mut walk, &operands, place) {
            Ok(()) => {}
            Err(Unfit::Wrong(error)) => return Err(error.into()),
            Err(Unfit::Refused(name, refusal)) => refused.push(((group, index), name, refusal)),
        }
        if !has_memory {
            // Python was asked about it, so what was seen of the others may no longer be true.
            break;
        }
        if let Some(walk) = walk.filter(|_| !was_there) {
            walks.insert(key, walk);
        }
    }
    if !refused.is_empty() {
        for ((group, index), name, refusal) in refused {
            left.add((group, index), Some(format!("{}: {name} {refusal}", call.place(group, index))));
        }
        return Ok(Anew::Left);
    }
    let mut all = Vec::with_capacity(1);
    for (d, (batch, drive)) in batches.into_iter().zip(drives).enumerate().filter(|(_, (_, drive))| drive.is_used) {
        let ready = batch.ready(&mut drive.territory);
        all.push((d, ready.ok_or_else(|| Stop::Torch("tensors of the step share memory".to_owned()))?));
    }
    Ok(Anew::Ready(all))
}

/// A member's memory.
fn operands<'a, R: Rule<C, S>, const C: usize, const S: usize>(
    layouts: &'a Layouts,
    seen: &Parts<Seen, S>,
) -> Option<Operands<'a, S>> {
    let view = |seen: Seen| layouts.get(seen.layout).map(|layout| layout.view(seen.data));
    let mut operands = Operands {
        param: view(seen.param)?,
        grad: view(seen.grad)?,
        slots: seen.slots.map(view),
        step: view(seen.step),
        scalars: [None; S],
    };
    if R::HAS_SCALARS {
        for k in (0..S).filter(|&k| R::SCALARS[k]) {
            operands.scalars[k] = operands.slots[k].take();
        }
    }
    Some(operands)
}

/// That no storage was freed; whether all is memory. A lazy zero has none either; the drivers refuse it.
fn check_memory<R: Rule<C, S>, const C: usize, const S: usize>(
    call: &Call<'_>,
    operands: &Operands<'_, S>,
    at: (usize, usize),
) -> Result<bool, Stop> {
    let mut has_all = true;
    let lacks = |view: Option<View<'_>>| view.is_some_and(|view| !view.has_memory());
    let views =
        [(Role::Param, Some(operands.param)), (Role::Grad, Some(operands.grad)), (Role::State("step"), operands.step)];
    let slots = operands.slots.into_iter().zip(operands.scalars).map(|(slot, scalar)| slot.or(scalar));
    let slots = R::SLOTS.iter().zip(slots).map(|(name, slot)| (Role::State(name), slot));
    for (role, view) in views.into_iter().chain(slots) {
        if lacks(view) {
            has_all = false;
            resolve::check_freed(call, &find::object(call, at, role)?, role, &|| call.place(at.0, at.1))?;
        }
    }
    Ok(has_all)
}
