//! The options of all groups and the schedules that set them, changed together or not at all.

use super::error::Error;
use super::options::{Table, table};
use super::schedules::Schedules;

/// Of all groups.
pub struct Settings {
    /// A group's options, by its number; of one at least.
    pub tables: Vec<Table>,
    pub schedules: Schedules,
}

impl Settings {
    /// Options without schedules.
    pub fn new(tables: Vec<Table>) -> Self {
        Self { tables, schedules: Schedules::default() }
    }

    /// A number among the options of a group.
    pub fn option(&self, group: usize, name: &str) -> Result<f64, Error> {
        let table = table(&self.tables, group)?;
        Ok(table.read(table.place(name)?))
    }

    /// Sets one.
    pub fn set_option(&mut self, group: usize, name: &str, value: f64) -> Result<(), Error> {
        let mut table = table(&self.tables, group)?.clone();
        table.write(table.place(name)?, value);
        table.check()?;
        self.tables[group] = table;
        Ok(())
    }

    /// Changes schedules and options, or, on an error, neither.
    pub fn change(
        &mut self,
        how: impl FnOnce(&mut Schedules, &mut Vec<Table>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (mut schedules, mut tables) = (self.schedules.clone(), self.tables.clone());
        how(&mut schedules, &mut tables)?;
        tables.iter().try_for_each(Table::check)?;
        (self.schedules, self.tables) = (schedules, tables);
        Ok(())
    }

    /// Makes the groups up to this number that are not there: as in tch, like the first; its schedules too.
    pub fn reach(&mut self, group: usize) {
        while self.tables.len() <= group {
            let group = self.tables.len();
            self.tables.push(Table { group, ..self.tables[0].clone() });
            self.schedules.copy(0, group);
        }
    }
}
