//! Files that are broken or of another optimizer: an error that says where, and nothing has changed. Never a panic.

use serde_json::{Value, json};
use tch::{Kind, Tensor};
use torchpace::schedule::{Plateau, Schedule};
use torchpace::tch::{Adam, Error, Group, Optimizer};

use super::{cosine, file, leaf, named};

/// Two groups under two schedules, of which one has a memory.
struct Case {
    optimizer: Optimizer,
    path: std::path::PathBuf,
}

impl Case {
    fn new(name: &str, steps: usize) -> Self {
        let (a, b) = (leaf(&[1.0, 2.0]), leaf(&[3.0]));
        let group = |name: &str, param: &Tensor| Group::new(named(&[(name, param)]), 0.1, Adam::default());
        let mut optimizer = Adam::build_groups(vec![group("a", &a), group("b", &b)]).unwrap();
        optimizer.set_group_schedule(0, "lr", &Schedule::new(Plateau::default()).unwrap()).unwrap();
        optimizer.set_group_schedule(1, "betas[0]", &cosine(20.0)).unwrap();
        for _ in 0..steps {
            optimizer.backward_step(&(a.square().sum(Kind::Float) + b.square().sum(Kind::Float))).unwrap();
            optimizer.advance_with(1.0).unwrap();
        }
        Self { optimizer, path: file(name) }
    }

    /// What `save` writes.
    fn bytes(&self) -> Vec<u8> {
        self.optimizer.save(&self.path).unwrap();
        let bytes = std::fs::read(&self.path).unwrap();
        std::fs::remove_file(&self.path).unwrap();
        bytes
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), Error> {
        std::fs::write(&self.path, bytes).unwrap();
        let loaded = self.optimizer.load(&self.path);
        std::fs::remove_file(&self.path).unwrap();
        loaded
    }

    /// What is said of a file that is refused; the optimizer is then what it was.
    fn said(&mut self, bytes: &[u8]) -> String {
        let before = parts(&self.bytes());
        let error = self.load(bytes).unwrap_err();
        assert!(parts(&self.bytes()) == before, "{error}");
        error.to_string().replace(&self.path.display().to_string(), "file")
    }
}

/// The header and the data. Nothing sorts the header's metadata when it is written.
fn parts(bytes: &[u8]) -> (Value, Vec<u8>) {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    (serde_json::from_slice(header).unwrap(), data.to_vec())
}

fn whole(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// The file with another header.
fn edited(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (mut header, data) = parts(bytes);
    change(&mut header);
    whole(&header, &data)
}

/// The file with other JSON in its metadata.
fn inner(bytes: &[u8], key: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    edited(bytes, |header| {
        let text = &mut header["__metadata__"][key];
        let mut value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        change(&mut value);
        *text = Value::String(value.to_string());
    })
}

fn renamed(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    edited(bytes, |header| {
        let entry = header.as_object_mut().unwrap().remove(from).unwrap();
        header[to] = entry;
    })
}

#[test]
fn the_file_that_the_others_are_made_of_is_good() {
    let bytes = Case::new("good", 3).bytes();
    let mut other = Case::new("good-other", 0);
    other.load(&edited(&bytes, |_| ())).unwrap();
    assert!(parts(&other.bytes()) == parts(&bytes));
}

#[test]
fn files_that_are_cut_or_have_a_wrong_byte() {
    let bytes = Case::new("cut", 3).bytes();
    let mut other = Case::new("cut-other", 1);
    for length in 0..bytes.len() {
        let said = other.said(&bytes[..length]);
        assert!(said.starts_with("file: the file is "), "{length}: {said}");
    }
    // Some bytes are numbers that may be others; but none may be the end of the process, nor half a change.
    let mut refused = 0;
    for place in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[place] ^= 1 << (place % 8);
        let before = parts(&other.bytes());
        if other.load(&wrong).is_err() {
            assert!(parts(&other.bytes()) == before, "{place}");
            refused += 1;
        } else {
            other = Case::new("cut-other", 1);
        }
    }
    assert!(refused > bytes.len() / 2, "{refused} of {}", bytes.len());
    for length in [u64::MAX, u64::MAX / 2, 1 << 40, 100_000_001] {
        let said = other.said(&[&length.to_le_bytes(), &bytes[8..]].concat());
        assert!(said.starts_with("file: the file is "), "{length}: {said}");
    }
}

#[test]
fn files_of_something_else() {
    let bytes = &Case::new("else", 3).bytes();
    let mut other = Case::new("else-other", 1);
    let mut says = |bytes: Vec<u8>, expected: &str| {
        let said = other.said(&bytes);
        assert!(said.starts_with(expected), "{said}\nexpected {expected}");
    };
    let meta = |key: &str, value: Value| edited(bytes, |header| header["__metadata__"][key] = value);
    let without = |key: &str| edited(bytes, |h| drop(h["__metadata__"].as_object_mut().unwrap().remove(key)));
    says(
        edited(bytes, |h| drop(h.as_object_mut().unwrap().remove("__metadata__"))),
        "file: format is missing, expected",
    );
    says(without("format"), "file: format is missing, expected torchpace.optimizer");
    says(meta("format", json!("other")), "file: format is other, expected torchpace.optimizer");
    says(meta("version", json!("2")), "file: version is 2, expected 1");
    says(meta("rule", json!("sgd")), "file: rule is sgd, expected adam");
    says(without("param_groups"), "file: param_groups is missing, expected a JSON list");
    says(meta("param_groups", json!("{}")), "file: param_groups is invalid type");
    says(meta("param_groups", json!("[")), "file: param_groups is EOF while parsing");
    says(meta("param_groups", json!("[1, 2]")), "file: option \"lr\" of group 0 is null, expected a number");

    let groups = |change: fn(&mut Value)| inner(bytes, "param_groups", change);
    says(groups(|g| drop(g.as_array_mut().unwrap().pop())), "file: the number of param_groups is 1, expected 2");
    says(groups(|g| g[1]["lr"] = json!("high")), "file: option \"lr\" of group 1 is \"high\", expected a number");
    says(groups(|g| g[1]["lr"] = json!("nan")), "group 1: lr is NaN, expected a number >= 0");
    says(groups(|g| g[1]["eps"] = json!(-1)), "group 1: eps is -1, expected a number >= 0");
    says(groups(|g| g[1]["betas"] = json!([0.9])), "file: option \"betas\" of group 1 is [0.9], expected two numbers");
    says(groups(|g| g[1]["amsgrad"] = json!(0)), "file: option \"amsgrad\" of group 1 is 0, expected true or false");
    says(
        groups(|g| g[1]["clip_value"] = json!("x")),
        "file: option \"clip_value\" of group 1 is \"x\", expected null or",
    );
    says(groups(|g| g[1]["nonfinite_norm"] = json!(1)), "file: option \"nonfinite_norm\" of group 1 is 1, expected");
    says(groups(|g| g[1]["params"] = json!(null)), "file: the number of parameters in group 1 is 0, expected 1");
    says(
        groups(|g| g[1]["params"] = json!([[]])),
        "file: parameter [] of group 1 is neither, expected a name or a number",
    );
    says(groups(|g| g[1]["params"] = json!(["c"])), "file: parameter \"c\" of group 1 is unknown, expected one of the");
    let moved = "file: parameter \"a\" of group 1 is there, expected in group 0 as in the optimizer";
    says(groups(|g| g[1]["params"] = json!(["a"])), moved);
    let twice = "file: parameter \"x\" of group 1 is there twice, expected there once";
    says(groups(|g| *g = named_twice(g, ["x", "x"])), twice);
    let together = "file: the number of parameters in group 0 is 2, expected 1";
    says(groups(|g| (g[0]["params"], g[1]["params"]) = (json!(["a", "b"]), json!([]))), together);

    says(
        renamed(bytes, "a.exp_avg", "a.other"),
        "parameter \"a\": state has no \"exp_avg\", found only [\"exp_avg_sq\"]",
    );
    says(renamed(bytes, "a.step", "a.other"), "parameter \"a\": state has no \"step\", found only [");
    says(renamed(bytes, "a.exp_avg", "c.exp_avg"), "file: tensor \"c.exp_avg\" is of no parameter, expected the state");
    says(renamed(bytes, "a.exp_avg", "exp_avg"), "file: tensor \"exp_avg\" is of no parameter, expected the state");
    let tensor = |key: &str, field: &str, value: Value| edited(bytes, |header| header[key][field] = value);
    says(
        tensor("a.exp_avg", "dtype", json!("I32")),
        "file: tensor \"a.exp_avg\" is I32, expected F32, F64, F16 or BF16",
    );
    says(tensor("a.exp_avg", "shape", json!([2, 1])), "parameter \"a\": exp_avg has shape [2, 1], expected [2]");
    says(tensor("a.exp_avg", "shape", json!([3])), "file: the file is ");
    says(tensor("a.exp_avg", "shape", json!([u64::MAX, 3])), "file: the file is ");
    says(
        tensor("a.step", "shape", json!([1])),
        "parameter \"a\": state \"step\" is Float of shape [1], expected one Float",
    );

    let schedules = |change: fn(&mut Value)| inner(bytes, "schedules", change);
    let wrong = "file: the schedule of lr of group 0 is {";
    says(meta("schedules", json!("1")), "file: schedules is invalid type");
    says(schedules(|s| s[0]["step"] = json!(-1)), wrong);
    says(schedules(|s| s[0]["step"] = json!("inf")), wrong);
    says(schedules(|s| s[0]["base"] = json!(null)), wrong);
    says(schedules(|s| s[0]["plateaus"] = json!([1])), wrong);
    let plateaus = "file: the schedule of lr of group 0 is one of 0 plateaus, expected one of 1";
    says(schedules(|s| s[0]["plateaus"] = json!([])), plateaus);
    says(schedules(|s| s[0]["base"] = json!("nan")), "group 0: lr is NaN, expected a number >= 0");
    says(schedules(|s| s[1]["base"] = json!(3)), "group 1: betas is [");
}

/// Groups as Python writes them where two parameters have one name.
fn named_twice(groups: &Value, keys: [&str; 2]) -> Value {
    let mut groups = groups.clone();
    for (group, key) in groups.as_array_mut().unwrap().iter_mut().zip(keys) {
        (group["params"], group["param_names"]) = (json!([key]), json!(["weight"]));
    }
    groups
}

#[test]
fn a_name_that_is_there_twice() {
    let bytes = Case::new("twice", 3).bytes();
    let twice = inner(&bytes, "param_groups", |g| *g = named_twice(g, ["0/weight", "1/weight"]));
    let twice = ["exp_avg", "exp_avg_sq", "step"].into_iter().fold(twice, |bytes, entry| {
        let from_a = renamed(&bytes, &format!("a.{entry}"), &format!("0/weight.{entry}"));
        renamed(&from_a, &format!("b.{entry}"), &format!("1/weight.{entry}"))
    });
    let mut other = Case::new("twice-other", 0);
    other.load(&twice).unwrap();
    assert!(parts(&other.bytes()) == parts(&bytes));
}

#[test]
fn counts_of_a_file_that_was_cast_whole() {
    let (weight, path) = (leaf(&[1.0, 2.0]), file("narrow"));
    let build = || Adam::build_groups(vec![Group::new(named(&[("w", &weight)]), 0.1, Adam::default())]).unwrap();
    let mut optimizer = build();
    optimizer.backward_step(&weight.square().sum(Kind::Float)).unwrap();
    optimizer.save(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&good).unwrap();
    let metadata = safetensors::SafeTensors::read_metadata(&good).unwrap().1.metadata().clone();
    for (kind, dtype) in [(Kind::BFloat16, safetensors::Dtype::BF16), (Kind::Half, safetensors::Dtype::F16)] {
        let tensors: Vec<_> = parsed.iter().collect();
        let all = tensors.into_iter().map(|(name, view)| {
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            let whole = Tensor::f_from_data_size(view.data(), &shape, Kind::Float).unwrap();
            // Where it would stand still.
            let whole = if name == "w.step" { whole * 2048 } else { whole }.to_kind(kind);
            let mut bytes = vec![0; 2 * whole.numel()];
            whole.copy_data_u8(&mut bytes, whole.numel());
            (name.to_owned(), view.shape().to_vec(), bytes)
        });
        let all: Vec<_> = all.collect();
        let views = all.iter().map(|(name, shape, bytes)| {
            (name, safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes).unwrap())
        });
        std::fs::write(&path, safetensors::serialize(views, metadata.clone()).unwrap()).unwrap();
        let mut again = build();
        again.load(&path).unwrap();
        for _ in 0..3 {
            again.backward_step(&weight.square().sum(Kind::Float)).unwrap();
        }
        again.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let step = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let step = step.tensor("w.step").unwrap();
        assert_eq!((step.dtype(), step.data()), (safetensors::Dtype::F32, &2051.0_f32.to_le_bytes()[..]));
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn paths_that_lead_nowhere() {
    let mut case = Case::new("nowhere", 1);
    let folder = std::env::temp_dir();
    for path in [folder.join("torchpace-no-such-file"), folder.clone(), "".into(), "a\0b".into()] {
        let before = parts(&case.bytes());
        match case.optimizer.load(&path).unwrap_err() {
            Error::Io { path: found, .. } => assert_eq!(found, path),
            error => panic!("{error}"),
        }
        assert!(parts(&case.bytes()) == before);
    }
    for path in [folder.join("torchpace-no-such-folder/x"), folder.clone(), "".into(), "a\0b".into()] {
        match case.optimizer.save(&path).unwrap_err() {
            Error::Io { path: found, .. } => assert_eq!(found, path),
            error => panic!("{error}"),
        }
    }
    // Nothing is left beside it.
    let mut beside = folder.into_os_string();
    beside.push(format!(".{}.part", std::process::id()));
    assert!(!std::path::Path::new(&beside).exists());
}
