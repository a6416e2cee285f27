//! The step of a tch optimizer: from parameters and their gradients to a batch for each device.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use ::tch::Tensor;

use super::drive::Drive;
use super::error::{Error, place};
use super::memory::{Seen, tensor_is_there};
use super::options::{Table, Value};
use super::state::{Prepared, State, prepare};
use super::version;
use crate::batch::{Batch, Clip, Group, Ready, Unfit};
use crate::rule::{Learned, Options, Rule, SUMS};
use crate::rules::Visitor;
use crate::tensor::{Operands, Walk};

/// What a step has come to.
///
/// ```
/// use tch::{Device, Kind, nn};
/// use torchpace::tch::{Adam, Nonfinite, Outcome};
///
/// let store = nn::VarStore::new(Device::Cpu);
/// let weight = store.root().ones("weight", &[2]);
/// let options = Adam { max_grad_norm: Some(1.0), nonfinite_norm: Nonfinite::Skip, ..Adam::default() };
/// let mut optimizer = options.build(&store, 0.1)?;
/// assert_eq!(optimizer.backward_step(&(&weight * f64::NAN).sum(Kind::Float))?, Outcome::Skipped);
/// assert_eq!(weight.double_value(&[0]), 1.0);
/// # Ok::<(), torchpace::tch::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// All parameters with a gradient were stepped on.
    Stepped,
    /// Nothing was done: the norm of the gradients is above `skip_grad_norm`, or it is not finite and
    /// [`Nonfinite::Skip`](super::Nonfinite::Skip) was asked for.
    Skipped,
}

/// What a step has come to.
pub struct Done {
    pub outcome: Outcome,
    /// The norm of the gradients, if anything depends on it.
    pub norm: Option<f64>,
    /// What all groups are to keep of it: options and their values.
    pub learned: Learned,
}

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
    /// State for each parameter under the options of its group, out of the entries that there are for it.
    fn prepare(&self, tables: &[Table], entries: &[HashMap<&str, Tensor>]) -> Result<Vec<Prepared>, Error>;
    /// Puts new state in the place of the old.
    fn enter(&mut self, state: Vec<Prepared>);
}

/// A parameter and what belongs to it.
struct Member<const S: usize> {
    group: usize,
    name: String,
    param: Tensor,
    seen: Seen,
    grad: Seen,
    state: State<S>,
    walk: Option<Arc<Walk<S>>>,
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

/// A gradient, kept while the step needs its memory; `None` where a parameter has none.
type Grads = Vec<Option<Tensor>>;

/// What a group shares in a step, by its options.
fn group<R: Rule<C, S>, const C: usize, const S: usize>(table: &Table) -> Result<Group<R>, Error> {
    let clip_value = match table.get("clip_value") {
        Some(Value::Bound(bound)) => bound,
        _ => None,
    };
    let group = Group::new(R::read(table)?, table.number("lr")?);
    Ok(Group { maximize: table.flag("maximize")?, clip_value, ..group })
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Steps<R, C, S> {
    /// The step; the state of members that lack it is made, whether or not the step then can be done.
    fn try_step(&mut self, tables: &[Table]) -> Result<Done, Error> {
        let (grads, clip) = self.collect(tables)?;
        let places = self.places(&grads)?;
        // SAFETY: parameters and gradients were just seen, and nothing has run since that could move them. The members and
        // `grads` keep them until the step is done.
        let batches = unsafe { batches(&mut self.members, &self.groups, &self.drives, &places) }?;
        let mut parts = Vec::new();
        for (batch, drive) in batches.into_iter().zip(&mut self.drives) {
            let ready = batch.ready(&mut drive.territory).ok_or(Error::SharedMemory)?;
            drive.prepare(&ready, clip.wants_norm())?;
            parts.push((ready, drive));
        }
        let norm = clip.wants_norm().then(|| norm(&mut parts)).transpose()?;
        if let Some(norm) = norm {
            let Some(factor) = clip.factor(norm)? else {
                return Ok(Done { outcome: Outcome::Skipped, norm: Some(norm), learned: Learned::new() });
            };
            parts.iter_mut().for_each(|(ready, _)| ready.scale_grads(factor));
        }
        let learned = if R::OVER_ALL { learn(&mut parts)? } else { Learned::new() };
        // On the GPUs first: what they refuse, they refuse before anything is written.
        parts.sort_by_key(|(_, drive)| !drive.is_gpu());
        for (ready, drive) in parts {
            drive.run(ready)?;
        }
        for (member, _) in self.members.iter_mut().zip(&grads).filter(|(_, grad)| grad.is_some()) {
            version::bump(&member.param)?;
        }
        Ok(Done { outcome: Outcome::Stepped, norm, learned })
    }

    /// Looks at all parameters that have a gradient, reads their groups' options and makes the state that they lack.
    fn collect(&mut self, tables: &[Table]) -> Result<(Grads, Clip), Error> {
        let mut grads = Vec::with_capacity(self.members.len());
        let mut clip: Option<Clip> = None;
        self.groups.resize_with(tables.len(), || None);
        for Member { group: number, name, param, seen, grad: seen_grad, state, .. } in &mut self.members {
            let grad = param.f_grad()?;
            if !tensor_is_there(&grad) {
                grads.push(None);
                continue;
            }
            seen.look(param).map_err(|found| Error::not_plain(name, "param", found))?;
            seen_grad.look(&grad).map_err(|found| Error::not_plain(name, "grad", found))?;
            grads.push(Some(grad));
            let table = &tables[*number];
            let group = match &mut self.groups[*number] {
                Some(group) => group,
                none => none.insert(group(table)?),
            };
            let own = table.clip();
            clip.get_or_insert(own).check(own, &table.name())?;
            state.make(&group.rule, table, name, param)?;
        }
        Ok((grads, clip.unwrap_or(Clip::OFF)))
    }

    /// Of each parameter that has a gradient the place of its device among the drives, with a new one for a new device.
    fn places(&mut self, grads: &Grads) -> Result<Vec<Option<usize>>, Error> {
        let mut places = Vec::with_capacity(grads.len());
        for (member, grad) in self.members.iter().zip(grads) {
            let device = member.seen.device();
            let place = match self.drives.iter().position(|drive| drive.device == device) {
                _ if grad.is_none() => None,
                None => {
                    self.drives.push(Drive::new(device)?);
                    Some(self.drives.len() - 1)
                }
                place => place,
            };
            places.push(place);
        }
        Ok(places)
    }
}

/// The members that have a place, each in the batch of its device.
///
/// # Safety
///
/// Their parameters, gradients and state must be where they were seen as long as the batches are there, and nobody else
/// may write to them, nor read what a driver writes.
unsafe fn batches<'a, R: Rule<C, S>, const C: usize, const S: usize>(
    members: &'a mut [Member<S>],
    groups: &[Option<Group<R>>],
    drives: &[Drive<R, S>],
    places: &[Option<usize>],
) -> Result<Vec<Batch<'a, R, C, S>>, Error> {
    let mut batches: Vec<_> = drives.iter().map(|drive| Batch::on(drive.device, None)).collect();
    for (member, in_place) in members.iter_mut().zip(places) {
        let Member { group: number, name, seen, grad, state, walk, .. } = member;
        let (Some(in_place), Some(group)) = (in_place, &groups[*number]) else { continue };
        let fresh = state.is_fresh();
        let (slots, count) = state.seen(group.rule.live());
        let (scalars, _) = state.seen(R::SCALARS);
        // SAFETY: the caller's promise.
        let operands = unsafe {
            Operands {
                param: seen.view(),
                grad: grad.view(),
                slots: slots.map(|slot| slot.map(|seen| seen.view())),
                step: count.map(|seen| seen.view()),
                scalars: scalars.map(|scalar| scalar.map(|seen| seen.view())),
            }
        };
        let pushed = batches[*in_place].push((*number, group), fresh, walk, &operands, || place(name));
        pushed.map_err(|unfit| match unfit {
            Unfit::Wrong(error) => Error::Step(error),
            Unfit::Refused(tensor, refusal) => Error::Tensor {
                name: name.clone(),
                tensor,
                found: format!("a tensor that {refusal}"),
                expected: "a floating-point or complex tensor of the CPU or a CUDA device",
            },
        })?;
    }
    Ok(batches)
}

/// Tells the rules the sums over all parameters, on all devices; what all groups are to keep of that.
fn learn<R: Rule<C, S>, const C: usize, const S: usize>(
    parts: &mut [(Ready<'_, R, C, S>, &mut Drive<R, S>)],
) -> Result<Learned, Error> {
    Group::check_shared(parts.iter().flat_map(|(ready, _)| ready.groups()), |group| format!("group {group}"))?;
    let mut total = [0.0; SUMS];
    for (ready, drive) in &mut *parts {
        total.iter_mut().zip(drive.sums(ready)?).for_each(|(total, sum)| *total += sum);
    }
    let mut learned = Learned::new();
    parts.iter_mut().for_each(|(ready, _)| learned = ready.learn(total));
    Ok(learned)
}

/// The norm of all gradients, over all devices.
fn norm<R: Rule<C, S>, const C: usize, const S: usize>(
    parts: &mut [(Ready<'_, R, C, S>, &mut Drive<R, S>)],
) -> Result<f64, Error> {
    let norms = parts.iter_mut().map(|(ready, drive)| drive.norm(ready)).collect::<Result<Vec<_>, _>>()?;
    Ok(match norms[..] {
        [only] => only,
        _ => norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt(),
    })
}

impl<R: Rule<C, S>, const C: usize, const S: usize> AnySteps for Steps<R, C, S> {
    fn rule(&self) -> &'static str {
        R::NAME
    }

    fn add(&mut self, group: usize, name: String, param: Tensor) {
        let (seen, grad, state) = (Seen::new(), Seen::new(), State::new());
        self.members.push(Member { group, name, param, seen, grad, state, walk: None });
    }

    fn step(&mut self, tables: &[Table]) -> Result<Done, Error> {
        let done = self.try_step(tables);
        let keep = matches!(done, Ok(Done { outcome: Outcome::Stepped, .. }));
        self.members.iter_mut().for_each(|member| member.state.settle(keep));
        done
    }

    fn forget_options(&mut self) {
        self.groups.clear();
    }

    fn params(&self) -> Vec<(usize, &str, &Tensor)> {
        self.members.iter().map(|member| (member.group, member.name.as_str(), &member.param)).collect()
    }

    fn state(&self, param: usize) -> Vec<(&'static str, &Tensor)> {
        self.members.get(param).map(|member| member.state.entries::<R, C>()).unwrap_or_default()
    }

    fn prepare(&self, tables: &[Table], entries: &[HashMap<&str, Tensor>]) -> Result<Vec<Prepared>, Error> {
        let members = self.members.iter().zip(entries);
        let new = members.map(|(Member { group, name, param, .. }, entries)| {
            prepare::<R, C, S>(&tables[*group], name, param, entries)
        });
        new.collect()
    }

    fn enter(&mut self, state: Vec<Prepared>) {
        self.members.iter_mut().zip(state).for_each(|(member, state)| member.state.enter(state));
    }
}
