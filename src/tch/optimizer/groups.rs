//! The groups of an optimizer.

use ::tch::nn::VarStore;

use super::Optimizer;
use crate::rules;
use crate::tch::error::Error;
use crate::tch::group::{Config, Group};
use crate::tch::options::Table;
use crate::tch::parameters::Parameters;
use crate::tch::settings::Settings;
use crate::tch::steps::Make;

impl Optimizer {
    fn new(rule: &str, tables: Vec<Table>, params: Parameters) -> Result<Self, Error> {
        Ok(Self { params, settings: Settings::new(tables), steps: rules::visit(rule, Make)?, norm: None })
    }

    /// Of named parameters.
    pub(in crate::tch) fn of_groups<O: Config>(groups: Vec<Group<O>>) -> Result<Self, Error> {
        if groups.is_empty() {
            return Err(Error::Empty { what: "groups" });
        }
        let tables = groups.iter().enumerate().map(|(k, group)| Table::new(k, group.lr, group.options.entries()));
        let mut optimizer = Self::new(O::RULE, tables.collect::<Result<_, _>>()?, Parameters::new(None)?)?;
        for (index, group) in groups.into_iter().enumerate() {
            optimizer.params.take(group.params, |name, param| optimizer.steps.add(index, name, param))?;
        }
        if optimizer.params.is_empty() {
            return Err(Error::Empty { what: "parameters" });
        }
        Ok(optimizer)
    }

    /// Of the variables of a store.
    pub(in crate::tch) fn of_store<O: Config>(options: &O, store: &VarStore, lr: f64) -> Result<Self, Error> {
        let table = Table::new(0, lr, options.entries())?;
        let mut optimizer = Self::new(O::RULE, vec![table], Parameters::new(Some(store))?)?;
        optimizer.add_new_variables()?;
        Ok(optimizer)
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
        let index = self.settings.tables.len();
        if O::RULE != self.steps.rule() {
            let (name, found) = ("rule".to_owned(), O::RULE.to_owned());
            return Err(Error::Option { group: index, name, found, expected: "that of the other groups" });
        }
        let mut table = Table::new(index, group.lr, group.options.entries())?;
        if let Some(mode) = self.settings.tables.last().and_then(Table::train_mode) {
            table.set_train_mode(mode);
        }
        self.params.take(group.params, |name, param| self.steps.add(index, name, param))?;
        self.settings.tables.push(table);
        self.steps.forget_options();
        Ok(())
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
        self.settings.tables.len()
    }
}
