//! A step of a Python optimizer: from `param_groups` and `state` to a batch.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::options::{GroupOptions, describe, describe_type};
use super::state::{Keys, State};
use super::torch::{Tensor, Torch};
use crate::cpu::{Batch, Group, Ready};
use crate::error::Error;
use crate::rule::{Options, Rule};
use crate::rules::{self, Visitor};
use crate::tensor::{Operands, Slot, View};

/// Steps on all parameters that have a gradient, by the update rule named `rule`.
///
/// Returns None when done. Returns the reason, with nothing written, where a tensor or an option is one that only
/// torch's own implementation handles. Raises, with nothing written, on tensors that do not belong together.
///
/// `new_state(param, group, names)` makes the tensors of a parameter that has no state yet, as a dict.
#[pyfunction]
pub fn step(
    py: Python<'_>,
    rule: &str,
    param_groups: Bound<'_, PyAny>,
    state: Bound<'_, PyAny>,
    new_state: Bound<'_, PyAny>,
    threads: usize,
) -> PyResult<Option<String>> {
    let torch = Torch::get(py)?;
    let Some(state) = torch.plain_dict(&state) else {
        return Ok(Some(format!("state is {}", describe_type(&state))));
    };
    let Ok(param_groups) = param_groups.cast::<PyList>() else {
        return Ok(Some(format!("param_groups is {}", describe_type(&param_groups))));
    };
    let (param_groups, state) = (param_groups.clone(), state.clone());
    rules::visit(rule, Step { py, torch, param_groups, state, new_state, threads })?
}

struct Step<'py> {
    py: Python<'py>,
    torch: &'py Torch,
    param_groups: Bound<'py, PyList>,
    state: Bound<'py, PyDict>,
    new_state: Bound<'py, PyAny>,
    threads: usize,
}

/// Why a step is not taken here: an error, or a reason to leave it to torch.
pub enum Stop {
    /// It must not be taken.
    Error(PyErr),
    /// torch's own code takes it.
    Torch(String),
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Stop::Error(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error.into())
    }
}

/// A parameter that has a gradient: its index in the group, the parameter, the gradient.
type Found<'py> = (usize, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// What the parameters of a group share.
struct Shared<'py, R, const C: usize, const S: usize> {
    options: GroupOptions<'py>,
    keys: Keys<'py, S>,
    step: Group<R, C>,
}

/// A parameter with a gradient: its tensors as objects, which keep the memory of their views alive.
struct Member<'py, const S: usize> {
    group: usize,
    index: usize,
    param: Tensor<'py>,
    grad: Tensor<'py>,
    state: State<'py, S>,
    /// Whether this step makes the state.
    fresh: bool,
}

impl Visitor for Step<'_> {
    type Output = PyResult<Option<String>>;

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) -> Self::Output {
        match self.run::<R, C, S>() {
            Ok(()) => Ok(None),
            Err(Stop::Torch(reason)) => Ok(Some(reason)),
            Err(Stop::Error(error)) => Err(error),
        }
    }
}

impl<'py> Step<'py> {
    fn run<R: Rule<C, S>, const C: usize, const S: usize>(&self) -> Result<(), Stop> {
        let mut groups = Vec::with_capacity(self.param_groups.len());
        let mut members = Vec::new();
        for (index, group) in self.param_groups.iter().enumerate() {
            let Some(group) = self.torch.plain_dict(&group) else {
                return Err(Stop::Torch(format!("param_groups[{index}] is {}", describe_type(&group))));
            };
            let options = GroupOptions::new(self.torch, group.clone(), index);
            let found = self.with_gradients(&options)?;
            // As in torch, the options of a group that has nothing to do do not matter.
            if !found.is_empty() {
                let group = self.read_group::<R, C, S>(options)?;
                self.gather(groups.len(), &group, found, &mut members)?;
                groups.push(group);
            }
        }
        if members.iter().any(|member| member.fresh) {
            // All else is checked before the first state is made, so that a step left to torch makes none.
            self.check(&mut groups, &members)?;
            self.make_state(&groups, &mut members)?;
        }
        let ready = self.check(&mut groups, &members)?;
        let written = members.iter().flat_map(|member| core::iter::once(&member.param).chain(member.state.tensors()));
        // Before the write, so that an objection of torch's comes in time.
        self.torch.increment_version(self.py, written)?;
        let threads = self.torch.threads(self.threads);
        self.py.detach(|| ready.run(&threads));
        Ok(())
    }

    /// The parameters of a group that have a gradient.
    fn with_gradients(&self, options: &GroupOptions<'py>) -> PyResult<Vec<Found<'py>>> {
        let grad = intern!(self.py, "grad");
        let mut found = Vec::new();
        for (index, param) in options.params()?.iter().enumerate() {
            let grad = param.getattr(grad)?;
            if !grad.is_none() {
                found.push((index, param, grad));
            }
        }
        Ok(found)
    }

    fn read_group<R: Rule<C, S>, const C: usize, const S: usize>(
        &self,
        options: GroupOptions<'py>,
    ) -> Result<Shared<'py, R, C, S>, Stop> {
        if let Some(reason) = options.torch_only()? {
            return Err(Stop::Torch(format!("{} has {reason}", options.place())));
        }
        let rule = R::read(&options)?;
        let step = Group::new(rule, options.number("lr")?, options.flag("maximize")?);
        Ok(Shared { keys: Keys::of(self.py, &rule), options, step })
    }

    /// Adds the found parameters of a group, which is the `number`th of those read.
    fn gather<R, const C: usize, const S: usize>(
        &self,
        number: usize,
        Shared { options, keys, .. }: &Shared<'py, R, C, S>,
        found: Vec<Found<'py>>,
        members: &mut Vec<Member<'py, S>>,
    ) -> Result<(), Stop> {
        for (index, param, grad) in found {
            let place = || options.place_of(index);
            let plain = |object: &Bound<'py, PyAny>, name: &str| {
                let left = |what: &str| Stop::Torch(format!("{}: {name} is {what}", place()));
                let tensor = self.torch.plain(object).ok_or_else(|| left(&describe_type(object)))?;
                if tensor.is_negative_view()? { Err(left("a negative view")) } else { Ok(tensor) }
            };
            let (param, grad) = (plain(&param, "param")?, plain(&grad, "grad")?);
            let state = if keys.names().is_empty() {
                Some(State::none())
            } else if let Some(entry) = self.state.get_item(param.object())? {
                State::read(self.entry(&entry, &place)?, keys, self.torch, &place)?
            } else {
                None
            };
            let fresh = state.is_none();
            members.push(Member { group: number, index, param, grad, fresh, state: state.unwrap_or_else(State::none) });
        }
        Ok(())
    }

    /// Makes the state of the fresh members and enters it, all or nothing.
    fn make_state<R, const C: usize, const S: usize>(
        &self,
        groups: &[Shared<'py, R, C, S>],
        members: &mut [Member<'py, S>],
    ) -> Result<(), Stop> {
        let mut made = Vec::new();
        for member in members.iter_mut().filter(|member| member.fresh) {
            let Shared { options, keys, .. } = &groups[member.group];
            let names = PyList::new(self.py, keys.names())?;
            let place = || options.place_of(member.index);
            let entry = self.new_state.call1((member.param.object(), options.dict(), names))?;
            let state = State::read(self.entry(&entry, &place)?, keys, self.torch, &place)?;
            member.state = state.unwrap_or_else(State::none);
            // A lookup by subscript, which makes the (still empty) entry of a defaultdict.
            made.push((self.state.as_any().get_item(member.param.object())?, entry));
        }
        for (into, entry) in made {
            into.call_method1(intern!(self.py, "update"), (entry,))?;
        }
        Ok(())
    }

    /// The step, ready to run, if all tensors are in order.
    fn check<'a, R: Rule<C, S>, const C: usize, const S: usize>(
        &self,
        groups: &mut [Shared<'py, R, C, S>],
        members: &'a [Member<'py, S>],
    ) -> Result<Ready<'a, R, C, S>, Stop> {
        let mut batch = Batch::new();
        for member in members {
            let Shared { options, step, .. } = &mut groups[member.group];
            let operands = self.operands(member, R::SLOTS, options)?;
            batch.push(step, member.fresh, &operands).map_err(|(name, refusal)| {
                Stop::Torch(format!("{}: {name} {refusal}", options.place_of(member.index)))
            })?;
        }
        batch.ready().ok_or_else(|| Stop::Torch("tensors of the step share memory".to_owned()))
    }

    /// The memory of a member's tensors, of one shape.
    fn operands<'a, const S: usize>(
        &self,
        member: &'a Member<'py, S>,
        names: [&'static str; S],
        options: &GroupOptions<'py>,
    ) -> Result<Operands<'a, S>, Stop> {
        let place = || options.place_of(member.index);
        let view = |tensor: &'a Tensor<'py>, name: &'static str| -> Result<View<'a>, Stop> {
            // torch describes no tensor that is not plain memory: sparse, meta, quantized.
            let view = self.torch.view(tensor).or_else(|_| {
                Err(Stop::Torch(format!("{}: {name} is not plain memory ({})", place(), tensor.kind()?)))
            })?;
            if !view.has_memory() && tensor.is_freed()? {
                return Err(Error::FreedStorage { place: place(), name, expected: view.len() }.into());
            }
            Ok(view)
        };
        let optional = |tensor: &'a Option<Tensor<'py>>, name: &'static str| {
            tensor.as_ref().map(|tensor| view(tensor, name)).transpose()
        };
        let mut slots = names.map(|name| Slot { name, view: None });
        for (slot, tensor) in slots.iter_mut().zip(&member.state.slots) {
            slot.view = optional(tensor, slot.name)?;
        }
        let operands = Operands {
            param: view(&member.param, "param")?,
            grad: view(&member.grad, "grad")?,
            slots,
            step: optional(&member.state.step, "step")?,
        };
        operands.check_shapes(place)?;
        Ok(operands)
    }

    /// A parameter's entry in the state as a dict.
    fn entry<'a>(
        &self,
        entry: &'a Bound<'py, PyAny>,
        place: &dyn Fn() -> String,
    ) -> Result<&'a Bound<'py, PyDict>, Stop> {
        match self.torch.plain_dict(entry) {
            Some(dict) => Ok(dict),
            None if entry.is_instance_of::<PyDict>() => {
                Err(Stop::Torch(format!("{}: its state is {}", place(), describe_type(entry))))
            }
            None => {
                let (found, expected) = (describe(entry), "a dict");
                Err(Error::StateType { place: place(), name: "entry", found, expected }.into())
            }
        }
    }
}
