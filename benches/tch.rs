//! A step of the Rust face against one of tch's own optimizers (libtorch's C++), on the lists of benches/lists.py.
//!
//! Criterion takes one arm after the other, so a table with turns comes first: step by step ours and theirs in turn, the
//! median of each and their quotient. All arms check that the parameters have moved. With the environment's `RECORD` set to
//! a file, the rows of the table are written there (`make bench-tch RECORD=1`: to benches/record).
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use tch::nn::{self, OptimizerConfig, VarStore};
use tch::{Device, Kind, Tensor};
use torchpace::tch::{Adam, AdamW, Optimizer, RmsProp, Sgd};

fn gpt2_small() -> Vec<Vec<i64>> {
    let (width, layers) = (768, 12);
    let norm = || vec![vec![width], vec![width]];
    let layer = || {
        let attention = vec![vec![3 * width, width], vec![3 * width], vec![width, width], vec![width]];
        let perceptron = vec![vec![4 * width, width], vec![4 * width], vec![width, 4 * width], vec![width]];
        [norm(), attention, norm(), perceptron].concat()
    };
    let mut shapes = vec![vec![50257, width], vec![1024, width]];
    (0..layers).for_each(|_| shapes.extend(layer()));
    shapes.extend(norm());
    assert_eq!((shapes.len(), shapes.iter().map(|s| s.iter().product::<i64>()).sum()), (148, 124_439_808));
    shapes
}

/// Parameters with gradients that stay.
fn store(shapes: &[Vec<i64>]) -> VarStore {
    let store = VarStore::new(Device::Cpu);
    for (k, shape) in shapes.iter().enumerate() {
        let param = store.root().add(&format!("p{k}"), Tensor::ones(shape, (Kind::Float, Device::Cpu)), true);
        (param * 0.5).sum(Kind::Float).backward();
    }
    store
}

/// One of ours and one of tch's, each on parameters of its own.
struct Pair {
    ours: (VarStore, Optimizer),
    theirs: (VarStore, nn::Optimizer),
}

const LR: f64 = 1e-4;

fn pair(name: &str, shapes: &[Vec<i64>]) -> Pair {
    let (left, right) = (store(shapes), store(shapes));
    let ours = match name {
        "SGD momentum" => Sgd { momentum: 0.9, ..Sgd::default() }.build(&left, LR),
        "RMSprop" => RmsProp::default().build(&left, LR),
        "Adam" => Adam::default().build(&left, LR),
        _ => AdamW::default().build(&left, LR),
    };
    let theirs = match name {
        "SGD momentum" => nn::sgd(0.9, 0.0, 0.0, false).build(&right, LR),
        "RMSprop" => nn::RmsProp::default().build(&right, LR),
        "Adam" => nn::Adam::default().build(&right, LR),
        _ => nn::AdamW::default().build(&right, LR),
    };
    Pair { ours: (left, ours.unwrap()), theirs: (right, theirs.unwrap()) }
}

fn lists() -> [(&'static str, Vec<Vec<i64>>); 2] {
    [("500 x 16", vec![vec![16]; 500]), ("GPT-2 small", gpt2_small())]
}

const NAMES: [&str; 4] = ["SGD momentum", "RMSprop", "Adam", "AdamW"];

fn timed(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64() * 1e6
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A number that was 1.
fn moved(store: &VarStore) -> f64 {
    store.trainable_variables()[0].flatten(0, -1).double_value(&[0])
}

/// The table with turns.
fn turns() {
    println!("{} threads; microseconds a step, median of arms in turn", tch::get_num_threads());
    println!("{:14} {:14} {:>12} {:>12} {:>8}", "list", "optimizer", "ours", "tch's", "times");
    let mut rows = vec!["list,optimizer,ours_us,tch_us,ratio,low,high,turns".to_owned()];
    for (list, shapes) in lists() {
        for name in NAMES {
            let mut pair = pair(name, &shapes);
            let steps: usize = if shapes.len() == 500 { 400 } else { 15 };
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for turn in 0..steps + 3 {
                let mut left = || {
                    ours.push(timed(|| {
                        black_box(pair.ours.1.step().unwrap());
                    }))
                };
                let mut right = || theirs.push(timed(|| pair.theirs.1.step()));
                if turn % 2 == 0 {
                    left();
                    right();
                } else {
                    right();
                    left();
                }
            }
            let (left, right) = (moved(&pair.ours.0), moved(&pair.theirs.0));
            assert!(left < 1.0 && (left - right).abs() < 1e-4, "{name}: {left} and {right}");
            let (ours, theirs) = (ours.split_off(3), theirs.split_off(3));
            let mut ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| theirs / ours).collect();
            ratios.sort_by(f64::total_cmp);
            let (low, high) = (ratios[steps / 4], ratios[3 * steps / 4]);
            let (ours, theirs) = (median(ours), median(theirs));
            let ratio = theirs / ours;
            println!("{list:14} {name:14} {ours:12.1} {theirs:12.1} {ratio:8.2}");
            rows.push(format!("{list},{name},{ours:.1},{theirs:.1},{ratio:.2},{low:.2},{high:.2},{steps}"));
        }
    }
    if let Ok(path) = std::env::var("RECORD") {
        std::fs::write(path, rows.join("\n") + "\n").unwrap();
    }
}

fn arms(criterion: &mut Criterion) {
    turns();
    for (list, shapes) in lists() {
        for name in NAMES {
            let mut pair = pair(name, &shapes);
            let mut group = criterion.benchmark_group(format!("{list} {name}"));
            if shapes.len() != 500 {
                // Steps of up to a second.
                group.sample_size(10).sampling_mode(SamplingMode::Flat);
            }
            group.bench_function("torchpace", |bencher| bencher.iter(|| pair.ours.1.step().unwrap()));
            group.bench_function("tch", |bencher| bencher.iter(|| pair.theirs.1.step()));
            group.finish();
            assert!(moved(&pair.ours.0) < 1.0 && moved(&pair.theirs.0) < 1.0, "{name}");
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = arms
}
criterion_main!(benches);
