//! Writes a checkpoint.

use std::collections::HashMap;
use std::path::Path;

use ::tch::Kind;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Map, Value as Json, json};

use super::{BOUNDS, EXTRA, FORMAT, VERSION, word};
use crate::batch::Nonfinite;
use crate::tch::error::Error;
use crate::tch::options::{Table, Value};
use crate::tch::schedules::Schedules;
use crate::tch::settings::Settings;
use crate::tch::state::parts;
use crate::tch::steps::AnySteps;

/// Writes a file, next to the old one until it is whole.
pub fn save(path: &Path, steps: &dyn AnySteps, settings: &Settings) -> Result<(), Error> {
    let mut tensors = Vec::new();
    for (index, (_, param, _)) in steps.params().into_iter().enumerate() {
        for (entry, tensor) in steps.state(index) {
            let whole = parts(tensor)?.f_contiguous()?;
            let kind = whole.f_kind()?;
            let mut bytes = vec![0; whole.numel() * kind.elt_size_in_bytes()];
            whole.f_copy_data_u8(&mut bytes, whole.numel())?;
            let shape = whole.size().into_iter().map(|size| size as usize).collect::<Vec<_>>();
            tensors.push((format!("{param}.{entry}"), dtype(kind, param)?, shape, bytes));
        }
    }
    let io = |source| Error::Io { path: path.to_owned(), source };
    let written = |error: safetensors::SafeTensorError| io(std::io::Error::other(error));
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).map_err(written)?))
    });
    let views = views.collect::<Result<Vec<_>, Error>>()?;
    let metadata = HashMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("version".to_owned(), VERSION.to_owned()),
        ("rule".to_owned(), steps.rule().to_owned()),
        ("param_groups".to_owned(), groups_json(steps, &settings.tables).to_string()),
        ("schedules".to_owned(), schedules_json(&settings.schedules).to_string()),
    ]);
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let written = serialize_to_file(views, Some(metadata), Path::new(&beside)).map_err(written);
    let moved = written.and_then(|()| std::fs::rename(&beside, path).map_err(io));
    if moved.is_err() {
        std::fs::remove_file(&beside).ok();
    }
    moved
}

fn dtype(kind: Kind, param: &str) -> Result<Dtype, Error> {
    Ok(match kind {
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        _ => {
            let (name, found) = (param.to_owned(), format!("of kind {kind:?}"));
            return Err(Error::Tensor { name, tensor: "state", found, expected: "a floating-point or complex tensor" });
        }
    })
}

/// A number, as a string if JSON lacks it.
fn number_json(number: f64) -> Json {
    if number.is_finite() { json!(number) } else { Json::String(number.to_string().to_lowercase()) }
}

fn groups_json(steps: &dyn AnySteps, tables: &[Table]) -> Json {
    let params = steps.params();
    let groups = tables.iter().map(|table| {
        let mut group = Map::new();
        for &(name, value) in &table.entries {
            let value = match value {
                Value::Number(number) | Value::Bound(Some(number)) => number_json(number),
                Value::Pair(pair) => Json::Array(pair.map(number_json).to_vec()),
                Value::Triple(triple) => Json::Array(triple.map(number_json).to_vec()),
                Value::Flag(flag) if flag || !EXTRA.contains(&name) => Json::Bool(flag),
                Value::Nonfinite(nonfinite) if nonfinite != Nonfinite::Propagate => Json::String(word(nonfinite)),
                Value::Bound(None) if !BOUNDS.contains(&name) => Json::Null,
                // Off, and then not among torch's options.
                Value::Flag(_) | Value::Bound(None) | Value::Nonfinite(_) => continue,
            };
            group.insert(name.to_owned(), value);
        }
        for (name, &base) in &table.bases {
            group.insert(format!("initial_{name}"), number_json(base));
        }
        let own = params.iter().filter(|(group, ..)| *group == table.group).map(|(_, name, _)| json!(name));
        group.insert("params".to_owned(), own.collect());
        Json::Object(group)
    });
    groups.collect()
}

fn schedules_json(schedules: &Schedules) -> Json {
    let all = schedules.0.iter().map(|scheduled| {
        let memories = scheduled.memories.iter().map(|memory| {
            json!({
                "scale": number_json(memory.scale),
                "best": number_json(memory.best),
                "worse": memory.worse,
                "better": memory.better,
                "cooldown": memory.cooldown,
            })
        });
        json!({
            "group": scheduled.group,
            "name": scheduled.name,
            "step": scheduled.step,
            "base": number_json(scheduled.base()),
            "plateaus": memories.collect::<Json>(),
        })
    });
    all.collect()
}
