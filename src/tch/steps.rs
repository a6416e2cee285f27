//! A step of a tch optimizer: from parameters and their gradients to a batch.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use ::tch::{Device, Kind, Tensor};

use super::drive::Drive;
use super::error::Error;
use super::memory::{Seen, tensor_is_there};
use super::optimizer::Outcome;
use super::options::{Table, Value};
use super::version;
use crate::batch::{Batch, Clip, Group, Unfit};
use crate::error::Error as CoreError;
use crate::rule::{Options, Rule};
use crate::rules::Visitor;
use crate::tensor::{Operands, Walk};

/// What a step has come to: whether it was done, and the norm of the gradients if anything depends on it.
pub type Done = (Outcome, Option<f64>);

/// The name of a step count among the state entries.
pub const COUNT: &str = "step";

/// The steps of a rule whose type is known only by its name.
pub trait AnySteps: Send {
    /// The rule's name.
    fn rule(&self) -> &'static str;
    /// Adds a parameter to a group.
    fn add(&mut self, group: usize, name: String, param: Tensor);
    /// One step.
    fn step(&mut self, tables: &[Table]) -> Result<Done, Error>;
    /// Options have changed.
    fn forget_options(&mut self);
    /// The group, name and tensor of every parameter.
    fn params(&self) -> Vec<(usize, &str, &Tensor)>;
    /// The state of a parameter, by entry; empty before its first step.
    fn state(&self, param: usize) -> Vec<(&'static str, &Tensor)>;
    /// State for a parameter, out of entries that may be more than are needed: the names of those that it lacks, or the
    /// new state.
    fn prepare(&self, param: usize, table: &Table, entries: &HashMap<&str, Tensor>) -> Result<Prepared, Error>;
    /// Puts new state in the place of the old.
    fn enter(&mut self, state: Vec<Prepared>);
}

/// State that was checked for a parameter. The count comes first, `None` for what there is none of.
pub struct Prepared(Vec<Option<Slot>>);

/// A state tensor. Nobody else has it, so it stays where it was seen.
pub struct Slot {
    tensor: Tensor,
    seen: Seen,
}

/// A parameter and what belongs to it.
struct Member<const S: usize> {
    group: usize,
    name: String,
    param: Tensor,
    seen: Seen,
    grad: Seen,
    slots: [Option<Slot>; S],
    count: Option<Slot>,
    walk: Option<Arc<Walk<S>>>,
    /// The state that was made for the step under way: the count, and each slot.
    made: (bool, [bool; S]),
}

/// All parameters under one rule.
pub struct Steps<R, const C: usize, const S: usize> {
    members: Vec<Member<S>>,
    groups: Vec<Option<Group<R>>>,
    drives: Vec<Drive<R, S>>,
}

/// Makes the steps of a rule.
pub struct Make;

impl Visitor for Make {
    type Output = Box<dyn AnySteps>;

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) -> Self::Output {
        Box::new(Steps::<R, C, S> { members: Vec::new(), groups: Vec::new(), drives: Vec::new() })
    }
}

impl Slot {
    fn new(name: &'static str, param: &str, tensor: Tensor) -> Result<Self, Error> {
        let mut seen = Seen::new();
        seen.look(&tensor).map_err(|found| not_plain(param, name, found))?;
        Ok(Self { tensor, seen })
    }
}

fn not_plain(param: &str, tensor: &'static str, found: String) -> Error {
    Error::Tensor { name: param.to_owned(), tensor, found, expected: "a dense tensor of the CPU or a CUDA device" }
}

/// The place of a device among those of the steps, with a new one where it is not there.
fn place_of<R, const S: usize>(drives: &mut Vec<Drive<R, S>>, device: crate::tensor::Device) -> Result<usize, Error> {
    if let Some(place) = drives.iter().position(|drive| drive.device == device) {
        return Ok(place);
    }
    drives.push(Drive::new(device)?);
    Ok(drives.len() - 1)
}

/// The parameter in a message.
fn place(name: &str) -> String {
    format!("parameter {name:?}")
}

impl<const S: usize> Member<S> {
    /// Makes the state that the rule wants and that is not there.
    fn make_state<R: Rule<C, S>, const C: usize>(&mut self, rule: &R, table: &Table) -> Result<(), Error> {
        if R::COUNTED && self.count.is_none() {
            let count = Tensor::f_zeros([], (Kind::Float, Device::Cpu))?;
            self.count = Some(Slot::new(COUNT, &self.name, count)?);
            self.made.0 = true;
        }
        let wanted = R::SLOTS.into_iter().zip(rule.live());
        for ((slot, made), (name, live)) in self.slots.iter_mut().zip(&mut self.made.1).zip(wanted) {
            if live && slot.is_none() {
                *slot = Some(Slot::new(name, &self.name, new_slot(&self.param, name, table)?)?);
                *made = true;
            }
        }
        Ok(())
    }

    /// Lets go of the state that was made, or keeps it.
    fn settle(&mut self, keep: bool) {
        let (count, slots) = core::mem::replace(&mut self.made, (false, [false; S]));
        if keep {
            return;
        }
        if count {
            self.count = None;
        }
        for (slot, _) in self.slots.iter_mut().zip(slots).filter(|(_, made)| *made) {
            *slot = None;
        }
    }
}

/// What a slot begins as: 0, but for Adagrad's sum.
fn new_slot(param: &Tensor, name: &str, table: &Table) -> Result<Tensor, Error> {
    let slot = param.f_detach()?.f_zeros_like()?;
    if name == "sum"
        && let Some(Value::Number(initial)) = table.get("initial_accumulator_value")
        && initial != 0.0
    {
        let _ = parts(&slot)?.f_fill_(initial)?;
    }
    Ok(slot)
}

/// The tensor, or the parts of complex elements.
pub fn parts(tensor: &Tensor) -> Result<Tensor, Error> {
    Ok(if tensor.f_is_complex()? { tensor.f_view_as_real()? } else { tensor.shallow_clone() })
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Steps<R, C, S> {
    /// The step; the state of members that lack it is made, whether or not the step then can be done.
    fn try_step(&mut self, tables: &[Table]) -> Result<Done, Error> {
        let mut grads = Vec::with_capacity(self.members.len());
        let mut clip: Option<Clip> = None;
        self.groups.resize_with(tables.len(), || None);
        for member in &mut self.members {
            let grad = member.param.f_grad()?;
            if !tensor_is_there(&grad) {
                grads.push(None);
                continue;
            }
            member.seen.look(&member.param).map_err(|found| not_plain(&member.name, "param", found))?;
            member.grad.look(&grad).map_err(|found| not_plain(&member.name, "grad", found))?;
            grads.push(Some(grad));
            let table = &tables[member.group];
            if self.groups[member.group].is_none() {
                let rule = R::read(table)?;
                let clip_value = match table.get("clip_value") {
                    Some(Value::Bound(bound)) => bound,
                    _ => None,
                };
                let group = Group::new(rule, table.number("lr")?);
                self.groups[member.group] = Some(Group { maximize: table.flag("maximize")?, clip_value, ..group });
            }
            let own = table.clip();
            clip.get_or_insert(own).check(own, &table.name())?;
            if let Some(group) = &self.groups[member.group] {
                member.make_state::<R, C>(&group.rule, table)?;
            }
        }
        let clip = clip.unwrap_or(Clip::OFF);
        let mut places = Vec::with_capacity(self.members.len());
        for (member, grad) in self.members.iter().zip(&grads) {
            places.push(if grad.is_some() { place_of(&mut self.drives, member.seen.device())? } else { 0 });
        }
        let mut batches: Vec<_> = self.drives.iter().map(|drive| Batch::on(drive.device, None)).collect();
        let members = self.members.iter_mut().zip(&grads).zip(places);
        for ((member, _), place_of_device) in members.filter(|((_, grad), _)| grad.is_some()) {
            let Member { group: number, name, seen, grad, slots, count, walk, made, .. } = member;
            let Some(group) = &self.groups[*number] else { continue };
            let live = group.rule.live();
            // SAFETY: parameter and gradient were just seen, nothing has run since that could move them, and `grads`
            // and the member keep them. The state is the member's alone.
            let operands = unsafe {
                let mut k = 0..S;
                Operands {
                    param: seen.view(),
                    grad: grad.view(),
                    slots: slots.each_ref().map(|slot| {
                        let wanted = k.next().is_some_and(|k| live[k]);
                        slot.as_ref().filter(|_| wanted).map(|slot| slot.seen.view())
                    }),
                    step: count.as_ref().map(|count| count.seen.view()),
                }
            };
            batches[place_of_device]
                .push((*number, group), made.1.contains(&true), walk, &operands, || place(name))
                .map_err(|unfit| match unfit {
                    Unfit::Wrong(error) => Error::Step(error),
                    Unfit::Refused(tensor, refusal) => Error::Tensor {
                        name: name.clone(),
                        tensor,
                        found: format!("a tensor that {refusal}"),
                        expected: "a floating-point or complex tensor of the CPU or a CUDA device",
                    },
                })?;
        }
        let mut parts = Vec::new();
        for (batch, drive) in batches.into_iter().zip(&mut self.drives) {
            let ready = batch.ready(&mut drive.territory).ok_or(Error::SharedMemory)?;
            drive.prepare(&ready, clip.wants_norm())?;
            parts.push((ready, drive));
        }
        let mut norm = None;
        if clip.wants_norm() {
            let norms = parts.iter_mut().map(|(ready, drive)| drive.norm(ready)).collect::<Result<Vec<_>, _>>()?;
            let total = match norms[..] {
                [only] => only,
                _ => norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt(),
            };
            norm = Some(total);
            let Some(factor) = clip.factor(total)? else { return Ok((Outcome::Skipped, norm)) };
            parts.iter_mut().for_each(|(ready, _)| ready.scale_grads(factor));
        }
        // On the GPUs first: what they refuse, they refuse before anything is written.
        parts.sort_by_key(|(_, drive)| !drive.is_gpu());
        for (ready, drive) in parts {
            drive.run(ready)?;
        }
        for (member, _) in self.members.iter_mut().zip(&grads).filter(|(_, grad)| grad.is_some()) {
            version::bump(&member.param)?;
        }
        Ok((Outcome::Stepped, norm))
    }
}

impl<R: Rule<C, S>, const C: usize, const S: usize> AnySteps for Steps<R, C, S> {
    fn rule(&self) -> &'static str {
        R::NAME
    }

    fn add(&mut self, group: usize, name: String, param: Tensor) {
        self.members.push(Member {
            group,
            name,
            param,
            seen: Seen::new(),
            grad: Seen::new(),
            slots: [const { None }; S],
            count: None,
            walk: None,
            made: (false, [false; S]),
        });
    }

    fn step(&mut self, tables: &[Table]) -> Result<Done, Error> {
        let done = self.try_step(tables);
        let keep = matches!(done, Ok((Outcome::Stepped, _)));
        self.members.iter_mut().for_each(|member| member.settle(keep));
        done
    }

    fn forget_options(&mut self) {
        self.groups.clear();
    }

    fn params(&self) -> Vec<(usize, &str, &Tensor)> {
        self.members.iter().map(|member| (member.group, member.name.as_str(), &member.param)).collect()
    }

    fn state(&self, param: usize) -> Vec<(&'static str, &Tensor)> {
        let Some(member) = self.members.get(param) else { return Vec::new() };
        let slots = R::SLOTS.into_iter().zip(&member.slots).filter_map(|(name, slot)| Some((name, slot.as_ref()?)));
        let count = member.count.iter().map(|count| (COUNT, count));
        count.chain(slots).map(|(name, slot)| (name, &slot.tensor)).collect()
    }

    fn prepare(&self, param: usize, table: &Table, entries: &HashMap<&str, Tensor>) -> Result<Prepared, Error> {
        let mut new: Vec<Option<Slot>> = std::iter::repeat_with(|| None).take(1 + S).collect();
        let Some(member) = self.members.get(param) else { return Ok(Prepared(new)) };
        let live = R::read(table)?.live();
        let wanted = std::iter::once((COUNT, R::COUNTED)).chain(R::SLOTS.into_iter().zip(live));
        for (to, (name, live)) in new.iter_mut().zip(wanted) {
            let Some(entry) = entries.get(name) else {
                if live && !entries.is_empty() {
                    let found = R::SLOTS.into_iter().filter(|name| entries.contains_key(name)).collect();
                    return Err(CoreError::MissingState { place: place(&member.name), name, found }.into());
                }
                continue;
            };
            let tensor = if name == COUNT {
                // Those of a file that was cast whole would not count on from 256, or 2,048.
                let narrow = matches!(entry.f_kind()?, Kind::BFloat16 | Kind::Half);
                let entry = if narrow { entry.f_to_kind(Kind::Float)? } else { entry.shallow_clone() };
                let kind = entry.f_kind()?;
                if !entry.size().is_empty() || !matches!(kind, Kind::Float | Kind::Double) {
                    let (found, expected) = (format!("{kind:?} of shape {:?}", entry.size()), "one Float or Double");
                    return Err(CoreError::StateType { place: place(&member.name), name, found, expected }.into());
                }
                entry
            } else {
                // Laid out like the parameter; of the type that the file has.
                let kind = entry.f_kind()?;
                let complex = member.param.f_is_complex()?;
                let slot = member.param.f_detach()?.f_zeros_like()?;
                let slot = if complex { slot } else { slot.f_to_kind(kind)? };
                let mut into = parts(&slot)?;
                if into.size() != entry.size() {
                    return Err(CoreError::Shape {
                        place: place(&member.name),
                        name,
                        found: entry.size(),
                        expected: into.size(),
                    }
                    .into());
                }
                into.f_copy_(entry)?;
                slot
            };
            *to = Some(Slot::new(name, &member.name, tensor)?);
        }
        Ok(Prepared(new))
    }

    fn enter(&mut self, state: Vec<Prepared>) {
        for (member, Prepared(entries)) in self.members.iter_mut().zip(state) {
            let mut entries = entries.into_iter();
            member.count = entries.next().flatten();
            member.slots = [(); S].map(|()| entries.next().flatten());
        }
    }
}
