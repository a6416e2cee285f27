//! The two modes of schedule-free rules.

use ::tch::{Kind, Tensor, no_grad};

use super::Optimizer;
use crate::tch::error::Error;
use crate::tch::state::parts;

impl Optimizer {
    /// Puts the averages, which are the result of the training so far, into the parameters of a schedule-free rule; does
    /// nothing under another rule, or in eval mode.
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::ScheduleFreeSgd;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = ScheduleFreeSgd { momentum: 0.5, ..Default::default() }.build(&store, 0.25)?;
    /// for _ in 0..2 {
    ///     optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// }
    /// optimizer.eval()?;
    /// assert_eq!(weight.double_value(&[0]), 0.375); // the mean of 0.5 and 0.25
    /// optimizer.train()?;
    /// assert_eq!(weight.double_value(&[0]), 0.3125);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// torch refuses.
    pub fn eval(&mut self) -> Result<(), Error> {
        self.switch(false)
    }

    /// Puts the points back into the parameters of a schedule-free rule at which gradients are taken, for steps to follow;
    /// does nothing under another rule, or in train mode. See [`eval`](Self::eval).
    ///
    /// # Errors
    ///
    /// torch refuses.
    pub fn train(&mut self) -> Result<(), Error> {
        self.switch(true)
    }

    /// Whether all groups are in train mode, as they are under a rule without modes.
    pub fn is_training(&self) -> bool {
        self.settings.tables.iter().all(|table| table.train_mode() != Some(false))
    }

    /// That a step would not begin at the averages.
    pub(super) fn check_mode(&self) -> Result<(), Error> {
        match self.settings.tables.iter().find(|table| table.train_mode() == Some(false)) {
            Some(table) => Err(Error::EvalMode { group: table.group }),
            None => Ok(()),
        }
    }

    fn switch(&mut self, to_train: bool) -> Result<(), Error> {
        let Self { settings, steps, .. } = self;
        // All that is new before any is written.
        let mut moved: Vec<(Tensor, Tensor)> = Vec::new();
        for (k, (group, _, param)) in steps.params().into_iter().enumerate() {
            let Some(table) = settings.tables.get(group).filter(|table| table.train_mode() == Some(!to_train)) else {
                continue;
            };
            let beta = table.averaging()?;
            let weight = if to_train { 1.0 - beta } else { 1.0 - 1.0 / beta };
            let state = steps.state(k);
            let Some((_, z)) = state.iter().find(|(entry, _)| *entry == "z") else { continue };
            let (param, z) = (parts(&param.f_detach()?)?, parts(z)?);
            let wide = if [param.f_kind()?, z.f_kind()?].contains(&Kind::Double) { Kind::Double } else { Kind::Float };
            let new = param.f_to_kind(wide)?.f_lerp(&z.f_to_kind(wide)?, weight)?;
            moved.push((param, new));
        }
        no_grad(|| moved.iter_mut().try_for_each(|(param, new)| param.f_copy_(new)))?;
        for table in settings.tables.iter_mut().filter(|table| table.train_mode().is_some()) {
            table.set_train_mode(to_train);
        }
        steps.forget_options();
        Ok(())
    }
}
