//! Schedules at work on the options of groups.

use super::error::Error;
use super::options::{Place, Table, table};
use crate::schedule::{Memory, Schedule};

/// All schedules of an optimizer.
#[derive(Debug, Clone, Default)]
pub struct Schedules(pub Vec<Scheduled>);

/// A schedule of one number.
#[derive(Debug, Clone)]
pub struct Scheduled {
    /// The group's number.
    pub group: usize,
    /// The option's name.
    pub name: String,
    place: Place,
    schedule: Schedule,
    base: f64,
    /// From 0.
    pub step: f64,
    /// Those of its plateaus.
    pub memories: Vec<Memory>,
}

impl Scheduled {
    fn write(&self, tables: &mut [Table]) {
        let scales: Vec<f64> = self.memories.iter().map(|memory| memory.scale).collect();
        let value = self.schedule.lr_scaled(self.base, self.step, &scales);
        if let Some(table) = tables.get_mut(self.group) {
            table.write(self.place, value);
        }
    }

    fn observe(&mut self, metric: Option<f64>) -> Result<(), Error> {
        let active = self.schedule.active(self.step);
        if active.is_empty() {
            return Ok(());
        }
        let Some(metric) = metric else {
            return Err(Error::MetricMissing { group: self.group, name: self.name.clone(), step: self.step });
        };
        for (index, (plateau, memory)) in self.schedule.plateaus().into_iter().zip(&mut self.memories).enumerate() {
            if active.contains(&index) {
                plateau.observe(memory, metric);
            }
        }
        Ok(())
    }

    /// Goes to a position out of a checkpoint.
    pub fn resume(&mut self, step: f64, base: f64, memories: Vec<Memory>, tables: &mut [Table]) {
        (self.step, self.base, self.memories) = (step, base, memories);
        self.write(tables);
    }

    /// What the value was before the schedule.
    pub fn base(&self) -> f64 {
        self.base
    }
}

impl Schedules {
    /// Puts a schedule on a number, in the place of the one that was there.
    pub fn set(&mut self, tables: &mut [Table], group: usize, name: &str, schedule: &Schedule) -> Result<(), Error> {
        let place = table(tables, group)?.place(name)?;
        // A schedule before this one, or in the run that a checkpoint is of, has left what it began from.
        let now = tables[group].read(place);
        let base = *tables[group].bases.entry(name.to_owned()).or_insert(now);
        let memories = schedule.plateaus().into_iter().map(Memory::new).collect();
        let schedule = schedule.clone();
        let new = Scheduled { group, name: name.to_owned(), place, schedule, base, step: 0.0, memories };
        new.write(tables);
        self.0.retain(|old| (old.group, &old.name) != (group, &new.name));
        self.0.push(new);
        Ok(())
    }

    /// Has a new group follow the schedules of another.
    pub fn copy(&mut self, from: usize, to: usize) {
        let same = self.0.iter().filter(|one| one.group == from);
        let copies: Vec<_> = same.map(|one| Scheduled { group: to, ..one.clone() }).collect();
        self.0.extend(copies);
    }

    /// To the next step.
    pub fn advance(&mut self, tables: &mut [Table], metric: Option<f64>) -> Result<(), Error> {
        for scheduled in &mut self.0 {
            scheduled.observe(metric)?;
            scheduled.step += 1.0;
            scheduled.write(tables);
        }
        Ok(())
    }

    /// To any step.
    pub fn seek(&mut self, tables: &mut [Table], step: f64) -> Result<(), Error> {
        if !(step.is_finite() && step >= 0.0) {
            return Err(Error::StepRange { found: step });
        }
        for scheduled in &mut self.0 {
            scheduled.step = step;
            scheduled.write(tables);
        }
        Ok(())
    }
}
