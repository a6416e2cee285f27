//! See: what the memory of each tensor is.
#![allow(unsafe_code)]

use pyo3::prelude::*;

use super::super::call::Call;
use super::super::end::Stop;
use super::super::plan::Known;
use super::super::plan::layouts::Layouts;
use super::super::plan::members::Seen;
use super::super::plan::parts::Parts;
use super::super::torch::look::Look;
use super::super::torch::{Spot, Torch, prefetch};
use super::resolve;
use crate::rule::Rule;

/// How many parameters ahead the processor fetches tensors, and then their storages.
const AHEAD: [usize; 2] = [4, 2];

/// Sees all; false if all is to be done anew, with the objects held or without what is left to torch. Runs Python code
/// only where they are held; what was seen in the end is true until more of it runs.
pub fn see<R: Rule<C, S>, const C: usize, const S: usize>(
    known: &mut Known<R, C, S>,
    call: &Call<'_>,
) -> Result<bool, Stop> {
    if known.layouts.len() > 64 + 8 * known.members.len() {
        // Shapes come and go.
        known.forget_layouts();
    }
    // SAFETY: the tensors of this step, none of which had a chance to go.
    if look_at_all(known, |spot| unsafe { call.torch.look(spot) }, call.torch) {
        return Ok(true);
    }
    let before = known.left.found().len();
    leave_sparse(known, call.torch);
    if known.left.found().len() > before {
        return Ok(false);
    }
    if !known.owned.is_needed {
        known.owned.is_needed = true;
        return Ok(false);
    }
    examine(known, call)?;
    if known.left.found().len() > before {
        return Ok(false);
    }
    // Once more without Python code.
    let read = |spot| unsafe {
        // SAFETY: the tensors of this step, which are held.
        call.torch.look(spot).or_else(|| call.torch.read(call.py, call.torch.object(spot)).ok())
    };
    if look_at_all(known, read, call.torch) { Ok(true) } else { Err(Stop::Torch("a tensor changed".to_owned())) }
}

/// Enters what a look at each tensor shows; false if one shows nothing.
#[inline]
fn look_at_all<'a, R, const C: usize, const S: usize>(
    known: &mut Known<R, C, S>,
    look: impl Fn(Spot) -> Option<Look<'a>>,
    torch: &Torch,
) -> bool {
    let Known { spots, seen, layouts, is_same, .. } = known;
    let mut same = *is_same;
    for m in 0..spots.len() {
        fetch_ahead(torch, spots, m);
        let mut enter = |spot: Spot, seen: &mut Seen, may_move: bool| -> bool {
            let new = if spot.is_none() {
                Seen::NONE
            } else {
                let Some(look) = look(spot) else { return false };
                prefetch(look.data);
                seen_of(layouts, seen.layout, &look)
            };
            same &= seen.layout == new.layout && (may_move || seen.data == new.data);
            *seen = new;
            true
        };
        let (spots, seen) = (&spots[m], &mut seen[m]);
        let all = enter(spots.param, &mut seen.param, false)
            && enter(spots.grad, &mut seen.grad, true)
            && enter(spots.step, &mut seen.step, false)
            && spots.slots.iter().zip(&mut seen.slots).all(|(&spot, seen)| enter(spot, seen, false));
        if !all {
            *is_same = false;
            return false;
        }
    }
    *is_same = same;
    true
}

#[inline(always)]
fn seen_of(layouts: &mut Layouts, before: u32, look: &Look<'_>) -> Seen {
    let layout = if layouts.is(before, look) { before } else { layouts.number(look) };
    Seen { data: look.data.addr(), layout }
}

#[inline(always)]
fn fetch_ahead<const S: usize>(torch: &Torch, spots: &[Parts<Spot, S>], m: usize) {
    // SAFETY: the tensors of this step. The gradients were looked at already, when they were collected.
    unsafe {
        if let Some(next) = spots.get(m + AHEAD[0]) {
            next.each().for_each(|spot| torch.prefetch(spot));
        }
        if let Some(next) = spots.get(m + AHEAD[1]) {
            next.each().for_each(|spot| torch.prefetch_storage(spot));
        }
    }
}

/// Leaves the parameters whose gradient is sparse.
fn leave_sparse<R, const C: usize, const S: usize>(known: &mut Known<R, C, S>, torch: &Torch) {
    let Known { members, spots, left, .. } = known;
    for (member, parts) in members.iter().zip(spots) {
        // SAFETY: a tensor of this step, which had no chance to go.
        if unsafe { torch.is_sparse(parts.grad) } {
            left.add((member.group as usize, member.index as usize), None);
        }
    }
}

/// Finds out why a look at some tensor showed nothing. Runs Python code.
fn examine<R: Rule<C, S>, const C: usize, const S: usize>(
    known: &mut Known<R, C, S>,
    call: &Call<'_>,
) -> Result<(), Stop> {
    for m in 0..known.spots.len() {
        let (group, index) = (known.members[m].group as usize, known.members[m].index as usize);
        for (role, spot) in known.spots[m].each_mut(&R::SLOTS) {
            if spot.is_none() {
                continue;
            }
            // SAFETY: a tensor of this step, which is held, as an object.
            let object = unsafe {
                if call.torch.look(*spot).is_some() {
                    continue;
                }
                Bound::from_borrowed_ptr(call.py, call.torch.object(*spot))
            };
            let found = resolve::examine(call, &object, role, &|| call.place(group, index));
            if known.left.unless_left((group, index), found)?.is_some() {
                known.owned.was_needed = true;
            }
        }
    }
    Ok(())
}
