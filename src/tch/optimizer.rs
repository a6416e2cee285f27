//! An optimizer over tensors of tch, and its step.

mod files;
mod groups;
mod mode;
mod options;
mod schedules;

use std::fmt;

use ::tch::Tensor;

use super::error::Error;
use super::parameters::Parameters;
use super::settings::Settings;
use super::steps::{AnySteps, Done, Outcome};

/// An optimizer, made by its options, such as [`Sgd`](super::Sgd) or [`AdamW`](super::AdamW).
///
/// A step is one pass over the memory of all parameters that have a gradient, on torch's own threads; on a CUDA device one
/// launch for all of the same types, on the default stream, of a kernel that NVRTC compiles in the first step. Clipping by
/// the norm waits for the device, since [`grad_norm`](Self::grad_norm) is a number.
///
/// ```
/// use tch::{Device, Kind, Tensor, nn, nn::Module};
/// use torchpace::tch::AdamW;
///
/// tch::manual_seed(0);
/// let store = nn::VarStore::new(Device::Cpu);
/// let model = nn::linear(store.root(), 4, 1, Default::default());
/// let mut optimizer = AdamW::default().build(&store, 0.05)?;
/// let inputs = Tensor::randn([32, 4], (Kind::Float, Device::Cpu));
/// let targets = inputs.sum_dim_intlist(1, true, Kind::Float);
/// let loss = || model.forward(&inputs).mse_loss(&targets, tch::Reduction::Mean);
/// let first = loss().double_value(&[]);
/// for _ in 0..50 {
///     optimizer.backward_step(&loss())?;
/// }
/// assert!(loss().double_value(&[]) < first / 10.0);
/// # Ok::<(), torchpace::tch::Error>(())
/// ```
pub struct Optimizer {
    params: Parameters,
    settings: Settings,
    steps: Box<dyn AnySteps>,
    norm: Option<f64>,
}

impl Optimizer {
    /// Steps on all parameters that have a gradient.
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::{Outcome, Sgd};
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = Sgd::default().build(&store, 0.1)?;
    /// weight.square().sum(Kind::Float).backward();
    /// assert_eq!(optimizer.step()?, Outcome::Stepped);
    /// assert!((weight.double_value(&[0]) - 0.8).abs() < 1e-6);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A tensor is none that can be stepped on (sparse, on another device or of another shape than its parameter, sharing
    /// memory with another); a schedule-free rule is in eval mode; groups differ in an option that is one for all; an option makes a coefficient infinite or
    /// NaN; the norm of the gradients is not finite under [`Nonfinite::Raise`](super::Nonfinite::Raise). Nothing was
    /// written then.
    pub fn step(&mut self) -> Result<Outcome, Error> {
        self.norm = None;
        self.check_mode()?;
        self.add_new_variables()?;
        let Done { outcome, norm, learned } = self.steps.step(&self.settings.tables)?;
        self.norm = norm;
        if !learned.is_empty() {
            self.settings.tables.iter_mut().for_each(|table| table.learn(&learned));
            self.steps.forget_options();
        }
        Ok(outcome)
    }

    /// Takes the gradients away, lets the loss make new ones, and steps.
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::RmsProp;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = RmsProp::default().build(&store, 0.01)?;
    /// for _ in 0..3 {
    ///     optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// }
    /// assert!(weight.double_value(&[0]) < 0.9);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`step`](Self::step); torch refuses the backward pass.
    pub fn backward_step(&mut self, loss: &Tensor) -> Result<Outcome, Error> {
        self.check_mode()?;
        self.zero_grad()?;
        loss.f_backward()?;
        self.step()
    }

    /// Takes the gradients of all parameters away, as torch's `zero_grad(set_to_none=True)`.
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Sgd;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = Sgd::default().build(&store, 0.1)?;
    /// weight.sum(Kind::Float).backward();
    /// optimizer.zero_grad()?;
    /// assert!(!weight.grad().defined());
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// torch refuses.
    pub fn zero_grad(&mut self) -> Result<(), Error> {
        self.add_new_variables()?;
        self.params.zero_grad()
    }

    /// The norm of all gradients in the last step, before clipping; `None` if nothing depends on it.
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Sgd;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[4]);
    /// let mut optimizer = Sgd { max_grad_norm: Some(1.0), ..Sgd::default() }.build(&store, 0.1)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert_eq!(optimizer.grad_norm(), Some(4.0));
    /// assert!((weight.double_value(&[0]) - 0.95).abs() < 1e-6);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    pub fn grad_norm(&self) -> Option<f64> {
        self.norm
    }

    /// Takes up the variables that the store has got since.
    fn add_new_variables(&mut self) -> Result<(), Error> {
        let Self { params, settings, steps, .. } = self;
        params.take_new(|group, name, param| {
            settings.reach(group);
            steps.add(group, name, param);
        })
    }
}

impl fmt::Debug for Optimizer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params: Vec<_> = self.steps.params().iter().map(|(group, name, _)| (*group, (*name).to_owned())).collect();
        out.debug_struct("Optimizer")
            .field("rule", &self.steps.rule())
            .field("groups", &self.settings.tables)
            .field("params", &params)
            .field("schedules", &self.settings.schedules)
            .finish_non_exhaustive()
    }
}
