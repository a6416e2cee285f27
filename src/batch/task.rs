//! What a step does to each parameter.
#![allow(unsafe_code)]

use core::ops::Range;
use std::sync::Arc;

use super::finite;
use super::group::Group;
use crate::error::Error;
use crate::rule::Rule;
use crate::tensor::{Device, Dtype, Dtypes, View, Walk};

/// A whole step, checked.
pub(crate) struct Step<R, const C: usize, const S: usize> {
    pub settings: Vec<Setting<R, C>>,
    pub tasks: Vec<Task<S>>,
    pub total: usize,
    pub unscale: Option<f64>,
    pub factor: f64,
}

/// A group at a step count.
pub(crate) struct Setting<R, const C: usize> {
    pub number: usize,
    pub group: Group<R>,
    pub step: f64,
    pub coeffs: [f64; C],
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

/// Where a parameter's step count is, and what it becomes.
pub(crate) struct Count {
    pub at: *mut u8,
    pub dtype: Dtype,
    /// Whether the host can read and write it.
    pub is_host: bool,
    /// What it becomes; NaN where only the device knows.
    pub value: f64,
}

// SAFETY: the pointers are those of views whose memory `Ready` borrows; tasks share no memory that is written, and two
// threads never get the same element of a task.
unsafe impl<const S: usize> Send for Task<S> {}
// SAFETY: as above.
unsafe impl<const S: usize> Sync for Task<S> {}

impl Count {
    /// The count that comes after the one in `view`, which `Operands::refusal` let pass.
    pub fn next(view: &View<'_>) -> Self {
        let is_host = view.device() == Device::Cpu;
        let mut count = Self { at: view.data(), dtype: view.dtype(), is_host, value: f64::NAN };
        // SAFETY: the view's promise; one number of this type was let pass.
        unsafe { count.renew() };
        count
    }

    /// Goes on to the count that comes after what is there now.
    ///
    /// # Safety
    ///
    /// The number must still be there.
    pub unsafe fn renew(&mut self) {
        if !self.is_host {
            return;
        }
        // SAFETY: the caller's promise.
        self.value = 1.0
            + unsafe {
                match self.dtype {
                    Dtype::F64 => self.at.cast::<f64>().read_unaligned(),
                    _ => f64::from(self.at.cast::<f32>().read_unaligned()),
                }
            };
    }

    fn write(&self) {
        if !self.is_host {
            return;
        }
        // SAFETY: the view's promise; the count shares no memory with anything else of the step.
        unsafe {
            match self.dtype {
                Dtype::F64 => self.at.cast::<f64>().write_unaligned(self.value),
                _ => self.at.cast::<f32>().write_unaligned(self.value as f32),
            }
        }
    }
}

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
    /// The place of the setting for `step` of a group: parameters mostly share it, and powers are dear.
    ///
    /// # Errors
    ///
    /// A coefficient is not finite, with `place()` as the parameter's name. Those that the device makes are its own.
    #[inline]
    pub fn setting(
        &mut self,
        (number, group): (usize, &Group<R>),
        step: f64,
        on_device: bool,
        place: impl Fn() -> String,
    ) -> Result<usize, Error> {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let known = self.settings.last().is_some_and(|last| {
            same(last.step, step)
                && (last.number == number
                    || same(last.group.lr, group.lr)
                        && last.group.lr_at == group.lr_at
                        && last.group.rule == group.rule
                        && last.group.maximize == group.maximize
                        && last.group.clip_value == group.clip_value)
        });
        if !known {
            let coeffs = group.rule.coeffs(group.lr, step);
            if !on_device {
                match group.lr_at {
                    None => finite::check(&group.rule, group.lr, step, &coeffs, place)?,
                    Some(_) => finite::check(&group.rule, 1.0, step, &group.rule.coeffs(1.0, step), place)?,
                }
            }
            self.settings.push(Setting { number, group: group.clone(), step, coeffs });
        }
        Ok(self.settings.len() - 1)
    }

    /// What multiplies the gradients of a group.
    pub fn factor_of(&self, group: &Group<R>) -> f64 {
        if group.maximize { -self.factor } else { self.factor }
    }

    /// Enters the step counts.
    pub fn write_counts(&self) {
        self.tasks.iter().filter_map(|task| task.count.as_ref()).for_each(Count::write);
    }

    /// The tasks that have elements in `piece` of all elements of the step.
    #[inline(always)]
    pub fn tasks_in(&self, piece: &Range<usize>) -> impl Iterator<Item = &Task<S>> {
        let begin = self.tasks.partition_point(|task| task.begin + task.walk.len() <= piece.start);
        let count = self.tasks[begin..].partition_point(|task| task.begin < piece.end);
        self.tasks[begin..begin + count].iter().filter(|task| !task.walk.is_empty())
    }
}
