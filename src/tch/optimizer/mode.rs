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
        for (k, (group, _, param)) in steps.params().into_iter().enumerate() {
            let Some(table) = settings.tables.get(group).filter(|table| table.train_mode() == Some(!to_train)) else {
                continue;
            };
            let share = table.averaging()?;
            let state = steps.state(k);
            if let Some((_, z)) = state.iter().find(|(entry, _)| *entry == "z") {
                move_towards(param, z, if to_train { 1.0 - share } else { 1.0 - 1.0 / share })?;
            }
        }
        settings.tables.iter_mut().for_each(|table| table.set_train_mode(to_train));
        steps.forget_options();
        Ok(())
    }
}

/// Moves a parameter by this share of the way, in place and without memory of its size, which might be lacking midway;
/// complex elements by their parts.
fn move_towards(param: &Tensor, end: &Tensor, share: f64) -> Result<(), Error> {
    no_grad(|| {
        let (mut param, end) = (parts(param)?, parts(end)?);
        if param.f_kind()? == end.f_kind()? {
            let _ = param.f_lerp_(&end, share)?;
        } else {
            // In double, which holds both.
            let moved = param.f_to_kind(Kind::Double)?.f_lerp(&end.f_to_kind(Kind::Double)?, share)?;
            param.f_copy_(&moved)?;
        }
        Ok(())
    })
}
