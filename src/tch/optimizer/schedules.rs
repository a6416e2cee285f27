//! The schedules of an optimizer.

use super::Optimizer;
use crate::schedule::Schedule;
use crate::tch::error::Error;
use crate::tch::options::Table;
use crate::tch::schedules::Schedules;

impl Optimizer {
    /// Has a schedule set the learning rate of all groups, each from its own as the base, beginning at its step 0.
    ///
    /// ```
    /// use tch::{Device, nn};
    /// use torchpace::schedule::{Linear, Schedule};
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let _weight = store.root().ones("weight", &[4]);
    /// let mut optimizer = torchpace::tch::Sgd::default().build(&store, 0.1)?;
    /// optimizer.set_schedule(&Schedule::new(Linear { steps: 10.0, start: 1.0, end: 0.0 })?)?;
    /// for _ in 0..5 {
    ///     optimizer.step()?;
    ///     optimizer.advance()?;
    /// }
    /// assert_eq!(optimizer.lr(0)?, 0.05);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Its value at step 0 is out of the range of a learning rate.
    pub fn set_schedule(&mut self, schedule: &Schedule) -> Result<(), Error> {
        self.change(|schedules, tables| {
            (0..tables.len()).try_for_each(|group| schedules.set(tables, group, "lr", schedule))
        })
    }

    /// Has a schedule set one number among the options of one group.
    ///
    /// ```
    /// use tch::{Device, nn};
    /// use torchpace::schedule::{Linear, Schedule};
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let _weight = store.root().ones("weight", &[4]);
    /// let mut optimizer = torchpace::tch::Adam::default().build(&store, 0.1)?;
    /// optimizer.set_group_schedule(0, "betas[0]", &Schedule::new(Linear { steps: 2.0, start: 1.0, end: 0.5 })?)?;
    /// optimizer.advance()?;
    /// assert!((optimizer.option(0, "betas[0]")? - 0.675).abs() < 1e-12);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is no such group or no such number in it; its value at step 0 is out of the option's range.
    pub fn set_group_schedule(&mut self, group: usize, name: &str, schedule: &Schedule) -> Result<(), Error> {
        self.change(|schedules, tables| schedules.set(tables, group, name, schedule))
    }

    /// Takes all schedules to their next step; the counterpart of `scheduler.step()` in Python, to be called after
    /// [`step`](Self::step).
    ///
    /// ```
    /// use tch::{Device, nn};
    /// use torchpace::schedule::{Cosine, Schedule};
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let _weight = store.root().ones("weight", &[4]);
    /// let mut optimizer = torchpace::tch::Sgd::default().build(&store, 0.1)?;
    /// optimizer.set_schedule(&Schedule::new(Cosine { steps: 2.0, floor: 0.0 })?)?;
    /// optimizer.advance()?;
    /// assert!((optimizer.lr(0)? - 0.05).abs() < 1e-12);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A schedule follows a metric at this step, or gives a value out of its option's range. All schedules then stay
    /// where they were.
    pub fn advance(&mut self) -> Result<(), Error> {
        self.change(|schedules, tables| schedules.advance(tables, None))
    }

    /// Shows a metric to the plateaus that a schedule depends on at this step, and takes all schedules to the next.
    ///
    /// ```
    /// use tch::{Device, nn};
    /// use torchpace::schedule::{Plateau, Schedule};
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let _weight = store.root().ones("weight", &[4]);
    /// let mut optimizer = torchpace::tch::Sgd::default().build(&store, 0.1)?;
    /// let plateau = Plateau { factor: 0.5, patience: 1.0, ..Plateau::default() };
    /// optimizer.set_schedule(&Schedule::new(plateau)?)?;
    /// for loss in [1.0, 1.0, 1.0] {
    ///     optimizer.advance_with(loss)?;
    /// }
    /// assert_eq!(optimizer.lr(0)?, 0.05);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A schedule gives a value out of its option's range. All schedules then stay where they were.
    pub fn advance_with(&mut self, metric: f64) -> Result<(), Error> {
        self.change(|schedules, tables| schedules.advance(tables, Some(metric)))
    }

    /// Takes all schedules to a step at once. Plateaus keep their memory.
    ///
    /// ```
    /// use tch::{Device, nn};
    /// use torchpace::schedule::{Linear, Schedule};
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let _weight = store.root().ones("weight", &[4]);
    /// let mut optimizer = torchpace::tch::Sgd::default().build(&store, 0.5)?;
    /// optimizer.set_schedule(&Schedule::new(Linear { steps: 100.0, start: 1.0, end: 0.0 })?)?;
    /// optimizer.seek(50.0)?;
    /// assert_eq!(optimizer.lr(0)?, 0.25);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The step is not a finite number >= 0, or a schedule gives a value out of its option's range there.
    pub fn seek(&mut self, step: f64) -> Result<(), Error> {
        self.change(|schedules, tables| schedules.seek(tables, step))
    }

    /// Changes schedules and options, or, on an error, neither.
    fn change(&mut self, how: impl FnOnce(&mut Schedules, &mut Vec<Table>) -> Result<(), Error>) -> Result<(), Error> {
        self.settings.change(how)?;
        self.steps.forget_options();
        Ok(())
    }
}
