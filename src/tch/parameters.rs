//! Which parameters an optimizer has: named tensors, or the variables of a store, those that come later too.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use ::tch::nn::{OptimizerConfig, VarStore, Variables};
use ::tch::{COptimizer, Tensor};

use super::error::Error;
use super::memory::{identity, tensor_is_there};

/// A store's groups are numbers, and each below one in use is made: beyond this one was meant as something else.
const GROUPS: usize = 65_536;

/// The parameters of an optimizer.
pub struct Parameters {
    /// Where they come from, and how many of its variables are known.
    store: Option<(Arc<Mutex<Variables>>, usize)>,
    /// torch's own optimizer of the same tensors, the one way in tch to take gradients away.
    grads: COptimizer,
    known: Known,
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

impl Parameters {
    /// None yet; those of a store come with [`take_new`](Self::take_new).
    pub fn new(store: Option<&VarStore>) -> Result<Self, Error> {
        let grads = ::tch::nn::Sgd::default().build_copt(0.0)?;
        let store = store.map(|store| (Arc::clone(&store.variables_), 0));
        Ok(Self { store, grads, known: Known::default() })
    }

    pub fn is_empty(&self) -> bool {
        self.known.names.is_empty()
    }

    /// Takes up the variables that the store has got since; `add` is told the group, name and tensor of each.
    pub fn take_new(&mut self, mut add: impl FnMut(usize, String, Tensor)) -> Result<(), Error> {
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
            check(&name, &variable.tensor)?;
            self.known.check(&name, &variable.tensor)?;
            if variable.group >= GROUPS {
                return Err(Error::GroupNumber { name, found: variable.group, limit: GROUPS });
            }
            self.know(&name, &variable.tensor)?;
            add(variable.group, name, variable.tensor.shallow_clone());
            self.store = Some((Arc::clone(&store), index + 1));
        }
        Ok(())
    }

    /// Takes up named tensors, all or none; `add` is told each.
    pub fn take(&mut self, params: Vec<(String, Tensor)>, mut add: impl FnMut(String, Tensor)) -> Result<(), Error> {
        let mut new = Known::default();
        for (name, param) in &params {
            check(name, param)?;
            if !param.requires_grad() {
                let (name, found) = (name.clone(), "one that requires no gradient".to_owned());
                return Err(Error::Tensor { name, tensor: "param", found, expected: "one that does" });
            }
            self.known.check(name, param)?;
            new.check(name, param)?;
            new.add(name, param);
        }
        for (name, param) in params {
            self.know(&name, &param)?;
            add(name, param);
        }
        Ok(())
    }

    fn know(&mut self, name: &str, param: &Tensor) -> Result<(), Error> {
        self.grads.add_parameters(param, 0)?;
        self.known.add(name, param);
        Ok(())
    }

    /// Takes the gradients away.
    pub fn zero_grad(&mut self) -> Result<(), Error> {
        Ok(self.grads.zero_grad()?)
    }
}

/// That a tensor can be a parameter.
fn check(name: &str, param: &Tensor) -> Result<(), Error> {
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
