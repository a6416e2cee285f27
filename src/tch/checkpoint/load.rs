//! Reads a checkpoint.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use ::tch::{Kind, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value as Json, json};

use super::{EXTRA, FORMAT, VERSION, word};
use crate::batch::Nonfinite;
use crate::schedule::Memory;
use crate::tch::error::Error;
use crate::tch::options::{Table, Value};
use crate::tch::schedules::Schedules;
use crate::tch::settings::Settings;
use crate::tch::state::Prepared;
use crate::tch::steps::AnySteps;

/// What was read and fits.
pub struct Loaded {
    pub state: Vec<Prepared>,
    pub settings: Settings,
}

/// Reads a file, and checks all of it against the optimizer.
pub fn load(path: &Path, steps: &dyn AnySteps, settings: &Settings) -> Result<Loaded, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    Reader { path, steps }.read(&bytes, settings)
}

struct Reader<'a> {
    path: &'a Path,
    steps: &'a dyn AnySteps,
}

impl Reader<'_> {
    fn wrong(&self, name: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Error {
        let (path, name) = (self.path.to_owned(), name.into());
        Error::Checkpoint { path, name, found: found.to_string(), expected: expected.into() }
    }

    fn read(&self, bytes: &[u8], Settings { tables, schedules }: &Settings) -> Result<Loaded, Error> {
        let broken = |error| self.wrong("the file", error, "a safetensors file");
        let metadata = SafeTensors::read_metadata(bytes).map_err(broken)?.1;
        let metadata = metadata.metadata().clone().unwrap_or_default();
        let file = SafeTensors::deserialize(bytes).map_err(broken)?;
        for (key, expected) in [("format", FORMAT), ("version", VERSION), ("rule", self.steps.rule())] {
            let found = metadata.get(key).map_or("missing", String::as_str);
            if found != expected {
                return Err(self.wrong(key, found, expected));
            }
        }
        let groups = self.json(metadata.get("param_groups"), "param_groups")?;
        if groups.len() != tables.len() {
            return Err(self.wrong("the number of param_groups", groups.len(), tables.len().to_string()));
        }
        let new_tables = tables.iter().zip(&groups).map(|(table, group)| self.table(table, group));
        let mut new_tables = new_tables.collect::<Result<Vec<_>, _>>()?;
        let names = self.names(&groups)?;
        let known: HashSet<&str> = names.iter().map(String::as_str).collect();
        let mut entries: HashMap<&str, HashMap<&str, Tensor>> = HashMap::new();
        for (key, view) in file.iter() {
            let (param, entry) = key.rsplit_once('.').unwrap_or(("", key));
            if !known.contains(param) {
                return Err(self.wrong(
                    format!("tensor {key:?}"),
                    "of no parameter",
                    "the state of one in param_groups",
                ));
            }
            entries.entry(param).or_default().insert(entry, self.tensor(key, &view)?);
        }
        let entries: Vec<_> = names.iter().map(|name| entries.remove(name.as_str()).unwrap_or_default()).collect();
        let state = self.steps.prepare(&new_tables, &entries)?;
        let mut new_schedules = schedules.clone();
        if let Some(text) = metadata.get("schedules") {
            self.schedules(&self.json(Some(text), "schedules")?, &mut new_schedules, &mut new_tables)?;
        }
        new_tables.iter().try_for_each(Table::check)?;
        Ok(Loaded { state, settings: Settings { tables: new_tables, schedules: new_schedules } })
    }

    fn json(&self, text: Option<&String>, name: &str) -> Result<Vec<Json>, Error> {
        let Some(text) = text else { return Err(self.wrong(name, "missing", "a JSON list")) };
        serde_json::from_str(text).map_err(|error| self.wrong(name, error, "a JSON list"))
    }

    /// The file's name for each parameter here, in the order of the parameters.
    fn names(&self, groups: &[Json]) -> Result<Vec<String>, Error> {
        let params = self.steps.params();
        let places: HashMap<&str, usize> = params.iter().enumerate().map(|(k, (_, name, _))| (*name, k)).collect();
        let mut own = vec![Vec::new(); groups.len()];
        params.iter().enumerate().for_each(|(k, (group, ..))| own[*group].push(k));
        let (mut names, mut known) = (vec![None; params.len()], HashSet::new());
        for (index, (group, own)) in groups.iter().zip(own).enumerate() {
            let listed = group["params"].as_array().map(Vec::as_slice).unwrap_or_default();
            if listed.len() != own.len() {
                let name = format!("the number of parameters in group {index}");
                return Err(self.wrong(name, listed.len(), own.len().to_string()));
            }
            // A name that is there twice finds nothing: here each is there once.
            let in_order = group["param_names"].is_array();
            for (listed, own) in listed.iter().zip(own) {
                let place = || format!("parameter {listed} of group {index}");
                let (param, name) = match listed {
                    Json::String(name) if in_order => (own, name.clone()),
                    Json::String(name) => match places.get(name.as_str()) {
                        Some(&param) if params[param].0 == index => (param, name.clone()),
                        Some(&param) => {
                            let expected = format!("in group {} as in the optimizer", params[param].0);
                            return Err(self.wrong(place(), "there", expected));
                        }
                        None => return Err(self.wrong(place(), "unknown", "one of the optimizer")),
                    },
                    // Places, where there were no names.
                    Json::Number(number) => (own, number.to_string()),
                    _ => return Err(self.wrong(place(), "neither", "a name or a number")),
                };
                if !known.insert(name.clone()) || names[param].replace(name).is_some() {
                    return Err(self.wrong(place(), "there twice", "there once"));
                }
            }
        }
        // As many as there are parameters, and none twice.
        Ok(names.into_iter().flatten().collect())
    }

    /// A group's options, those of the file in the place of those here.
    fn table(&self, old: &Table, group: &Json) -> Result<Table, Error> {
        let mut new = old.clone();
        for (name, value) in &mut new.entries {
            let place = || format!("option {name:?} of group {}", old.group);
            let found = &group[*name];
            let wrong = |expected: &str| self.wrong(place(), found, expected);
            match value {
                // Off where the file has none: torch's files have only torch's options.
                Value::Bound(bound) if found.is_null() => *bound = None,
                Value::Nonfinite(nonfinite) if found.is_null() => *nonfinite = Nonfinite::Propagate,
                Value::Flag(flag) if found.is_null() && EXTRA.contains(name) => *flag = false,
                Value::Number(number) => *number = read_number(found).ok_or_else(|| wrong("a number"))?,
                Value::Bound(bound) => *bound = Some(read_number(found).ok_or_else(|| wrong("null or a number"))?),
                Value::Pair(pair) => *pair = read_numbers(found).ok_or_else(|| wrong("two numbers"))?,
                Value::Triple(triple) => *triple = read_numbers(found).ok_or_else(|| wrong("three numbers"))?,
                Value::Flag(flag) => *flag = found.as_bool().ok_or_else(|| wrong("true or false"))?,
                Value::Nonfinite(nonfinite) => {
                    let all = [Nonfinite::Propagate, Nonfinite::Skip, Nonfinite::Raise];
                    let same = all.into_iter().find(|&one| found.as_str() == Some(&word(one)));
                    *nonfinite = same.ok_or_else(|| wrong("\"propagate\", \"skip\" or \"raise\""))?;
                }
            }
        }
        new.bases.clear();
        for (name, value) in group.as_object().into_iter().flatten() {
            // Not Adagrad's initial_accumulator_value, which is an option.
            if let Some((name, base)) = name.strip_prefix("initial_").zip(read_number(value))
                && new.place(name).is_ok()
            {
                new.bases.insert(name.to_owned(), base);
            }
        }
        new.check()?;
        Ok(new)
    }

    fn tensor(&self, key: &str, view: &TensorView<'_>) -> Result<Tensor, Error> {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => return Err(self.wrong(format!("tensor {key:?}"), format!("{other:?}"), "F32, F64, F16 or BF16")),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        Ok(Tensor::f_from_data_size(view.data(), &shape, kind)?)
    }

    fn schedules(&self, found: &[Json], schedules: &mut Schedules, tables: &mut [Table]) -> Result<(), Error> {
        for entry in found {
            let same = |group: usize, name: &str| entry["group"] == json!(group) && entry["name"] == json!(name);
            let Some(scheduled) = schedules.0.iter_mut().find(|one| same(one.group, &one.name)) else { continue };
            let place = format!("the schedule of {} of group {}", scheduled.name, scheduled.group);
            let memories = entry["plateaus"].as_array().into_iter().flatten().map(memory).collect::<Option<Vec<_>>>();
            let step = read_number(&entry["step"]).filter(|step| *step >= 0.0 && step.is_finite());
            let Some(((step, base), memories)) = step.zip(read_number(&entry["base"])).zip(memories) else {
                return Err(self.wrong(place, entry, "a step, a base and the memories of plateaus"));
            };
            if memories.len() != scheduled.memories.len() {
                let found = format!("one of {} plateaus", memories.len());
                return Err(self.wrong(place, found, format!("one of {}", scheduled.memories.len())));
            }
            scheduled.resume(step, base, memories, tables);
        }
        Ok(())
    }
}

/// So many numbers.
fn read_numbers<const N: usize>(value: &Json) -> Option<[f64; N]> {
    let numbers = value.as_array()?.iter().map(read_number).collect::<Option<Vec<_>>>()?;
    numbers.try_into().ok()
}

fn read_number(value: &Json) -> Option<f64> {
    match value {
        Json::String(text) if ["inf", "-inf", "nan"].contains(&text.as_str()) => text.parse().ok(),
        _ => value.as_f64(),
    }
}

fn memory(value: &Json) -> Option<Memory> {
    let number = |name: &str| read_number(&value[name]);
    Some(Memory {
        scale: number("scale")?,
        best: number("best")?,
        worse: number("worse")?,
        better: number("better")?,
        cooldown: number("cooldown")?,
    })
}
