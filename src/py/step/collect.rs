//! Collect: the parameters that have a gradient, and the options of their groups.
#![allow(unsafe_code)]

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::super::call::Call;
use super::super::describe::describe_type;
use super::super::end::Stop;
use super::super::list;
use super::super::options::GroupOptions;
use super::super::plan::Known;
use super::super::plan::groups::KnownGroup;
use super::super::plan::members::{Lacks, Member, Seen};
use super::super::plan::parts::Parts;
use super::super::torch::{Grad, Spot, Torch, prefetch};
use super::resolve;
use crate::rule::Rule;

/// How many parameters ahead the processor fetches a gradient.
const AHEAD: usize = 4;

/// Collects them; false if Python code ran, or will have to, so that all is to be done anew.
pub fn collect<R: Rule<C, S>, const C: usize, const S: usize>(
    known: &mut Known<R, C, S>,
    call: &Call<'_>,
) -> Result<bool, Stop> {
    known.spots.clear();
    let mut stale = Vec::new();
    for (number, group) in call.param_groups.iter().enumerate() {
        let Some(dict) = call.torch.plain_dict(&group) else {
            return Err(Stop::Torch(format!("param_groups[{number}] is {}", describe_type(&group))));
        };
        if number == known.groups.len() {
            known.groups.push(None);
            known.is_read.push(false);
        }
        let before = known.spots.len();
        let Some(params) = params(known, call, dict, number)? else { return Ok(false) };
        for index in 0..params.len() {
            let Some(param) = list::item(&params, index) else { break };
            list::fetch_ahead(call.torch, &params, index);
            if let Some(&seat) = known.grad_seats.get(known.spots.len() + AHEAD) {
                prefetch(core::ptr::without_provenance::<u8>(seat));
            }
            if known.left.has((number, index)) {
                continue;
            }
            let found = if known.left.has_type_of(&param)
                && let Some(has_grad) = call.torch.has_grad(&param)
            {
                if has_grad {
                    known.left.add((number, index), None);
                }
                continue;
            } else if known.owned.is_needed {
                resolved(known, call, &param.to_owned(), (number, index))?
            } else if let Some(found) = plain(call.torch, param) {
                found
            } else {
                known.owned.is_needed = true;
                return Ok(false);
            };
            if let Some(found) = found {
                enter(known, (number, index), param.as_ptr().addr(), found);
            }
        }
        // As in torch, the options of a group that has nothing to do do not matter.
        let is_current = |known: &mut KnownGroup<R>| known.is_current(dict);
        if known.spots.len() > before
            && !known.is_read[number]
            && !known.groups[number].as_mut().is_some_and(is_current)
        {
            stale.push((number, dict.clone()));
        }
    }
    known.leave(known.spots.len());
    known.groups.truncate(call.param_groups.len());
    known.is_read.truncate(call.param_groups.len());
    for (number, dict) in &stale {
        known.groups[*number] = Some(KnownGroup::read(call.py, &GroupOptions::new(call.torch, dict.clone(), *number))?);
        known.is_read[*number] = true;
    }
    Ok(stale.is_empty())
}

/// Reads the options that may change without being replaced, such as a learning rate that is a tensor. Runs Python code.
pub fn read_volatile<R: Rule<C, S>, const C: usize, const S: usize>(known: &mut Known<R, C, S>, call: &Call<'_>) {
    known.is_read.fill(false);
    for number in 0..known.groups.len() {
        if !known.groups[number].as_ref().is_some_and(KnownGroup::is_volatile) {
            continue;
        }
        let Ok(group) = call.param_groups.get_item(number) else { continue };
        let Some(dict) = call.torch.plain_dict(&group) else { continue };
        // What is wrong shows when it matters: where the group has something to do.
        if let Ok(read) = KnownGroup::read(call.py, &GroupOptions::new(call.torch, dict.clone(), number)) {
            known.groups[number] = Some(read);
            known.is_read[number] = true;
        }
    }
}

/// The parameters of a group. Anything but a list may make them when asked, so that they have to be held.
fn params<'py, R, const C: usize, const S: usize>(
    known: &mut Known<R, C, S>,
    call: &Call<'py>,
    dict: &Bound<'py, PyDict>,
    number: usize,
) -> Result<Option<Bound<'py, PyList>>, Stop> {
    let options = GroupOptions::new(call.torch, dict.clone(), number);
    if let Some(list) = options.listed_params()? {
        return Ok(Some(list));
    }
    if !known.owned.is_needed {
        known.owned.is_needed = true;
        return Ok(None);
    }
    known.owned.was_needed = true;
    let params = options.params()?;
    known.owned.objects.push(params.clone().into_any().unbind());
    Ok(Some(params))
}

/// A parameter and its gradient, if it has one and is not left to torch.
fn resolved<R, const C: usize, const S: usize>(
    known: &mut Known<R, C, S>,
    call: &Call<'_>,
    param: &Bound<'_, PyAny>,
    place: (usize, usize),
) -> Result<Option<(Spot, Spot)>, Stop> {
    let found = resolve::param(call, &mut known.owned, param, place);
    let Some(found) = known.left.unless_left(place, found)? else {
        if !call.torch.is_plain(param) && !resolve::is_dtensor(param)? && call.torch.has_torchs_grad(param)? {
            known.left.add_type(param.get_type().unbind());
        }
        return Ok(None);
    };
    Ok(found)
}

/// A parameter and its gradient, if it has one; nothing at all if Python has to be asked.
#[inline]
#[allow(clippy::option_option)]
fn plain(torch: &Torch, param: Borrowed<'_, '_, PyAny>) -> Option<Option<(Spot, Spot)>> {
    if !torch.is_plain(&param) {
        return None;
    }
    // SAFETY: a tensor, which its list holds.
    unsafe {
        let spot = torch.spot(param.as_ptr());
        match torch.grad_of(spot) {
            Grad::None => Some(None),
            Grad::Plain(grad) => Some(Some((spot, grad))),
            Grad::Unknown => None,
        }
    }
}

/// Enters a parameter of this step.
#[inline]
fn enter<R, const C: usize, const S: usize>(
    known: &mut Known<R, C, S>,
    (group, index): (usize, usize),
    object: usize,
    (param, grad): (Spot, Spot),
) {
    let (group, index) = (group as u32, index as u32);
    match known.members.get_mut(known.spots.len()) {
        Some(member) => {
            known.is_same &= (member.group, member.index) == (group, index);
            member.is_new &= member.object == object;
            (member.group, member.index, member.object, member.lacks) = (group, index, object, Lacks::Nothing);
        }
        None => {
            let place = known.members.len() as u32;
            known.members.push(Member { group, index, object, place, drive: 0, lacks: Lacks::Nothing, is_new: false });
            known.seen.push(Parts::all(Seen::NONE));
            known.is_same = false;
        }
    }
    let m = known.spots.len();
    match known.grad_seats.get_mut(m) {
        Some(seat) => *seat = grad.address(),
        None => known.grad_seats.push(grad.address()),
    }
    known.spots.push(Parts { param, grad, ..Parts::all(Spot::NONE) });
}
