//! An optimizer saved to a file, and gone on from one.

use std::path::Path;

use super::Optimizer;
use crate::tch::checkpoint;
use crate::tch::error::Error;

impl Optimizer {
    /// Writes the state of all parameters, the options of all groups and the schedules' positions to a safetensors file,
    /// which [`load`](Self::load) and `torchpace.optim.checkpoint` in Python read.
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Adam;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[4]);
    /// let mut optimizer = Adam::default().build(&store, 1e-3)?;
    /// optimizer.backward_step(&weight.sum(Kind::Float))?;
    /// let path = std::env::temp_dir().join(format!("torchpace-save-{}.safetensors", std::process::id()));
    /// optimizer.save(&path)?;
    /// let mut again = Adam::default().build(&store, 0.5)?;
    /// again.load(&path)?;
    /// assert_eq!(again.lr(0)?, 1e-3);
    /// # std::fs::remove_file(path).ok();
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The file cannot be written. What was at its place is then still there.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        checkpoint::save(path.as_ref(), self.steps.as_ref(), &self.settings)
    }

    /// Goes on from a file that [`save`](Self::save) or `torchpace.optim.checkpoint` in Python wrote: state, options, and the
    /// positions of the schedules that are set here on the same options.
    ///
    /// Parameters are found by name; where the file has none, or has one twice, by their order in the group.
    ///
    /// ```
    /// use tch::{Device, nn};
    /// use torchpace::tch::{Adam, Error};
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let _weight = store.root().ones("weight", &[4]);
    /// let mut optimizer = Adam::default().build(&store, 1e-3)?;
    /// assert!(matches!(optimizer.load("not there"), Err(Error::Io { .. })));
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is of another rule, other parameters or shapes. Nothing has changed then.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.add_new_variables()?;
        let loaded = checkpoint::load(path.as_ref(), self.steps.as_ref(), &self.settings)?;
        self.steps.enter(loaded.state);
        self.settings = loaded.settings;
        self.steps.forget_options();
        Ok(())
    }
}
