//! The memory of a plan's parameters: looked at, and stepped on.
#![allow(unsafe_code)]

use super::groups::KnownGroup;
use super::held::Held;
use super::member::{Member, operands};
use super::plan::Stop;
use super::step::{AHEAD, Call, place};
use crate::cpu::{Batch, Kept, Ready, Unfit};
use crate::rule::Rule;
use crate::tensor::Territory;

/// The step before once more, if all its tensors are where they were.
pub fn again<'a, R: Rule<C, S>, const C: usize, const S: usize>(
    call: &Call<'_>,
    mut kept: Kept<R, C, S>,
    groups: &[Option<KnownGroup<R>>],
    members: &'a [Member<S>],
    territory: &mut Territory,
) -> Option<Ready<'a, R, C, S>> {
    for (place, member) in members.iter().filter(|member| member.active).enumerate() {
        if let Some(next) = members.get(place + AHEAD) {
            next.state.all().for_each(Held::prefetch);
            next.param.iter().chain(&next.grad).chain(next.state.all()).for_each(Held::prefetch_data);
        }
        let grad = member.grad.as_ref()?;
        let unmoved = |held: &Held| held.is_unmoved(call.py, call.torch);
        if !(unmoved(member.param.as_ref()?) && member.state.all().all(unmoved)) {
            return None;
        }
        if member.new_grad {
            if !kept.set_grad(place, &grad.view(call.py, call.torch)?, territory) {
                return None;
            }
        } else if !unmoved(grad) {
            return None;
        }
    }
    // SAFETY: the objects are those of that step and were found unmoved, no Python code ran since, and they stay with
    // their members.
    unsafe { kept.again(|number| groups[number].as_ref().map(|known| &known.group)) }
}

/// The step over the members' memory, if all tensors are in order; None if some memory is not where it was found.
pub fn read<'a, R: Rule<C, S>, const C: usize, const S: usize>(
    call: &Call<'_>,
    groups: &'a [Option<KnownGroup<R>>],
    members: &'a mut [Member<S>],
    territory: &mut Territory,
) -> Result<Option<Ready<'a, R, C, S>>, Stop> {
    let mut batch = Batch::new(call.unscale);
    for member in members.iter_mut().filter(|member| member.active) {
        let Some(known) = &groups[member.group] else { continue };
        let (group, index) = (member.group, member.index);
        let place = || place(call, group, index);
        let (Some(param), Some(grad)) = (&member.param, &member.grad) else { continue };
        let Some(operands) = operands(call, param, grad, &member.state) else {
            member.known = false;
            return Ok(None);
        };
        if call.unscale.is_some() && operands.grad.overlaps_itself() {
            return Err(Stop::Torch(format!("{}: grad overlaps itself, and a GradScaler unscales it", place())));
        }
        batch.push((group, &known.group), member.fresh, &mut member.walk, &operands, place).map_err(
            |unfit| match unfit {
                Unfit::Wrong(error) => error.into(),
                Unfit::Refused(name, refusal) => Stop::Torch(format!("{}: {name} {refusal}", place())),
            },
        )?;
    }
    let ready = batch.ready(territory);
    ready.map(Some).ok_or_else(|| Stop::Torch("tensors of the step share memory".to_owned()))
}

/// Work of at least this many elements is done without the GIL, and on several threads.
const MUCH: usize = 1 << 15;

/// Runs a step.
pub fn run<R: Rule<C, S>, const C: usize, const S: usize>(call: &Call<'_>, ready: Ready<'_, R, C, S>) -> Kept<R, C, S> {
    let threads = call.torch.threads(call.threads);
    if ready.total() < MUCH {
        return ready.run(&threads);
    }
    call.py.detach(|| ready.run(&threads))
}

/// The norm of a step's gradients.
pub fn grad_norm<R: Rule<C, S>, const C: usize, const S: usize>(call: &Call<'_>, ready: &Ready<'_, R, C, S>) -> f64 {
    let threads = call.torch.threads(call.threads);
    if ready.total() < MUCH {
        return ready.grad_norm(&threads);
    }
    call.py.detach(|| ready.grad_norm(&threads))
}
