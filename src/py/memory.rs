//! The memory of a plan's parameters: looked at, and stepped on.
#![allow(unsafe_code)]

use super::drive::Drive;
use super::groups::KnownGroup;
use super::held::Held;
use super::member::{Member, operands};
use super::plan::Stop;
use super::step::{AHEAD, Call, place};
use crate::batch::{Batch, Kept, Ready, Unfit};
use crate::rule::Rule;
use crate::tensor::Device;

/// The parts of a step, each with the place of its device among those of the step.
pub type Parts<'a, R, const C: usize, const S: usize> = Vec<(usize, Ready<'a, R, C, S>)>;

/// The step before on all devices once more, if all its tensors are where they were; in the devices' order.
pub fn again<'a, R: Rule<C, S>, const C: usize, const S: usize>(
    call: &Call<'_>,
    groups: &[Option<KnownGroup<R>>],
    members: &'a [Member<S>],
    drives: &mut [Drive<R, C, S>],
) -> Option<Parts<'a, R, C, S>> {
    let mut all = Vec::with_capacity(1);
    for (d, drive) in drives.iter_mut().enumerate().filter(|(_, drive)| drive.is_used) {
        let mut kept = drive.kept.take()?;
        let own = members.iter().filter(|member| member.active && member.drive == d);
        for (place, member) in own.enumerate() {
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
                if !kept.set_grad(place, &grad.view(call.py, call.torch)?, &mut drive.territory) {
                    return None;
                }
            } else if !unmoved(grad) {
                return None;
            }
        }
        // SAFETY: the objects are those of that step and were found unmoved, no Python code ran since, and they stay
        // with their members.
        all.push((d, unsafe { kept.again(|number| groups[number].as_ref().map(|known| &known.group)) }?));
    }
    Some(all)
}

/// The step over the members' memory, if all tensors are in order, in the devices' order; None if some memory is not where
/// it was found. With `unscale` the gradients are multiplied by it, or on a GPU by a number that is there.
pub fn read<'a, R: Rule<C, S>, const C: usize, const S: usize>(
    call: &Call<'_>,
    groups: &'a [Option<KnownGroup<R>>],
    members: &'a mut [Member<S>],
    drives: &mut [Drive<R, C, S>],
    unscale: Option<f64>,
) -> Result<Option<Parts<'a, R, C, S>>, Stop> {
    let mut batches: Vec<_> = drives.iter().map(|drive| Batch::on(drive.device, unscale)).collect();
    for member in members.iter_mut().filter(|member| member.active) {
        let Some(known) = &groups[member.group] else { continue };
        let (group, index) = (member.group, member.index);
        let place = || place(call, group, index);
        let (Some(param), Some(grad)) = (&member.param, &member.grad) else { continue };
        let Some(operands) = operands(call, param, grad, &member.state) else {
            member.known = false;
            return Ok(None);
        };
        if unscale.is_some() && operands.grad.overlaps_itself() {
            return Err(Stop::Torch(format!("{}: grad overlaps itself, and a GradScaler unscales it", place())));
        }
        batches[member.drive].push((group, &known.group), member.fresh, &mut member.walk, &operands, place).map_err(
            |unfit| match unfit {
                Unfit::Wrong(error) => error.into(),
                Unfit::Refused(name, refusal) => Stop::Torch(format!("{}: {name} {refusal}", place())),
            },
        )?;
    }
    let mut all = Vec::with_capacity(1);
    for (d, (batch, drive)) in batches.into_iter().zip(drives).enumerate().filter(|(_, (_, drive))| drive.is_used) {
        let ready = batch.ready(&mut drive.territory);
        all.push((d, ready.ok_or_else(|| Stop::Torch("tensors of the step share memory".to_owned()))?));
    }
    Ok(Some(all))
}

/// Work of at least this many elements is done without the GIL, and on several threads.
const MUCH: usize = 1 << 15;

/// Runs a step on a device.
pub fn run<R: Rule<C, S>, const C: usize, const S: usize>(
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
pub fn grad_norm<R: Rule<C, S>, const C: usize, const S: usize>(
    call: &Call<'_>,
    drives: &mut [Drive<R, C, S>],
    all: &[(usize, Ready<'_, R, C, S>)],
) -> Result<f64, Stop> {
    let threads = call.torch.threads(call.threads);
    let mut of = |(d, ready): &(usize, Ready<'_, R, C, S>)| -> Result<f64, Stop> {
        Ok(match &mut drives[*d].gpu {
            Some(gpu) => gpu.norm(ready)?,
            None if ready.total() < MUCH => ready.grad_norm(&threads),
            None => call.py.detach(|| ready.grad_norm(&threads)),
        })
    };
    match all {
        [only] => of(only),
        _ => {
            let norms = all.iter().map(of).collect::<Result<Vec<_>, _>>()?;
            Ok(norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt())
        }
    }
}

/// The place of the device among those of the step.
pub fn place_of<R, const C: usize, const S: usize>(drives: &[Drive<R, C, S>], device: Device) -> Option<usize> {
    drives.iter().position(|drive| drive.device == device)
}
