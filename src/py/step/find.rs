//! Find: the state of each parameter.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::super::call::Call;
use super::super::describe::describe;
use super::super::end::Stop;
use super::super::plan::Known;
use super::super::plan::members::Lacks;
use super::super::plan::parts::Role;
use super::super::plan::state::Found;
use super::super::torch::Spot;
use super::resolve;
use crate::error::Error;
use crate::rule::Rule;

/// Finds it; false if all is to be done anew, with the objects held or without what is left to torch. Runs Python code only where they are
/// held.
pub fn find<R: Rule<C, S>, const C: usize, const S: usize>(
    known: &mut Known<R, C, S>,
    call: &Call<'_>,
    made: bool,
) -> Result<bool, Stop> {
    let Known { groups, members, spots, table, owned, left, .. } = known;
    table.read(call.state);
    let mut held = Vec::new();
    for (m, (member, parts)) in members.iter_mut().zip(spots.iter_mut()).enumerate() {
        let Some(group) = &mut groups[member.group as usize] else { continue };
        if group.keys.names().is_empty() {
            continue;
        }
        let place = || call.place(member.group as usize, member.index as usize);
        let found = match table.find(call.py, member.object, &mut member.place) {
            Some(entry) => {
                let found = Found::<S>::read(entry, &mut group.keys, call.torch, &place);
                match left.unless_left((member.group as usize, member.index as usize), found)? {
                    Some(found) => found,
                    // Its reason was asked of Python.
                    None => return Ok(false),
                }
            }
            None => Found::NONE,
        };
        if found.lacks != Lacks::Nothing && made {
            return Err(Stop::Torch("its state vanished while the step made it".to_owned()));
        }
        member.lacks = found.lacks;
        if !made {
            member.is_new = found.lacks == Lacks::All;
        }
        if owned.is_needed {
            // Held at once, and asked below, when no dict is being read.
            held.push((
                m,
                [found.step].into_iter().chain(found.slots).map(|it| Some(it?.to_owned())).collect::<Vec<_>>(),
            ));
            continue;
        }
        let mut is_plain = true;
        let mut spot = |object: Option<Borrowed<'_, '_, PyAny>>| match object {
            Some(object) if call.torch.is_plain(&object) => {
                // SAFETY: a tensor, which its dict holds.
                #[allow(unsafe_code)]
                unsafe {
                    call.torch.spot(object.as_ptr())
                }
            }
            Some(_) => {
                is_plain = false;
                Spot::NONE
            }
            None => Spot::NONE,
        };
        parts.step = spot(found.step);
        for (slot, found) in parts.slots.iter_mut().zip(found.slots) {
            *slot = spot(found);
        }
        if !is_plain {
            owned.is_needed = true;
            return Ok(false);
        }
    }
    let before = left.found().len();
    for (m, objects) in held {
        let member = members[m];
        let (group, index) = (member.group as usize, member.index as usize);
        let place = || call.place(group, index);
        let param = call.param(group, index)?;
        // Numbers of a parameter that is spread are not.
        let is_single = core::iter::once(true).chain(R::SCALARS);
        for (((role, spot), object), is_single) in spots[m].each_mut(&R::SLOTS).skip(2).zip(&objects).zip(is_single) {
            if let Some(object) = object {
                let param = Some(&param).filter(|_| !is_single);
                let found = resolve::object(call, owned, object, role, param, &place);
                *spot = left.unless_left((group, index), found)?.unwrap_or(Spot::NONE);
            }
        }
    }
    Ok(left.found().len() == before)
}

/// A role's tensor as an object, asked for anew. Runs Python code.
pub fn object<'py>(call: &Call<'py>, (group, index): (usize, usize), role: Role) -> PyResult<Bound<'py, PyAny>> {
    let param = call.param(group, index)?;
    match role {
        Role::Param => Ok(param),
        Role::Grad => param.getattr("grad"),
        Role::State(name) => call.state.as_any().get_item(param)?.get_item(name),
    }
}

/// Makes the state that is missing and enters it, all or nothing. Runs Python code.
pub fn make<R: Rule<C, S>, const C: usize, const S: usize>(
    known: &mut Known<R, C, S>,
    call: &Call<'_>,
) -> Result<(), Stop> {
    let mut made = Vec::new();
    let members = known.members.clone();
    for member in members.iter().filter(|member| member.lacks != Lacks::Nothing) {
        let (group, index) = (member.group as usize, member.index as usize);
        let Some(known) = &mut known.groups[group] else { continue };
        let param = call.param(group, index)?;
        let names = PyList::new(call.py, known.keys.objects(member.lacks))?;
        let entry = call.new_state.call1((&param, call.param_groups.get_item(group)?, &names))?;
        // Looked at here, so that what is not in order is an error before any is entered.
        for name in &names {
            let value = entry.get_item(&name)?;
            if !call.torch.is_tensor(&value)? {
                let (name, found, expected) = ("entry", describe(&entry), "a dict of all entries");
                return Err(Error::StateType { place: call.place(group, index), name, found, expected }.into());
            }
        }
        // A lookup by subscript, which makes the (still empty) entry of a defaultdict.
        made.push((call.state.as_any().get_item(param)?, entry));
    }
    for (into, entry) in made {
        into.call_method1(intern!(call.py, "update"), (entry,))?;
    }
    Ok(())
}
