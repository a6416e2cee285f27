//! A step on lists of tensors, as the functions of `torch.optim.functional` take them: no groups, nothing is kept.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::end::Stop;
use super::options::GroupOptions;
use super::torch::{Tensor, Torch};
use crate::batch::{Batch, Group, Unfit};
use crate::rule::{Options, Rule};
use crate::rules::{self, Visitor};
use crate::tensor::{Operands, Territory, View};

/// Work of at least this many elements is done without the GIL.
const MUCH: usize = 1 << 15;

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
    match rules::visit(rule, Lists { torch, options, params, grads, slots, steps, fresh, threads })? {
        Ok(()) => Ok(None),
        Err(Stop::Torch(reason) | Stop::One(reason)) => Ok(Some(reason)),
        Err(Stop::Error(error)) => Err(error),
    }
}

struct Lists<'py> {
    torch: &'py Torch,
    options: Bound<'py, PyDict>,
    params: Objects<'py>,
    grads: Objects<'py>,
    slots: Vec<Objects<'py>>,
    steps: Objects<'py>,
    fresh: Vec<bool>,
    threads: usize,
}

impl Visitor for Lists<'_> {
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
        let used: Vec<&Objects<'_>> =
            slots.iter().enumerate().filter(|(k, _)| is_there(*k)).map(|(_, list)| list).collect();
        let all = [&params, &grads].into_iter().chain(used).chain(R::COUNTED.then_some(&steps));
        let tensors = all.map(|list| plain(torch, list)).collect::<Result<Vec<_>, _>>()?;
        // From here to the end no Python code runs, so what is read stays true.
        let mut views = tensors.iter().map(|list| views(py, torch, list)).collect::<Result<Vec<_>, _>>()?.into_iter();
        let mut next = || views.next().unwrap_or_default();
        let (param_views, grad_views) = (next(), next());
        let slot_views: [Vec<View<'_>>; S] = core::array::from_fn(|k| if is_there(k) { next() } else { Vec::new() });
        let step_views = next();
        let mut batch = Batch::new(None);
        for (i, (&param, &grad)) in param_views.iter().zip(&grad_views).enumerate() {
            let of = |k: usize, is_it: bool| slot_views[k].get(i).copied().filter(|_| is_it);
            let operands = Operands {
                param,
                grad,
                slots: core::array::from_fn(|k| of(k, live[k])),
                step: step_views.get(i).copied(),
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
        let written = params.iter().chain(steps.iter());
        let written = written.chain((0..S).filter(|&k| is_there(k)).flat_map(|k| &slots[k]));
        torch.increment_version(&PyList::new(py, written.collect::<Vec<_>>())?)?;
        Ok(())
    }
}

/// The objects as tensors, if all are plain ones and none is a conjugate or negative view.
fn plain(torch: &Torch, objects: &Objects<'_>) -> Result<Vec<Tensor>, Stop> {
    let plain = |object: &Bound<'_, PyAny>| {
        let py = object.py();
        let tensor = torch.plain(object).ok_or_else(|| Stop::Torch("a tensor is no plain one".to_owned()))?;
        if torch.is_negative_view(py, &tensor)? || tensor.is_conjugate_view(py)? {
            return Err(Stop::Torch("a tensor is a conjugate or negative view".to_owned()));
        }
        Ok(tensor)
    };
    objects.iter().map(plain).collect()
}

/// The memory of the tensors, if torch describes all.
fn views<'a>(py: Python<'_>, torch: &Torch, tensors: &'a [Tensor]) -> Result<Vec<View<'a>>, Stop> {
    let view = |tensor| torch.memory(py, tensor).map_err(|_| Stop::Torch("a tensor has no plain memory".to_owned()));
    tensors.iter().map(view).collect()
}
