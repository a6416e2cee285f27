//! An optimizer over tensors of tch.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ::tch::nn::{OptimizerConfig, VarStore, Variables};
use ::tch::{COptimizer, Tensor};

use super::checkpoint;
use super::config::{Config, Group};
use super::error::Error;
use super::memory::{identity, tensor_is_there};
use super::options::Table;
use super::schedules::Schedules;
use super::steps::{AnySteps, Make};
use crate::rules;
use crate::schedule::Schedule;

/// A store's groups are numbers, and each below one in use is made: beyond this one was meant as something else.
const GROUPS: usize = 65_536;

/// What a step has come to.
///
/// ```
/// use tch::{Device, Kind, nn};
/// use torchpace::tch::{Adam, Nonfinite, Outcome};
///
/// let store = nn::VarStore::new(Device::Cpu);
/// let weight = store.root().ones("weight", &[2]);
/// let options = Adam { max_grad_norm: Some(1.0), nonfinite_norm: Nonfinite::Skip, ..Adam::default() };
/// let mut optimizer = options.build(&store, 0.1)?;
/// assert_eq!(optimizer.backward_step(&(&weight * f64::NAN).sum(Kind::Float))?, Outcome::Skipped);
/// assert_eq!(weight.double_value(&[0]), 1.0);
/// # Ok::<(), torchpace::tch::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// All parameters with a gradient were stepped on.
    Stepped,
    /// Nothing was done: the norm of the gradients is above `skip_grad_norm`, or it is not finite and
    /// [`Nonfinite::Skip`](super::Nonfinite::Skip) was asked for.
    Skipped,
}

/// An optimizer, made by one of [`Sgd`](super::Sgd), [`RmsProp`](super::RmsProp), [`Adagrad`](super::Adagrad),
/// [`Adam`](super::Adam) and [`AdamW`](super::AdamW).
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
    steps: Box<dyn AnySteps>,
    tables: Vec<Table>,
    schedules: Schedules,
    /// Where the tensors came from, and how many of them are known.
    store: Option<(Arc<Mutex<Variables>>, usize)>,
    /// torch's own optimizer of the same tensors, the one way in tch to take gradients away.
    grads: COptimizer,
    known: Known,
    norm: Option<f64>,
}

/// The parameters that are there.
#[derive(Default)]
struct Known {
    names: HashSet<String>,
    /// Their names by their [`identity`].
    tensors: HashMap<usize, String>,
}

impl Known {
    /// That there is none of this name, nor this tensor.
    fn check(&self, name: &str, param: &Tensor) -> Result<(), Error> {
        let twice = |what, other: &str| Error::Duplicate { name: name.to_owned(), what, other: other.to_owned() };
        if let Some(other) = self.tensors.get(&identity(param)) {
            return Err(twice("tensor", other));
        }
        if self.names.contains(name) { Err(twice("name", name)) } else { Ok(()) }
    }

    fn add(&mut self, name: &str, param: &Tensor) {
        self.names.insert(name.to_owned());
        self.tensors.insert(identity(param), name.to_owned());
    }
}

/// That a tensor can be a parameter.
fn check_param(name: &str, param: &Tensor) -> Result<(), Error> {
    let refuse = |found: &str, expected| {
        Err(Error::Tensor { name: name.to_owned(), tensor: "param", found: found.to_owned(), expected })
    };
    if !tensor_is_there(param) {
        return refuse("undefined", "a tensor");
    }
    if !param.f_is_floating_point()? && !param.f_is_complex()? {
        return refuse(&format!("of kind {:?}", param.f_kind()?), "a floating-point or complex tensor");
    }
    if !param.f_is_leaf()? {
        return refuse("the result of an operation", "a leaf of the graph");
    }
    if param.f_is_inference()? {
        return refuse("an inference tensor", "one that autograd follows");
    }
    Ok(())
}

impl Optimizer {
    fn new(rule: &str, tables: Vec<Table>) -> Result<Self, Error> {
        let grads = ::tch::nn::Sgd::default().build_copt(0.0)?;
        let steps = rules::visit(rule, Make)?;
        let (schedules, known) = (Schedules::default(), Known::default());
        Ok(Self { steps, tables, schedules, store: None, grads, known, norm: None })
    }

    pub(super) fn of_groups<O: Config>(groups: Vec<Group<O>>) -> Result<Self, Error> {
        if groups.is_empty() {
            return Err(Error::Empty { what: "groups" });
        }
        let tables = groups.iter().enumerate().map(|(k, group)| Table::new(k, group.lr, group.options.entries()));
        let mut optimizer = Self::new(O::RULE, tables.collect::<Result<_, _>>()?)?;
        for (index, group) in groups.into_iter().enumerate() {
            optimizer.add_all(index, group.params)?;
        }
        if optimizer.known.names.is_empty() {
            return Err(Error::Empty { what: "parameters" });
        }
        Ok(optimizer)
    }

    pub(super) fn of_store<O: Config>(options: &O, store: &VarStore, lr: f64) -> Result<Self, Error> {
        let mut optimizer = Self::new(O::RULE, vec![Table::new(0, lr, options.entries())?])?;
        optimizer.store = Some((Arc::clone(&store.variables_), 0));
        optimizer.add_new_variables()?;
        Ok(optimizer)
    }

    /// Takes up the variables that the store has got since.
    fn add_new_variables(&mut self) -> Result<(), Error> {
        let Some((store, from)) = &self.store else { return Ok(()) };
        let (store, from) = (Arc::clone(store), *from);
        let variables = store.lock().unwrap_or_else(PoisonError::into_inner);
        if from >= variables.trainable_variables.len() {
            return Ok(());
        }
        let names: HashMap<usize, &String> =
            variables.named_variables.iter().map(|(name, tensor)| (identity(tensor), name)).collect();
        for (index, variable) in variables.trainable_variables.iter().enumerate().skip(from) {
            let name = names.get(&identity(&variable.tensor)).map_or_else(|| index.to_string(), ToString::to_string);
            check_param(&name, &variable.tensor)?;
            self.known.check(&name, &variable.tensor)?;
            if variable.group >= GROUPS {
                return Err(Error::GroupNumber { name, found: variable.group, limit: GROUPS });
            }
            while self.tables.len() <= variable.group {
                // As in tch, one like the first; its schedules too.
                let group = self.tables.len();
                self.tables.push(Table { group, ..self.tables[0].clone() });
                self.schedules.copy(0, group);
            }
            self.add(variable.group, name, variable.tensor.shallow_clone())?;
            self.store = Some((Arc::clone(&store), index + 1));
        }
        Ok(())
    }

    /// Takes up parameters of a group: all or none.
    fn add_all(&mut self, group: usize, params: Vec<(String, Tensor)>) -> Result<(), Error> {
        let mut new = Known::default();
        for (name, param) in &params {
            check_param(name, param)?;
            if !param.requires_grad() {
                let (name, found) = (name.clone(), "one that requires no gradient".to_owned());
                return Err(Error::Tensor { name, tensor: "param", found, expected: "one that does" });
            }
            self.known.check(name, param)?;
            new.check(name, param)?;
            new.add(name, param);
        }
        params.into_iter().try_for_each(|(name, param)| self.add(group, name, param))
    }

    /// Takes up a parameter that was checked.
    fn add(&mut self, group: usize, name: String, param: Tensor) -> Result<(), Error> {
        self.grads.add_parameters(&param, 0)?;
        self.known.add(&name, &param);
        self.steps.add(group, name, param);
        Ok(())
    }

    /// Adds a group of parameters, with options of the same kind as the other groups'. Its parameters count their own
    /// steps, and its schedules, if it is to have any, begin when they are set. Variables that come to a store later go by
    /// the number of their group, be it this one's.
    ///
    /// ```
    /// use tch::{Device, Kind, Tensor};
    /// use torchpace::tch::{Group, Sgd};
    ///
    /// let tensor = || Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    /// let group = |name, lr| Group::new([(name, tensor())], lr, Sgd::default());
    /// let mut optimizer = Sgd::build_groups(vec![group("weight", 0.1)])?;
    /// optimizer.add_group(group("head", 0.01))?;
    /// assert_eq!((optimizer.group_count(), optimizer.lr(1)?), (2, 0.01));
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The options are those of another optimizer, or out of their ranges; a parameter is none, is there already, or has
    /// the name of one that is. Nothing has changed then.
    pub fn add_group<O: Config>(&mut self, group: Group<O>) -> Result<(), Error> {
        self.add_new_variables()?;
        let index = self.tables.len();
        if O::RULE != self.steps.rule() {
            let (name, found) = ("rule".to_owned(), O::RULE.to_owned());
            return Err(Error::Option { group: index, name, found, expected: "that of the other groups" });
        }
        let table = Table::new(index, group.lr, group.options.entries())?;
        self.add_all(index, group.params)?;
        self.tables.push(table);
        self.steps.forget_options();
        Ok(())
    }

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
    /// memory with another); groups differ in an option that is one for all; an option makes a coefficient infinite or
    /// NaN; the norm of the gradients is not finite under [`Nonfinite::Raise`](super::Nonfinite::Raise). Nothing was
    /// written then.
    pub fn step(&mut self) -> Result<Outcome, Error> {
        self.norm = None;
        self.add_new_variables()?;
        let (outcome, norm) = self.steps.step(&self.tables)?;
        self.norm = norm;
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
        Ok(self.grads.zero_grad()?)
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

    /// The number of groups.
    ///
    /// ```
    /// use tch::{Device, nn};
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let _weight = store.root().ones("weight", &[4]);
    /// assert_eq!(torchpace::tch::Adam::default().build(&store, 1e-3)?.group_count(), 1);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    pub fn group_count(&self) -> usize {
        self.tables.len()
    }

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
        (0..self.tables.len()).try_for_each(|group| self.set_option(group, "lr", lr))
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
        let table = table(&self.tables, group)?;
        Ok(table.read(table.place(name)?))
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
        let mut table = table(&self.tables, group)?.clone();
        table.write(table.place(name)?, value);
        table.check()?;
        self.tables[group] = table;
        self.steps.forget_options();
        Ok(())
    }

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
        let (mut schedules, mut tables) = (self.schedules.clone(), self.tables.clone());
        how(&mut schedules, &mut tables)?;
        tables.iter().try_for_each(Table::check)?;
        (self.schedules, self.tables) = (schedules, tables);
        self.steps.forget_options();
        Ok(())
    }

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
        checkpoint::save(path.as_ref(), self.steps.as_ref(), &self.tables, &self.schedules)
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
        let loaded = checkpoint::load(path.as_ref(), self.steps.as_ref(), &self.tables, &self.schedules)?;
        self.steps.enter(loaded.state);
        (self.tables, self.schedules) = (loaded.tables, loaded.schedules);
        self.steps.forget_options();
        Ok(())
    }
}

/// A group's options.
pub(super) fn table(tables: &[Table], group: usize) -> Result<&Table, Error> {
    tables.get(group).ok_or(Error::UnknownGroup { found: group, count: tables.len() })
}

impl fmt::Debug for Optimizer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params: Vec<_> = self.steps.params().iter().map(|(group, name, _)| (*group, (*name).to_owned())).collect();
        out.debug_struct("Optimizer")
            .field("rule", &self.steps.rule())
            .field("groups", &self.tables)
            .field("params", &params)
            .field("schedules", &self.schedules)
            .finish_non_exhaustive()
    }
}
