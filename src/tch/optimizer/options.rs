//! The options of an optimizer, read and set by name.

use super::Optimizer;
use crate::tch::error::Error;

impl Optimizer {
    /// The learning rate of a group.
    ///
    /// ```
    /// use tch::{Device, nn};
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let _weight = store.root().ones("weight", &[4]);
    /// assert_eq!(torchpace::tch::Adam::default().build(&store, 1e-3)?.lr(0)?, 1e-3);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is no such group.
    pub fn lr(&self, group: usize) -> Result<f64, Error> {
        self.option(group, "lr")
    }

    /// Sets the learning rate of all groups. A schedule of it sets it anew when it goes on.
    ///
    /// ```
    /// use tch::{Device, nn};
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let _weight = store.root().ones("weight", &[4]);
    /// let mut optimizer = torchpace::tch::Adam::default().build(&store, 1e-3)?;
    /// optimizer.set_lr(0.01)?;
    /// assert_eq!(optimizer.lr(0)?, 0.01);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// It is not a number >= 0.
    pub fn set_lr(&mut self, lr: f64) -> Result<(), Error> {
        (0..self.settings.tables.len()).try_for_each(|group| self.set_option(group, "lr", lr))
    }

    /// Sets the learning rate of one group.
    ///
    /// ```
    /// use tch::{Device, nn};
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let _weight = store.root().ones("weight", &[4]);
    /// let mut optimizer = torchpace::tch::Adam::default().build(&store, 1e-3)?;
    /// optimizer.set_group_lr(0, 0.01)?;
    /// assert_eq!(optimizer.lr(0)?, 0.01);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is no such group, or it is not a number >= 0.
    pub fn set_group_lr(&mut self, group: usize, lr: f64) -> Result<(), Error> {
        self.set_option(group, "lr", lr)
    }

    /// A number among the options of a group: `lr`, `momentum`, `betas[0]` and so on.
    ///
    /// ```
    /// use tch::{Device, nn};
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let _weight = store.root().ones("weight", &[4]);
    /// let optimizer = torchpace::tch::Adam::default().build(&store, 1e-3)?;
    /// assert_eq!(optimizer.option(0, "betas[1]")?, 0.999);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is no such group, or no such number in it.
    pub fn option(&self, group: usize, name: &str) -> Result<f64, Error> {
        self.settings.option(group, name)
    }

    /// Sets a number among the options of a group.
    ///
    /// ```
    /// use tch::{Device, nn};
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let _weight = store.root().ones("weight", &[4]);
    /// let mut optimizer = torchpace::tch::Sgd::default().build(&store, 1e-3)?;
    /// optimizer.set_option(0, "momentum", 0.9)?;
    /// assert_eq!(optimizer.option(0, "momentum")?, 0.9);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is no such group, no such number in it, or it is out of its range.
    pub fn set_option(&mut self, group: usize, name: &str, value: f64) -> Result<(), Error> {
        self.settings.set_option(group, name, value)?;
        self.steps.forget_options();
        Ok(())
    }
}
