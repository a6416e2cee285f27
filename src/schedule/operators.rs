//! The operators of a schedule.

use super::Schedule;
use super::change::{Above, Clamp, Rebase, Repeat, Reverse, Scale, Shift};
use super::compose::{Product, Sequence, Sum};
use super::curve::Curve;
use super::tree::Node;
use crate::check::Check;
use crate::error::Error;

impl Schedule {
    /// This schedule, and from step `at` on another, of which that is step 0; by default where this one ends.
    ///
    /// ```
    /// # use torchpace::schedule::{Linear, Schedule};
    /// # let schedule = Schedule::new(Linear { steps: 10.0, start: 1.0, end: 0.0 })?;
    /// assert_eq!(schedule.then(&schedule, None)?.lr(1.0, 15.0), 0.5);
    /// # Ok::<(), torchpace::error::Error>(())
    /// ```
    pub fn then(&self, next: &Self, at: Option<f64>) -> Result<Self, Error> {
        let at = at.map_or_else(|| self.end(Sequence::NAME, "at"), Ok)?;
        Check(Sequence::NAME).positive("at", at)?;
        let (mut parts, mut starts) = match self.node() {
            // A chain stays flat, and says the same: within `at` nothing changes.
            Node::Sequence(Sequence { parts, at: starts }) if starts.last().is_some_and(|last| *last < at) => {
                (parts.clone(), starts.clone())
            }
            _ => (vec![self.clone()], Vec::new()),
        };
        parts.push(next.clone());
        starts.push(at);
        Self::new(Sequence { parts, at: starts })
    }

    /// This schedule times another at base 1.
    ///
    /// ```
    /// # use torchpace::schedule::{Linear, Schedule};
    /// # let schedule = Schedule::new(Linear { steps: 10.0, start: 1.0, end: 0.0 })?;
    /// assert_eq!(schedule.times(&schedule)?.lr(1.0, 5.0), 0.25);
    /// # Ok::<(), torchpace::error::Error>(())
    /// ```
    pub fn times(&self, factor: &Self) -> Result<Self, Error> {
        let mut parts = match self.node() {
            Node::Product(Product { parts }) => parts.clone(),
            _ => vec![self.clone()],
        };
        parts.push(factor.clone());
        Self::new(Product { parts })
    }

    /// This schedule plus another.
    ///
    /// ```
    /// # use torchpace::schedule::{Linear, Schedule};
    /// # let schedule = Schedule::new(Linear { steps: 10.0, start: 1.0, end: 0.0 })?;
    /// assert_eq!(schedule.plus(&schedule)?.lr(1.0, 5.0), 1.0);
    /// # Ok::<(), torchpace::error::Error>(())
    /// ```
    pub fn plus(&self, term: &Self) -> Result<Self, Error> {
        let mut parts = match self.node() {
            Node::Sum(Sum { parts }) => parts.clone(),
            _ => vec![self.clone()],
        };
        parts.push(term.clone());
        Self::new(Sum { parts })
    }

    /// This schedule within bounds, which are rates.
    ///
    /// ```
    /// # use torchpace::schedule::{Linear, Schedule};
    /// # let schedule = Schedule::new(Linear { steps: 10.0, start: 1.0, end: 0.0 })?;
    /// assert_eq!(schedule.clamp(Some(0.25), None)?.lr(1.0, 10.0), 0.25);
    /// # Ok::<(), torchpace::error::Error>(())
    /// ```
    pub fn clamp(&self, low: Option<f64>, high: Option<f64>) -> Result<Self, Error> {
        Self::new(Clamp { schedule: self.clone(), low, high })
    }

    /// This schedule again and again; by default when it ends, and for ever.
    ///
    /// ```
    /// # use torchpace::schedule::{Linear, Schedule};
    /// # let schedule = Schedule::new(Linear { steps: 10.0, start: 1.0, end: 0.0 })?;
    /// assert_eq!(schedule.repeat(None, None)?.lr(1.0, 15.0), 0.5);
    /// # Ok::<(), torchpace::error::Error>(())
    /// ```
    pub fn repeat(&self, every: Option<f64>, times: Option<f64>) -> Result<Self, Error> {
        let every = every.map_or_else(|| self.end("repeat", "every"), Ok)?;
        Self::new(Repeat { schedule: self.clone(), every, times })
    }

    /// This schedule times a number.
    ///
    /// ```
    /// # use torchpace::schedule::{Linear, Schedule};
    /// # let schedule = Schedule::new(Linear { steps: 10.0, start: 1.0, end: 0.0 })?;
    /// assert_eq!(schedule.scale(3.0)?.lr(1.0, 5.0), 1.5);
    /// # Ok::<(), torchpace::error::Error>(())
    /// ```
    pub fn scale(&self, factor: f64) -> Result<Self, Error> {
        Self::new(Scale { schedule: self.clone(), factor })
    }

    /// This schedule later by some steps.
    ///
    /// ```
    /// # use torchpace::schedule::{Linear, Schedule};
    /// # let schedule = Schedule::new(Linear { steps: 10.0, start: 1.0, end: 0.0 })?;
    /// assert_eq!(schedule.shift(5.0)?.lr(1.0, 10.0), 0.5);
    /// # Ok::<(), torchpace::error::Error>(())
    /// ```
    pub fn shift(&self, steps: f64) -> Result<Self, Error> {
        Self::new(Shift { schedule: self.clone(), steps })
    }

    /// This schedule backwards; by default from its end.
    ///
    /// ```
    /// # use torchpace::schedule::{Linear, Schedule};
    /// # let schedule = Schedule::new(Linear { steps: 10.0, start: 1.0, end: 0.0 })?;
    /// assert_eq!(schedule.reverse(None)?.lr(1.0, 10.0), 1.0);
    /// # Ok::<(), torchpace::error::Error>(())
    /// ```
    pub fn reverse(&self, steps: Option<f64>) -> Result<Self, Error> {
        let steps = steps.map_or_else(|| self.end("reverse", "steps"), Ok)?;
        Self::new(Reverse { schedule: self.clone(), steps })
    }

    /// This schedule with a rate in the place of 0.
    ///
    /// ```
    /// # use torchpace::schedule::{Linear, Schedule};
    /// # let schedule = Schedule::new(Linear { steps: 10.0, start: 1.0, end: 0.0 })?;
    /// assert_eq!(schedule.above(0.5)?.lr(1.0, 5.0), 0.75);
    /// # Ok::<(), torchpace::error::Error>(())
    /// ```
    pub fn above(&self, low: f64) -> Result<Self, Error> {
        Self::new(Above { schedule: self.clone(), low })
    }

    /// This schedule with a base of its own.
    ///
    /// ```
    /// # use torchpace::schedule::{Linear, Schedule};
    /// # let schedule = Schedule::new(Linear { steps: 10.0, start: 1.0, end: 0.0 })?;
    /// assert_eq!(schedule.rebase(4.0)?.lr(1.0, 5.0), 2.0);
    /// # Ok::<(), torchpace::error::Error>(())
    /// ```
    pub fn rebase(&self, base: f64) -> Result<Self, Error> {
        Self::new(Rebase { schedule: self.clone(), base })
    }

    fn end(&self, schedule: &'static str, name: &'static str) -> Result<f64, Error> {
        self.length().filter(|length| *length > 0.0).ok_or_else(|| Error::Argument {
            schedule,
            name,
            found: "None".to_owned(),
            expected: "a finite number > 0, for the schedule before it has no length of its own",
        })
    }
}
