//! Kernel texts against those in `tests/golden`, which are reviewed like code.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use torchpace::cuda::source::{Counts, Kernel, Variant, begin, chunks, fold, norm, step, write};
use torchpace::rule::Rule;
use torchpace::rules::{self, Sgd};
use torchpace::tensor::{Dtype, Dtypes};

use crate::cases::{Case, TYPES, Types, cases, is_over_all, variants};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn types(name: &str) -> Types {
    TYPES.into_iter().find(|types| types.name == name).unwrap()
}

fn case(rule: &str, name: &str) -> Case {
    cases().into_iter().find(|case| (case.rule, case.name) == (rule, name)).unwrap()
}

/// Each rule in each structure in `f32`; one rule in the other types and each variant; the other kernels.
fn chosen() -> BTreeMap<String, Kernel> {
    let mut all = BTreeMap::new();
    for case in cases() {
        let kernel = case.step(types("f32"), Variant::default());
        if !all.values().any(|other: &Kernel| other.text == kernel.text) {
            all.insert(format!("{}_{}_f32", case.rule, case.name), kernel);
        }
    }
    for types in TYPES.into_iter().filter(|types| types.name != "f32") {
        let kernel = case("adam", "plain").step(types, Variant::default());
        all.insert(format!("adam_plain_{}", types.name), kernel);
    }
    for (case, types, variant) in [
        (case("lamb", "plain"), types("f32"), Variant::default()),
        (case("prodigy", "decay"), types("f32"), Variant::default()),
        (case("lamb", "decay_clip"), types("bf16"), Variant { unscale: true, clip_value: true, ..Variant::default() }),
        (
            case("adam", "cautious_update"),
            types("f32"),
            Variant { strided: true, on_device: true, ..Variant::default() },
        ),
    ] {
        for (kernel, kind) in case.all_sums(types, variant).into_iter().zip(["sums", "complete"]) {
            all.insert(format!("{}_{}_{kind}_{}", case.rule, case.name, types.name), kernel);
        }
    }
    let momentum = case("sgd", "momentum");
    let some = Variant::default();
    all.insert("variant_unscale".into(), momentum.step(types("bf16"), Variant { unscale: true, ..some }));
    all.insert("variant_clip_value".into(), momentum.step(types("f32"), Variant { clip_value: true, ..some }));
    all.insert("variant_on_device".into(), momentum.step(types("f32"), Variant { on_device: true, ..some }));
    all.insert("variant_strided".into(), momentum.step(types("f32"), Variant { strided: true, unscale: true, ..some }));
    for rule in rules::names().into_iter().filter(|rule| !is_over_all(rule)) {
        all.insert(format!("begin_{rule}"), case(rule, "plain").begin(Counts::OnDevice(Dtype::F32), false));
    }
    all.insert("norm_bf16".into(), norm(Dtype::Bf16, false).unwrap());
    all.insert("norm_f32_strided".into(), norm(Dtype::F32, true).unwrap());
    all.insert("begin_given".into(), momentum.begin(Counts::Given, true));
    all.insert("fold".into(), fold());
    all.insert("write".into(), write());
    all.insert("chunks".into(), chunks());
    all
}

/// The lines that differ, with their numbers.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let mut lines = Vec::new();
    for k in 0..old.len().max(new.len()) {
        let (before, now) = (old.get(k), new.get(k));
        if before != now {
            lines.extend(before.map(|line| format!("{:4} -{line}", k + 1)));
            lines.extend(now.map(|line| format!("{:4} +{line}", k + 1)));
        }
    }
    lines.join("\n")
}

#[test]
fn texts_are_as_reviewed() {
    let renew = std::env::var_os("TORCHPACE_RENEW_GOLDEN").is_some();
    let chosen = chosen();
    let mut wrong = Vec::new();
    for (name, kernel) in &chosen {
        let path = folder().join(format!("{name}.cu"));
        if renew {
            fs::write(&path, &kernel.text).unwrap();
        }
        let old = fs::read_to_string(&path).unwrap_or_default();
        if old != kernel.text {
            wrong.push(format!("tests/golden/{name}.cu:\n{}", difference(&old, &kernel.text)));
        }
    }
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !chosen.contains_key(&name) {
            wrong.push(format!("tests/golden/{name}.cu: belongs to no kernel; delete it"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n\nIf this is meant, renew the files and read what changed:\n    \
         TORCHPACE_RENEW_GOLDEN=1 cargo test --no-default-features --test cuda texts_are_as_reviewed && git diff tests/golden",
        wrong.join("\n\n")
    );
}

#[test]
fn a_text_depends_on_no_value() {
    for case in cases() {
        let mut other = case.clone();
        other.options.change();
        for variant in variants() {
            assert_eq!(case.step(TYPES[0], variant), other.step(TYPES[0], variant), "{case:?}");
        }
        assert_eq!(
            case.begin(Counts::OnDevice(Dtype::F32), false),
            other.begin(Counts::OnDevice(Dtype::F32), false),
            "{case:?}"
        );
    }
}

#[test]
fn two_options_of_one_value_stay_two() {
    let case = case("adam", "plain");
    let mut other = case.clone();
    other.options.set("eps", 0.9);
    assert_eq!(case.begin(Counts::OnDevice(Dtype::F32), false), other.begin(Counts::OnDevice(Dtype::F32), false));
}

#[test]
fn types_without_arithmetic_have_no_text() {
    for dtype in [Dtype::C64, Dtype::C128, Dtype::OtherFloat, Dtype::NoFloat] {
        assert_eq!(norm(dtype, false), None);
    }
    let rule = |name| Sgd::read(&case("sgd", name).options).unwrap();
    let step = |name, slot| {
        let dtypes = Dtypes { param: Dtype::F32, grad: Dtype::F32, slots: [slot] };
        step(&rule(name), &dtypes, Variant::default())
    };
    assert_eq!(step("momentum", None), None);
    assert_eq!(step("momentum", Some(Dtype::C64)), None);
    assert_eq!(begin(&rule("plain"), Counts::OnDevice(Dtype::F16), [None], false), None);
    // A slot that is not live plays no part.
    assert!(step("plain", None).is_some());
    assert_eq!(step("plain", Some(Dtype::F64)), step("plain", None));
}

#[test]
fn a_difference_shows_both_lines() {
    assert_eq!(difference("a\nb\n", "a\nc\nd\n"), "   2 -b\n   2 +c\n   3 +d");
}
