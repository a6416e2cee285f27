//! What a step does to each parameter.
#![allow(unsafe_code)]

use core::ops::Range;
use std::sync::Arc;

use super::finite;
use super::group::Group;
use super::scalar::{Count, Known, Scalars};
use crate::error::Error;
use crate::rule::Rule;
use crate::tensor::{Dtype, Dtypes, Walk};

/// A whole step, checked.
pub(crate) struct Step<R, const C: usize, const S: usize> {
    pub settings: Vec<Setting<R, C, S>>,
    pub tasks: Vec<Task<S>>,
    /// The scalars of each task; empty where the rule has none.
    pub scalars: Vec<Scalars<S>>,
    pub total: usize,
    pub unscale: Option<f64>,
    pub factor: f64,
}

/// A group at a step count, and at scalars where the rule has some.
pub(crate) struct Setting<R, const C: usize, const S: usize> {
    pub number: usize,
    pub group: Group<R>,
    pub step: f64,
    pub coeffs: [f64; C],
    /// The scalars before the step.
    pub before: Known<S>,
    /// The scalars after it.
    pub after: [f64; S],
}

/// What the step does to one parameter.
pub(crate) struct Task<const S: usize> {
    /// The number of its group.
    pub group: usize,
    /// The place of its setting.
    pub setting: usize,
    pub walk: Arc<Walk<S>>,
    pub param: *mut u8,
    pub grad: *mut u8,
    pub slots: [Option<*mut u8>; S],
    pub count: Option<Count>,
    /// The number of elements of the tasks before.
    pub begin: usize,
}

// SAFETY: the pointers are those of views whose memory `Ready` borrows; tasks share no memory that is written, and two
// threads never get the same element of a task.
unsafe impl<const S: usize> Send for Task<S> {}
// SAFETY: as above.
unsafe impl<const S: usize> Sync for Task<S> {}
impl<const S: usize> Task<S> {
    /// The step that a task is at, where the rule keeps no count that of new slots or not.
    #[inline]
    pub fn at(count: Option<&Count>, fresh: bool) -> f64 {
        match count {
            Some(count) => count.value,
            None if fresh => 1.0,
            None => 2.0,
        }
    }

    /// Its elements among `piece` of all elements of the step, counted from its own first.
    #[inline(always)]
    pub fn part(&self, piece: &Range<usize>) -> Range<usize> {
        let own = |at: usize| at.saturating_sub(self.begin).min(self.walk.len());
        own(piece.start)..own(piece.end)
    }

    /// Whether its arithmetic is in `f64`.
    #[inline(always)]
    pub fn is_wide(&self) -> bool {
        let Dtypes { param, grad, slots } = *self.walk.dtypes();
        [Some(param), Some(grad)].into_iter().chain(slots).any(|dtype| dtype == Some(Dtype::F64))
    }
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Step<R, C, S> {
    /// The place of the setting for `step` of a group at these scalars: parameters mostly share it, and powers are dear.
    ///
    /// # Errors
    ///
    /// A coefficient is not finite, with `place()` as the parameter's name. Those that the device makes are its own.
    #[inline]
    pub fn setting(
        &mut self,
        (number, group): (usize, &Group<R>),
        (step, before): (f64, Known<S>),
        on_device: bool,
        place: impl Fn() -> String,
    ) -> Result<usize, Error> {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let known = self.settings.last().is_some_and(|last| {
            same(last.step, step)
                && (!R::HAS_SCALARS || last.before.is(&before))
                && (last.number == number
                    || same(last.group.lr, group.lr)
                        && last.group.lr_at == group.lr_at
                        && last.group.rule == group.rule
                        && last.group.maximize == group.maximize
                        && last.group.clip_value == group.clip_value)
        });
        if !known {
            let begin = |lr| group.rule.begin(lr, step, before.numbers, before.single);
            let (coeffs, after) = begin(group.lr);
            if !on_device {
                match group.lr_at {
                    None => finite::check(&group.rule, group.lr, (step, &before), &coeffs, place)?,
                    Some(_) => finite::check(&group.rule, 1.0, (step, &before), &begin(1.0).0, place)?,
                }
            }
            self.settings.push(Setting { number, group: group.clone(), step, coeffs, before, after });
        }
        Ok(self.settings.len() - 1)
    }

    /// What multiplies the gradients of a group.
    pub fn factor_of(&self, group: &Group<R>) -> f64 {
        if group.maximize { -self.factor } else { self.factor }
    }

    /// Enters the step counts and the scalars.
    pub fn write_counts(&self) {
        for count in self.tasks.iter().filter_map(|task| task.count.as_ref()) {
            count.place.write(count.value);
        }
        for (task, scalars) in self.tasks.iter().zip(&self.scalars) {
            for (scalar, &value) in scalars.iter().zip(&self.settings[task.setting].after) {
                if let Some(scalar) = scalar {
                    scalar.write(value);
                }
            }
        }
    }

    /// The tasks that have elements in `piece` of all elements of the step, with their places.
    #[inline(always)]
    pub fn tasks_in(&self, piece: &Range<usize>) -> impl Iterator<Item = (usize, &Task<S>)> {
        let begin = self.tasks.partition_point(|task| task.begin + task.walk.len() <= piece.start);
        let count = self.tasks[begin..].partition_point(|task| task.begin < piece.end);
        (begin..).zip(&self.tasks[begin..begin + count]).filter(|(_, task)| !task.walk.is_empty())
    }

    /// Whether a rule of the step needs sums.
    pub fn needs_sums(&self) -> bool {
        R::HAS_SUMS && self.settings.iter().any(|setting| setting.group.rule.needs_sums())
    }
}
