//! A step of a Python optimizer: from `param_groups` and `state` to a batch.

mod gpus;

use core::cell::Cell;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use pyo3::{PyTraverseError, PyVisit};

use super::describe::describe_type;
use super::drive::Drive;
use super::groups::KnownGroup;
use super::held::{Held, Role, SMALL};
use super::member::{Member, replace, replace_optional};
use super::memory::{self, again, place_of, read, run};
use super::options::GroupOptions;
use super::plan::{AnySteps, Path, Stop};
use super::state::{Found, Table};
use super::torch::Torch;
use crate::batch::Clip;
use crate::error::Error;
use crate::rule::Rule;

/// What one step is called with.
pub struct Call<'py> {
    pub py: Python<'py>,
    pub torch: &'py Torch,
    pub param_groups: &'py Bound<'py, PyList>,
    pub state: &'py Bound<'py, PyDict>,
    pub new_state: &'py Bound<'py, PyAny>,
    pub threads: usize,
    pub scaling: Scaling<'py>,
    /// The norm of all gradients: as given, then as found.
    pub norm: &'py Cell<Option<f64>>,
}

/// What a GradScaler asks for.
#[derive(Clone, Copy)]
pub struct Scaling<'py> {
    /// What the gradients are multiplied by, if the host knows.
    pub unscale: Option<f64>,
    /// What they are divided by, which a GPU reads itself.
    pub grad_scale: Option<&'py Bound<'py, PyAny>>,
    /// Not 0 if the step is to be left out, in a GPU's memory.
    pub found_inf: Option<&'py Bound<'py, PyAny>>,
}

/// What is known from one step to the next.
pub struct Steps<R, const C: usize, const S: usize> {
    groups: Vec<Option<KnownGroup<R>>>,
    members: Vec<Member<S>>,
    table: Table,
    /// The devices of the parameters.
    drives: Vec<Drive<R, C, S>>,
    /// Whether the tensors are those of the step before, as far as is known, so that it can be run again.
    same: bool,
    /// The written tensors in a list for torch, if none of them was replaced since.
    written: Option<Py<PyList>>,
}

/// How many parameters ahead of the one looked at the processor fetches what it will need.
pub const AHEAD: usize = 4;

/// How many times a step looks anew at tensors that change under it.
const ATTEMPTS: usize = 8;

impl<R: Rule<C, S>, const C: usize, const S: usize> AnySteps for Steps<R, C, S> {
    fn step(&mut self, call: &Call<'_>) -> Result<Path, Stop> {
        // Dropped at the end, since a tensor that goes may run Python code.
        let mut old = Vec::new();
        let path = self.step_with(call, &mut old);
        self.let_go(&mut old);
        path
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.members.iter().try_for_each(|member| member.traverse(visit))?;
        self.written.as_ref().map_or(Ok(()), |list| visit.call(list))
    }
}

impl<R, const C: usize, const S: usize> Steps<R, C, S> {
    /// Nothing is known.
    pub fn new() -> Self {
        Self {
            groups: Vec::new(),
            members: Vec::new(),
            table: Table::default(),
            drives: Vec::new(),
            same: false,
            written: None,
        }
    }

    /// Lets go of large tensors, and forgets those of parameters that took no part.
    fn let_go(&mut self, old: &mut Vec<Held>) {
        for member in &mut self.members {
            let small = member.walk.as_ref().is_some_and(|walk| walk.len() <= SMALL);
            let before = old.len();
            if !member.active {
                old.extend(member.take());
                if old.len() > before {
                    member.known = false;
                    self.same = false;
                }
            } else if !small {
                member.let_go(old);
            }
            if old.len() > before {
                self.written = None;
            }
        }
        old.clear();
    }
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Steps<R, C, S> {
    fn step_with(&mut self, call: &Call<'_>, old: &mut Vec<Held>) -> Result<Path, Stop> {
        let mut made = false;
        let mut scaling = call.scaling;
        let mut grad_norm = None;
        self.drives.iter_mut().for_each(|drive| drive.has_begun = false);
        for _ in 0..ATTEMPTS {
            self.collect(call, made, old)?;
            self.find_state(call, made, old)?;
            self.know(call)?;
            let clip = self.clip()?;
            let is_spread = || self.members.iter().any(|member| member.active && member.is_spread());
            if clip.wants_norm() && call.norm.get().is_none() && is_spread() {
                return Ok(Path::NormWanted);
            }
            self.route(call)?;
            let is_scaled_on_gpu =
                scaling.found_inf.is_some() || (scaling.grad_scale.is_some() && scaling.unscale.is_none());
            if (is_scaled_on_gpu || self.concerns_gpus())
                && let Some(path) = self.see_to_gpus(call, &mut scaling, clip, &mut grad_norm)?
            {
                return Ok(path);
            }
            let some_fresh = !made && self.members.iter().any(|member| member.active && member.fresh);
            // A GPU looks at the scale itself.
            let unscale = scaling.unscale.or(scaling.grad_scale.map(|_| 1.0));
            // From here to the end of the run no Python code runs, so what is read stays true.
            let Self { groups, members, drives, same, .. } = self;
            let ready = if *same && unscale.is_none() { again(call, groups, members, drives) } else { None };
            drives.iter_mut().for_each(|drive| drive.kept = None);
            let ready = match ready {
                Some(ready) => Some(ready),
                None => read(call, groups, members, drives, unscale)?,
            };
            let Some(mut ready) = ready else { continue };
            let norm_on_host = clip.wants_norm() && grad_norm.is_none();
            let mut lacking = Vec::new();
            for (d, ready) in &ready {
                if let Some(gpu) = &mut drives[*d].gpu
                    && (norm_on_host || !some_fresh)
                {
                    lacking.extend(gpu.prepare(call.py, ready)?.map(|bytes| (*d, bytes)));
                }
            }
            if !lacking.is_empty() {
                drop(ready);
                for (d, bytes) in lacking {
                    if let Some(gpu) = &mut drives[d].gpu {
                        gpu.allocate(call.py, bytes)?;
                    }
                }
                continue;
            }
            let factor = if norm_on_host {
                let norm = match call.norm.get() {
                    Some(norm) => norm,
                    None => memory::grad_norm(call, drives, &ready)?,
                };
                call.norm.set(Some(norm));
                match clip.factor(norm)? {
                    Some(factor) => factor,
                    None => return Ok(Path::Skipped(clip.reason(norm))),
                }
            } else {
                1.0
            };
            if some_fresh {
                // All else was checked before the first state is made, so that a step left to torch makes none.
                drop(ready);
                self.make_state(call)?;
                made = true;
                continue;
            }
            ready.iter_mut().for_each(|(_, ready)| ready.scale_grads(factor));
            // On the GPUs first: what they refuse, they refuse before anything is written.
            ready.sort_by_key(|(d, _)| drives[*d].gpu.is_none());
            for (d, ready) in ready {
                drives[d].kept = Some(run(call, &mut drives[d], ready)?);
            }
            *same = !made && unscale.is_none();
            self.members.iter_mut().for_each(|member| member.new_grad = false);
            self.bump(call, unscale.is_some())?;
            return Ok(Path::Fused(grad_norm));
        }
        Err(Stop::Torch("its tensors change while the step looks at them".to_owned()))
    }

    /// Finds the device of each parameter. May run Python code where one is new.
    fn route(&mut self, call: &Call<'_>) -> Result<(), Stop> {
        self.drives.iter_mut().for_each(|drive| drive.is_used = false);
        for member in self.members.iter_mut().filter(|member| member.active) {
            let device = member.device();
            if self.drives.get(member.drive).is_none_or(|drive| drive.device != device) {
                member.drive = match place_of(&self.drives, device) {
                    Some(place) => place,
                    None => {
                        self.drives.push(Drive::new(call.py, device)?);
                        self.drives.len() - 1
                    }
                };
                self.same = false;
            }
            self.drives[member.drive].is_used = true;
        }
        Ok(())
    }

    /// Looks up parameters, gradients and options. May run Python code.
    fn collect(&mut self, call: &Call<'_>, made: bool, old: &mut Vec<Held>) -> Result<(), Stop> {
        let mut count = 0;
        for (index, group) in call.param_groups.iter().enumerate() {
            let Some(dict) = call.torch.plain_dict(&group) else {
                return Err(Stop::Torch(format!("param_groups[{index}] is {}", describe_type(&group))));
            };
            let options = GroupOptions::new(call.torch, dict.clone(), index);
            let mut any = false;
            for (place, param) in options.params()?.iter().enumerate() {
                if count == self.members.len() {
                    self.members.push(Member::new());
                }
                if let Some(next) = self.members.get(count + AHEAD) {
                    next.param.iter().chain(&next.grad).for_each(Held::prefetch);
                }
                let member = &mut self.members[count];
                count += 1;
                let was_active = core::mem::replace(&mut member.active, false);
                let grad = call.torch.grad(&param)?;
                if !grad.is_none() {
                    any = true;
                    member.active = true;
                    member.fresh &= made;
                    if replace(call.torch, &mut member.grad, grad.as_borrowed(), old) {
                        (member.known, member.new_grad) = (false, true);
                    }
                }
                let new_param = member.active && replace(call.torch, &mut member.param, param.as_borrowed(), old);
                if new_param || member.active != was_active || member.group != index {
                    member.known &= !new_param;
                    (self.same, self.written) = (false, None);
                }
                (member.group, member.index) = (index, place);
            }
            if index == self.groups.len() {
                self.groups.push(None);
            }
            // As in torch, the options of a group that has nothing to do do not matter.
            if any {
                match &mut self.groups[index] {
                    Some(known) => known.refresh(call.py, &options)?,
                    unknown => *unknown = Some(KnownGroup::read(call.py, &options)?),
                }
            }
        }
        for mut member in self.members.drain(count..) {
            old.extend(member.take());
            (self.same, self.written) = (false, None);
        }
        self.groups.truncate(call.param_groups.len());
        Ok(())
    }

    /// Looks up the state. Runs no Python code where all is in order.
    fn find_state(&mut self, call: &Call<'_>, made: bool, old: &mut Vec<Held>) -> Result<(), Stop> {
        self.table.read(call.state);
        for member in self.members.iter_mut().filter(|member| member.active) {
            let param = member.param.as_ref().and_then(Held::object);
            let (Some(known), Some(param)) = (&mut self.groups[member.group], param) else { continue };
            let found = if known.keys.names().is_empty() {
                Some(Found::<S>::NONE)
            } else if let Some(entry) = self.table.find(call.py, param, &mut member.place) {
                Found::read(entry, &mut known.keys, call.torch, &|| place(call, member.group, member.index))?
            } else {
                None
            };
            if found.is_none() && made {
                return Err(Stop::Torch("its state vanished while the step made it".to_owned()));
            }
            member.fresh |= found.is_none();
            let found = found.unwrap_or(Found::<S>::NONE);
            let mut changed = replace_optional(call.torch, &mut member.state.step, found.step, old);
            for (held, found) in member.state.slots.iter_mut().zip(found.slots) {
                changed |= replace_optional(call.torch, held, found, old);
            }
            if changed {
                member.known = false;
                (self.same, self.written) = (false, None);
            }
        }
        Ok(())
    }

    /// Finds out about all tensors that are new here. May run Python code.
    fn know(&mut self, call: &Call<'_>) -> Result<(), Stop> {
        let Call { py, torch, .. } = *call;
        for member in self.members.iter_mut().filter(|member| member.active && !member.known) {
            let place = || place(call, member.group, member.index);
            let Some(param) = &mut member.param else { continue };
            let new_param = !param.is_known() && !param.is_again(py, torch)?;
            if new_param {
                self.same = false;
                param.know(py, torch, Role::Param, None, &place)?;
            }
            let grad = member.grad.iter_mut().map(|held| (Role::Grad, held));
            let step = member.state.step.iter_mut().map(|held| (Role::State("step"), held));
            let slots = member.state.slots.iter_mut().zip(R::SLOTS);
            let slots = slots.filter_map(|(held, name)| Some((Role::State(name), held.as_mut()?)));
            for (role, held) in grad.chain(step).chain(slots) {
                if new_param || !held.is_known() && !held.is_again(py, torch)? {
                    // Where the memory was is known to the step before no longer.
                    match role {
                        Role::Grad => member.new_grad = true,
                        _ => self.same = false,
                    }
                    held.know(py, torch, role, Some(param), &place)?;
                }
            }
            // The local part of one that is spread may change with every step.
            member.known = param.local().is_none();
            if !member.known {
                self.written = None;
            }
        }
        Ok(())
    }

    /// How the gradients are clipped by their norm: in one way for all groups that take part.
    fn clip(&self) -> Result<Clip, Stop> {
        let mut clip: Option<Clip> = None;
        let active = self.members.iter().filter(|member| member.active).map(|member| member.group);
        let mut last = usize::MAX;
        for group in active {
            if core::mem::replace(&mut last, group) == group {
                continue;
            }
            let Some(known) = &self.groups[group] else { continue };
            let first = *clip.get_or_insert(known.clip);
            first.check(known.clip, &format!("param_groups[{group}]"))?;
        }
        Ok(clip.unwrap_or(Clip::OFF))
    }

    /// Makes the state of the fresh members and enters it, all or nothing.
    fn make_state(&mut self, call: &Call<'_>) -> Result<(), Stop> {
        let mut made = Vec::new();
        for member in self.members.iter().filter(|member| member.active && member.fresh) {
            let param = member.param.as_ref().and_then(Held::object);
            let (Some(known), Some(param)) = (&mut self.groups[member.group], param) else { continue };
            let place = || place(call, member.group, member.index);
            let names = PyList::new(call.py, known.keys.objects())?;
            let group = call.param_groups.get_item(member.group)?;
            let entry = call.new_state.call1((param, group, names))?;
            // Read once here, so that an entry which is not in order is an error before any is entered.
            if Found::<S>::read(entry.as_borrowed(), &mut known.keys, call.torch, &place)?.is_none() {
                let (name, found, expected) = ("entry", entry.to_string(), "a dict of all entries");
                return Err(Error::StateType { place: place(), name, found, expected }.into());
            }
            // A lookup by subscript, which makes the (still empty) entry of a defaultdict.
            made.push((call.state.as_any().get_item(param)?, entry));
        }
        for (into, entry) in made {
            into.call_method1(intern!(call.py, "update"), (entry,))?;
        }
        Ok(())
    }

    /// Tells autograd what was written, the gradients among that or not.
    fn bump(&mut self, call: &Call<'_>, with_grad: bool) -> PyResult<()> {
        if self.written.is_none() || with_grad {
            let mut tensors = Vec::new();
            for member in self.members.iter().filter(|member| member.active) {
                let grad = member.grad.iter().filter(|_| with_grad);
                for held in member.param.iter().chain(member.state.all()).chain(grad) {
                    tensors.extend(held.object());
                    tensors.extend(held.local());
                }
            }
            self.written = Some(PyList::new(call.py, tensors)?.unbind());
        }
        let written = self.written.as_ref().map(|list| call.torch.increment_version(list.bind(call.py)));
        if with_grad {
            self.written = None;
        }
        written.unwrap_or(Ok(()))
    }
}

/// A parameter's name in a message.
pub fn place(call: &Call<'_>, group: usize, index: usize) -> String {
    match call.param_groups.get_item(group).and_then(|dict| Ok(dict.cast_into::<PyDict>()?)) {
        Ok(dict) => GroupOptions::new(call.torch, dict, group).place_of(index),
        Err(_) => format!("param_groups[{group}]['params'][{index}]"),
    }
}
