//! What parameters share in a step.

use crate::error::Error;
use crate::rule::Rule;
use crate::tensor::Dtype;

/// What the parameters of one group share in a step.
#[derive(Debug, Clone)]
pub struct Group<R> {
    /// The rule under the group's options.
    pub rule: R,
    /// The learning rate.
    pub lr: f64,
    /// Where the learning rate is, if a GPU is to read it from its own memory, which goes before `lr`.
    pub lr_at: Option<DeviceNumber>,
    /// Whether to step uphill.
    pub maximize: bool,
    /// A bound on the absolute value of each element of a gradient, after all else.
    pub clip_value: Option<f64>,
}

/// A number in a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNumber {
    /// Its address.
    pub at: u64,
    /// Its type: `F32` or `F64`.
    pub dtype: Dtype,
}

impl<R> Group<R> {
    /// A group that steps by `rule` at the learning rate `lr`, downhill and without clipping.
    pub fn new(rule: R, lr: f64) -> Self {
        Self { rule, lr, lr_at: None, maximize: false, clip_value: None }
    }

    /// That the groups of a step, each with its number, agree in what is to be [the same](Rule::shared) in all; also in
    /// the learning rate where it is not 0. `place` names a group.
    ///
    /// # Errors
    ///
    /// They do not.
    pub fn check_shared<'a, const C: usize, const S: usize>(
        groups: impl Iterator<Item = (usize, &'a Self)>,
        place: impl Fn(usize) -> String,
    ) -> Result<(), Error>
    where
        R: Rule<C, S>,
    {
        let mut first: Option<&Self> = None;
        for (number, group) in groups {
            // One with a rate goes before one without.
            let expected = *first.get_or_insert(group);
            let rate = |lr: f64| if group.lr == 0.0 || expected.lr == 0.0 { 0.0 } else { lr };
            let of = |group: &Self| core::iter::once(("lr", rate(group.lr))).chain(group.rule.shared());
            let differ = |((_, own), (_, other)): &((_, f64), (_, f64))| own.to_bits() != other.to_bits();
            if let Some(((name, found), (_, expected))) = of(group).zip(of(expected)).find(differ) {
                let (found, expected) = (found.to_string(), expected.to_string());
                return Err(Error::GroupsDiffer { place: place(number), name, found, expected });
            }
            first = Some(if expected.lr == 0.0 { group } else { expected });
        }
        Ok(())
    }
}
