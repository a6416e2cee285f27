//! A step on lists of tensors, as the functions of `torch.optim.functional` take them: no groups, nothing is kept.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::end::Stop;
use super::options::GroupOptions;
use super::plain::{Lists, MUCH};
use super::torch::Torch;
use crate::batch::{Batch, Group, Unfit};
use crate::rule::{Options, Rule};
use crate::rules::{self, Visitor};
use crate::tensor::{Operands, Territory, View};

type Objects<'py> = Vec<Bound<'py, PyAny>>;

/// Steps on all parameters of a list, by `options` as in a group. `slots` has a list for each of the rule's, empty for
/// those that are not live under the options; `fresh` says, where the rule keeps no count, whose slots are new. None if it
/// is done; else the reason why only torch can, and nothing was written.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn step_on_lists<'py>(
    rule: &str,
    options: Bound<'py, PyDict>,
    params: Objects<'py>,
    grads: Objects<'py>,
    slots: Vec<Objects<'py>>,
    steps: Objects<'py>,
    fresh: Vec<bool>,
    threads: usize,
) -> PyResult<Option<String>> {
    let py = options.py();
    let torch = Torch::get(py)?;
    match rules::visit(rule, Call { torch, options, params, grads, slots, steps, fresh, threads })? {
        Ok(()) => Ok(None),
        Err(Stop::Torch(reason) | Stop::One(reason)) => Ok(Some(reason)),
        Err(Stop::Error(error)) => Err(error),
    }
}

struct Call<'py> {
    torch: &'py Torch,
    options: Bound<'py, PyDict>,
    params: Objects<'py>,
    grads: Objects<'py>,
    slots: Vec<Objects<'py>>,
    steps: Objects<'py>,
    fresh: Vec<bool>,
    threads: usize,
}

impl Visitor for Call<'_> {
    type Output = Result<(), Stop>;

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) -> Self::Output {
        let Self { torch, options, params, grads, slots, steps, fresh, threads } = self;
        let py = options.py();
        let options = GroupOptions::new(torch, options, 0);
        if let Some(reason) = options.torch_only()? {
            return Err(Stop::Torch(reason.to_owned()));
        }
        if options.lr_on_gpu()?.is_some() {
            return Err(Stop::Torch("lr is on a GPU".to_owned()));
        }
        let mut group = Group::new(R::read(&options)?, options.number("lr")?);
        group.maximize = options.flag("maximize")?;
        let live = group.rule.live();
        let is_there = |k: usize| live[k] || R::SCALARS[k];
        let wanted = |list: &Objects<'_>, is_there: bool| list.len() == if is_there { params.len() } else { 0 };
        let fit = (0..S).all(|k| !is_there(k) || slots.get(k).is_some_and(|list| wanted(list, true)));
        if !(fit && wanted(&grads, true) && wanted(&steps, R::COUNTED)) {
            return Err(Stop::Torch("the lists are of unlike lengths".to_owned()));
        }
        let mut lists: Vec<&[Bound<'_, PyAny>]> = vec![&params, &grads, &steps];
        lists.extend((0..S).filter(|&k| is_there(k)).map(|k| &slots[k][..]));
        let odd = || Stop::Torch("a tensor is no plain one".to_owned());
        let tensors = Lists::of(torch, &lists)?.ok_or_else(odd)?;
        // From here to the end no Python code runs, so what is read stays true.
        let views = tensors.views(py, torch)?.ok_or_else(odd)?;
        let [params_at, grads_at, steps_at, slots_at @ ..] = &views[..] else { return Err(odd()) };
        let mut own = slots_at.iter();
        let slots_at: [Option<&Vec<View<'_>>>; S] =
            core::array::from_fn(|k| if is_there(k) { own.next() } else { None });
        let mut batch = Batch::new(None);
        for (i, (&param, &grad)) in params_at.iter().zip(grads_at).enumerate() {
            let of = |k: usize, is_it: bool| slots_at[k].filter(|_| is_it).and_then(|views| views.get(i)).copied();
            let operands = Operands {
                param,
                grad,
                slots: core::array::from_fn(|k| of(k, live[k])),
                step: steps_at.get(i).copied(),
                scalars: core::array::from_fn(|k| of(k, R::SCALARS[k])),
            };
            let fresh = fresh.get(i).copied().unwrap_or(false);
            match batch.push((0, &group), fresh, &mut None, &operands, || format!("params[{i}]")) {
                Ok(()) => {}
                Err(Unfit::Wrong(error)) => return Err(error.into()),
                Err(Unfit::Refused(name, refusal)) => {
                    return Err(Stop::Torch(format!("params[{i}]: {name} {refusal}")));
                }
            }
        }
        let Some(ready) = batch.ready(&mut Territory::default()) else {
            return Err(Stop::Torch("tensors share memory".to_owned()));
        };
        let threads = torch.threads(threads);
        if ready.total() < MUCH {
            ready.run(&threads);
        } else {
            py.detach(|| ready.run(&threads));
        }
        // All but the gradients.
        let written = lists.iter().enumerate().filter(|(k, _)| *k != 1).flat_map(|(_, list)| *list);
        torch.increment_version(&PyList::new(py, written)?)?;
        Ok(())
    }
}
