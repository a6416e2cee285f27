//! The state of a parameter: made by torch in its first step, or out of a checkpoint.

use std::collections::HashMap;

use ::tch::{Device, Kind, Tensor};

use super::error::{Error, place};
use super::memory::Seen;
use super::options::{Table, Value};
use crate::error::Error as CoreError;
use crate::rule::{Options, Rule};

/// The name of a step count among the state entries.
pub const COUNT: &str = "step";

/// A state tensor. Nobody else has it, so it stays where it was seen.
struct Slot {
    tensor: Tensor,
    seen: Seen,
}

/// The state of a parameter; nothing before its first step.
pub struct State<const S: usize> {
    slots: [Option<Slot>; S],
    count: Option<Slot>,
    /// What was made for the step under way: the count, and each slot.
    made: (bool, [bool; S]),
}

/// State that was checked for a parameter. The count comes first, `None` for what there is none of.
pub struct Prepared(Vec<Option<Slot>>);

impl Slot {
    fn new(name: &'static str, param: &str, tensor: Tensor) -> Result<Self, Error> {
        let mut seen = Seen::new();
        seen.look(&tensor).map_err(|found| Error::not_plain(param, name, found))?;
        Ok(Self { tensor, seen })
    }
}

impl<const S: usize> State<S> {
    /// None.
    pub fn new() -> Self {
        Self { slots: [const { None }; S], count: None, made: (false, [false; S]) }
    }

    /// Makes what the rule wants and what is not there.
    pub fn make<R: Rule<C, S>, const C: usize>(
        &mut self,
        rule: &R,
        table: &Table,
        name: &str,
        param: &Tensor,
    ) -> Result<(), Error> {
        if R::COUNTED && self.count.is_none() {
            self.count = Some(Slot::new(COUNT, name, new_scalar(COUNT, 0.0)?)?);
            self.made.0 = true;
        }
        let wanted = R::SLOTS.into_iter().zip(R::AS_PARAM).zip(kept(rule));
        for ((slot, made), ((entry, as_param), live)) in self.slots.iter_mut().zip(&mut self.made.1).zip(wanted) {
            if live && slot.is_none() {
                let new = match first(entry, table)? {
                    Some(value) => new_scalar(entry, value)?,
                    None if as_param => copy(param)?,
                    None => new_slot(param, entry, table)?,
                };
                *slot = Some(Slot::new(entry, name, new)?);
                *made = true;
            }
        }
        Ok(())
    }

    /// Whether slots were made for the step under way.
    pub fn is_fresh(&self) -> bool {
        self.made.1.contains(&true)
    }

    /// Lets go of what was made, or keeps it.
    pub fn settle(&mut self, keep: bool) {
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

    /// Where these slots are, and the count. They stay there as long as the state is not changed.
    pub fn seen(&self, which: [bool; S]) -> ([Option<&Seen>; S], Option<&Seen>) {
        let mut k = 0..S;
        let slots = self.slots.each_ref().map(|slot| {
            let wanted = k.next().is_some_and(|k| which[k]);
            slot.as_ref().filter(|_| wanted).map(|slot| &slot.seen)
        });
        (slots, self.count.as_ref().map(|count| &count.seen))
    }

    /// All tensors, by the names of their entries.
    pub fn entries<R: Rule<C, S>, const C: usize>(&self) -> Vec<(&'static str, &Tensor)> {
        let slots = R::SLOTS.into_iter().zip(&self.slots).filter_map(|(name, slot)| Some((name, slot.as_ref()?)));
        let count = self.count.iter().map(|count| (COUNT, count));
        count.chain(slots).map(|(name, slot)| (name, &slot.tensor)).collect()
    }

    /// Puts new state in the place of the old.
    pub fn enter(&mut self, Prepared(entries): Prepared) {
        let mut entries = entries.into_iter();
        self.count = entries.next().flatten();
        self.slots = [(); S].map(|()| entries.next().flatten());
    }
}

/// Which slots there are, scalars among them.
fn kept<R: Rule<C, S>, const C: usize, const S: usize>(rule: &R) -> [bool; S] {
    let live = rule.live();
    core::array::from_fn(|k| live[k] || R::SCALARS[k])
}

/// What a scalar begins at; `None` for an entry that is none.
fn first(name: &str, table: &Table) -> Result<Option<f64>, Error> {
    Ok(match name {
        "mu_product" | "mu" => Some(1.0),
        "weight_sum" | "lr_max" => Some(0.0),
        "eta" => Some(table.number("lr")?),
        _ => None,
    })
}

/// A scalar, or a count, as torch makes it; what adds up in `f64`.
fn new_scalar(name: &str, value: f64) -> Result<Tensor, Error> {
    let kind = if matches!(name, "weight_sum" | "lr_max") { Kind::Double } else { Kind::Float };
    Ok(Tensor::f_full([], value, (kind, Device::Cpu))?)
}

/// A copy of a parameter, laid out like that.
fn copy(param: &Tensor) -> Result<Tensor, Error> {
    let param = param.f_detach()?;
    let mut copy = param.f_zeros_like()?;
    copy.f_copy_(&param)?;
    Ok(copy)
}

/// What a slot begins as: 0, but for Adagrad's sum and Rprop's step sizes.
fn new_slot(param: &Tensor, name: &str, table: &Table) -> Result<Tensor, Error> {
    let slot = param.f_detach()?.f_zeros_like()?;
    let option = match name {
        "sum" => "initial_accumulator_value",
        "step_size" => "lr",
        _ => return Ok(slot),
    };
    if let Some(Value::Number(initial)) = table.get(option)
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

/// State for a parameter under the options of `table`, out of entries that may be more than are needed; none out of none.
pub fn prepare<R: Rule<C, S>, const C: usize, const S: usize>(
    table: &Table,
    name: &str,
    param: &Tensor,
    entries: &HashMap<&str, Tensor>,
) -> Result<Prepared, Error> {
    let mut new: Vec<Option<Slot>> = std::iter::repeat_with(|| None).take(1 + S).collect();
    let kept = kept(&R::read(table)?);
    let wanted = std::iter::once((COUNT, R::COUNTED)).chain(R::SLOTS.into_iter().zip(kept));
    let is_single = std::iter::once(true).chain(R::SCALARS);
    for ((to, (entry, live)), is_single) in new.iter_mut().zip(wanted).zip(is_single) {
        let Some(found) = entries.get(entry) else {
            if live && !entries.is_empty() {
                let found = R::SLOTS.into_iter().filter(|name| entries.contains_key(name)).collect();
                return Err(CoreError::MissingState { place: place(name), name: entry, found }.into());
            }
            continue;
        };
        let tensor = if is_single { read_scalar(name, entry, found)? } else { read_slot(name, param, entry, found)? };
        *to = Some(Slot::new(entry, name, tensor)?);
    }
    Ok(Prepared(new))
}

fn read_scalar(name: &str, entry: &'static str, found: &Tensor) -> Result<Tensor, Error> {
    // Counts of a file that was cast whole would not count on from 256, or 2,048.
    let narrow = matches!(found.f_kind()?, Kind::BFloat16 | Kind::Half);
    let scalar = if narrow { found.f_to_kind(Kind::Float)? } else { found.shallow_clone() };
    let kind = scalar.f_kind()?;
    if !found.size().is_empty() || !matches!(kind, Kind::Float | Kind::Double) {
        let (found, expected) = (format!("{kind:?} of shape {:?}", found.size()), "one Float or Double");
        return Err(CoreError::StateType { place: place(name), name: entry, found, expected }.into());
    }
    Ok(scalar)
}

/// Laid out like the parameter; of the type that the file has.
fn read_slot(name: &str, param: &Tensor, entry: &'static str, found: &Tensor) -> Result<Tensor, Error> {
    let kind = found.f_kind()?;
    let slot = param.f_detach()?.f_zeros_like()?;
    let slot = if param.f_is_complex()? { slot } else { slot.f_to_kind(kind)? };
    let mut into = parts(&slot)?;
    if into.size() != found.size() {
        let (found, expected) = (found.size(), into.size());
        return Err(CoreError::Shape { place: place(name), name: entry, found, expected }.into());
    }
    into.f_copy_(found)?;
    Ok(slot)
}
