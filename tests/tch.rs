//! The Rust face against tch's own optimizers and against the Python package.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "tch/files.rs"]
mod files;
#[path = "tch/inputs.rs"]
mod inputs;
#[path = "tch/scalars.rs"]
mod scalars;
#[path = "tch/schedule_free.rs"]
mod schedule_free;
#[path = "tch/sums.rs"]
mod sums;

use std::path::Path;
use std::process::Command;

use tch::nn::{self, OptimizerConfig, VarStore};
use tch::{Device, Kind, Tensor};
use torchpace::schedule::{Cosine, Plateau, Ramp, Schedule, Warmup};
use torchpace::tch::{
    AdEMAMix, Adadelta, Adagrad, Adam, AdamW, Adamax, Asgd, Error, Group, Lamb, Lars, Lion, NAdam, Nonfinite,
    Optimizer, Outcome, Prodigy, RAdam, RmsProp, Rprop, ScheduleFreeAdamW, ScheduleFreeSgd, Sgd,
};

/// Numbers around 0 that depend on a seed alone, the same in tests/turns.py.
fn numbers(seed: i64, size: &[i64], kind: Kind) -> Tensor {
    let count: i64 = size.iter().product();
    let numbers = (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1999) as f64 / 1000.0 - 1.0);
    Tensor::from_slice(&numbers.collect::<Vec<_>>()).reshape(size).to_kind(kind)
}

const SHAPES: [&[i64]; 5] = [&[40, 30], &[], &[3, 1, 5], &[0, 4], &[257]];

/// A store of these variables, the `k`th named `p<k>`.
fn store(kind: Kind) -> VarStore {
    let store = VarStore::new(Device::Cpu);
    for (k, shape) in SHAPES.iter().enumerate() {
        let _ = store.root().add(&format!("p{k}"), numbers(k as i64, shape, kind), true);
    }
    store
}

fn variables(store: &VarStore) -> Vec<Tensor> {
    store.trainable_variables()
}

/// A loss whose gradient is `numbers(seed)` plus the parameter itself.
fn loss(params: &[Tensor], seed: i64) -> Tensor {
    let parts = params.iter().enumerate().map(|(k, param)| {
        let pull = numbers(seed + 17 * k as i64, &param.size(), param.kind());
        (param * &pull + param * param * 0.5).sum(Kind::Double)
    });
    parts.reduce(|sum, part| sum + part).unwrap()
}

fn grad(params: &[Tensor], seed: i64) {
    loss(params, seed).backward();
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).reshape([-1])).unwrap()
}

fn furthest(left: &[Tensor], right: &[Tensor]) -> f64 {
    let pairs = left.iter().zip(right).flat_map(|(left, right)| values(left).into_iter().zip(values(right)));
    pairs.map(|(left, right)| (left - right).abs()).fold(0.0, f64::max)
}

/// Twenty steps with ours and with tch's, on the same losses.
fn compare(name: &str, kind: Kind, ours: impl Fn(&VarStore) -> Optimizer, theirs: impl OptimizerConfig + Copy) {
    let (left, right) = (store(kind), store(kind));
    let (mut ours, mut theirs) = (ours(&left), theirs.build(&right, 0.01).unwrap());
    let (left, right) = (variables(&left), variables(&right));
    for step in 0..20 {
        assert_eq!(ours.backward_step(&loss(&left, step)).unwrap(), Outcome::Stepped);
        theirs.backward_step(&loss(&right, step));
    }
    // Ours round less often: within a few units in the last place of numbers around 1 after each step.
    let bound = if kind == Kind::Double { 1e-14 * 20.0 } else { 2.5e-7 * 20.0 };
    let far = furthest(&left, &right);
    assert!(far <= bound, "{name} {kind:?}: {far:e}");
    assert!(furthest(&left, &variables(&store(kind))) > 0.01, "{name} {kind:?}: nothing moved");
}

#[test]
fn as_tchs_own_optimizers() {
    for kind in [Kind::Float, Kind::Double] {
        compare("sgd", kind, |s| Sgd::default().build(s, 0.01).unwrap(), nn::Sgd::default());
        let ours = Sgd { momentum: 0.9, weight_decay: 0.1, nesterov: true, ..Sgd::default() };
        compare("nesterov", kind, |s| ours.build(s, 0.01).unwrap(), nn::sgd(0.9, 0.0, 0.1, true));
        let ours = Sgd { momentum: 0.9, dampening: 0.5, ..Sgd::default() };
        compare("dampened", kind, |s| ours.build(s, 0.01).unwrap(), nn::sgd(0.9, 0.5, 0.0, false));
        compare("rmsprop", kind, |s| RmsProp::default().build(s, 0.01).unwrap(), nn::RmsProp::default());
        let ours =
            RmsProp { alpha: 0.9, eps: 1e-3, weight_decay: 0.1, momentum: 0.5, centered: true, ..RmsProp::default() };
        compare("centered", kind, |s| ours.build(s, 0.01).unwrap(), nn::rms_prop(0.9, 1e-3, 0.1, 0.5, true));
        compare("adam", kind, |s| Adam::default().build(s, 0.01).unwrap(), nn::Adam::default());
        let ours = Adam { betas: [0.8, 0.9], weight_decay: 0.1, amsgrad: true, ..Adam::default() };
        compare("amsgrad", kind, |s| ours.build(s, 0.01).unwrap(), nn::adam(0.8, 0.9, 0.1).amsgrad(true));
        compare("adamw", kind, |s| AdamW::default().build(s, 0.01).unwrap(), nn::AdamW::default());
    }
}

#[test]
fn adagrad_by_hand() {
    let store = store(Kind::Double);
    let options = Adagrad { lr_decay: 0.1, initial_accumulator_value: 0.2, eps: 1e-4, ..Adagrad::default() };
    let mut optimizer = options.build(&store, 0.05).unwrap();
    let params = variables(&store);
    let (mut expected, mut sum) = (values(&params[0]), vec![0.2; 1200]);
    for step in 0..10 {
        let pull = values(&numbers(step, SHAPES[0], Kind::Double));
        for ((param, sum), pull) in expected.iter_mut().zip(&mut sum).zip(pull) {
            let grad = pull + *param;
            *sum += grad * grad;
            *param -= 0.05 / (1.0 + step as f64 * 0.1) * grad / (sum.sqrt() + 1e-4);
        }
        optimizer.backward_step(&loss(&params, step)).unwrap();
    }
    let far = values(&params[0]).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(far < 1e-14, "{far:e}");
}

/// Ten steps of a rule that tch lacks, on the losses of [`loss`], beside `formula`, which steps on one element: of the
/// parameter, the gradient, the numbers that it keeps and the step from 1, the new parameter.
fn by_hand<const S: usize>(
    build: impl Fn(&VarStore) -> Result<Optimizer, Error>,
    begin: [f64; S],
    formula: impl Fn(f64, f64, &mut [f64; S], i32) -> f64,
) {
    by_hand_whole(build, begin, |params, grads, kept, step| {
        for ((param, grad), kept) in params.iter_mut().zip(grads).zip(kept) {
            *param = formula(*param, *grad, kept, step);
        }
    });
}

/// The same beside a formula that steps on all elements of the parameter.
fn by_hand_whole<const S: usize>(
    build: impl Fn(&VarStore) -> Result<Optimizer, Error>,
    begin: [f64; S],
    formula: impl Fn(&mut [f64], &[f64], &mut [[f64; S]], i32),
) {
    let store = store(Kind::Double);
    let mut optimizer = build(&store).unwrap();
    let params = variables(&store);
    let (mut expected, mut kept) = (values(&params[0]), vec![begin; 1200]);
    for step in 0..10 {
        let pull = values(&numbers(step, SHAPES[0], Kind::Double));
        let grads: Vec<_> = expected.iter().zip(pull).map(|(param, pull)| pull + param).collect();
        formula(&mut expected, &grads, &mut kept, step as i32 + 1);
        optimizer.backward_step(&loss(&params, step)).unwrap();
    }
    let far = values(&params[0]).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(far < 1e-14, "{far:e}");
}

#[test]
fn adadelta_by_hand() {
    let options = Adadelta { rho: 0.8, eps: 1e-3, weight_decay: 0.1, ..Adadelta::default() };
    by_hand(
        |store| options.build(store, 2.0),
        [0.0; 2],
        |param, grad, [squares, updates], _| {
            let grad = grad + 0.1 * param;
            *squares = 0.8 * *squares + 0.2 * grad * grad;
            let update = (*updates + 1e-3).sqrt() / (*squares + 1e-3).sqrt() * grad;
            *updates = 0.8 * *updates + 0.2 * update * update;
            param - 2.0 * update
        },
    );
}

#[test]
fn adamax_by_hand() {
    let options = Adamax { betas: [0.8, 0.9], eps: 1e-3, weight_decay: 0.1, ..Adamax::default() };
    by_hand(
        |store| options.build(store, 0.05),
        [0.0; 2],
        |param, grad, [mean, largest], step| {
            let grad = grad + 0.1 * param;
            *mean = 0.8 * *mean + 0.2 * grad;
            *largest = f64::max(0.9 * *largest, grad.abs() + 1e-3);
            param - 0.05 / (1.0 - 0.8_f64.powi(step)) * *mean / *largest
        },
    );
}

#[test]
fn radam_by_hand() {
    // The length of 0.9, 19 at the longest, is above 5 from the sixth step on.
    for decoupled_weight_decay in [false, true] {
        let options = RAdam { betas: [0.8, 0.9], eps: 1e-3, weight_decay: 0.1, ..RAdam::default() };
        by_hand(
            |store| RAdam { decoupled_weight_decay, ..options }.build(store, 0.05),
            [0.0; 2],
            |mut param, mut grad, [mean, square], step| {
                if decoupled_weight_decay {
                    param -= 0.05 * 0.1 * param;
                } else {
                    grad += 0.1 * param;
                }
                *mean = 0.8 * *mean + 0.2 * grad;
                *square = 0.9 * *square + 0.1 * grad * grad;
                let (powers, longest) = ([0.8_f64, 0.9].map(|beta| beta.powi(step)), 19.0);
                let length = longest - 2.0 * f64::from(step) * powers[1] / (1.0 - powers[1]);
                let mut update = *mean / (1.0 - powers[0]);
                if length > 5.0 {
                    let share = (length - 4.0) * (length - 2.0) * longest / (15.0 * 17.0 * length);
                    update *= (share * (1.0 - powers[1])).sqrt() / (square.sqrt() + 1e-3);
                }
                param - 0.05 * update
            },
        );
    }
}

#[test]
fn rprop_by_hand() {
    let options = Rprop { etas: [0.4, 1.3], step_sizes: [0.001, 0.08], ..Rprop::default() };
    by_hand(
        |store| options.build(store, 0.05),
        [0.0, 0.05],
        |param, grad, [before, size], _| {
            let turn = grad * *before;
            if turn != 0.0 {
                *size = (*size * if turn > 0.0 { 1.3 } else { 0.4 }).clamp(0.001, 0.08);
            }
            *before = if turn < 0.0 { 0.0 } else { grad };
            if *before == 0.0 { param } else { param - before.signum() * *size }
        },
    );
}

#[test]
fn lion_by_hand() {
    let options = Lion { betas: [0.8, 0.9], weight_decay: 0.1, ..Lion::default() };
    by_hand(
        |store| options.build(store, 0.05),
        [0.0],
        |param, grad, [mean], _| {
            let direction = 0.8 * *mean + 0.2 * grad;
            *mean = 0.9 * *mean + 0.1 * grad;
            param - 0.05 * (if direction == 0.0 { 0.0 } else { direction.signum() } + 0.1 * param)
        },
    );
}

#[test]
fn ademamix_by_hand() {
    let options = AdEMAMix { betas: [0.8, 0.9, 0.95], alpha: 3.0, eps: 1e-3, weight_decay: 0.1, ..AdEMAMix::default() };
    let half = |beta: f64| 0.5_f64.ln() / (beta + 1e-8).ln() - 1.0;
    by_hand(
        |store| AdEMAMix { beta3_warmup: Some(4.0), alpha_warmup: Some(3.0), ..options }.build(store, 0.05),
        [0.0; 3],
        |param, grad, [fast, slow, square], step| {
            let step = f64::from(step);
            let (share, alpha) = ((step / 4.0).min(1.0), 3.0 * (step / 3.0).min(1.0));
            let rising = 0.5_f64.powf(1.0 / ((1.0 - share) * half(0.8) + share * half(0.95) + 1.0));
            let beta3 = if share < 1.0 { rising } else { 0.95 };
            *fast = 0.8 * *fast + 0.2 * grad;
            *slow = beta3 * *slow + (1.0 - beta3) * grad;
            *square = 0.9 * *square + 0.1 * grad * grad;
            let root = (*square / (1.0 - 0.9_f64.powf(step))).sqrt() + 1e-3;
            param - 0.05 * ((*fast / (1.0 - 0.8_f64.powf(step)) + alpha * *slow) / root + 0.1 * param)
        },
    );
}

#[test]
fn late_and_missing_gradients() {
    let (left, right) = (store(Kind::Float), store(Kind::Float));
    let (mut ours, mut theirs) = (Adam::default().build(&left, 0.01).unwrap(), nn::Adam::default());
    theirs.eps = 1e-8;
    let mut theirs = theirs.build(&right, 0.01).unwrap();
    let (left, right) = (variables(&left), variables(&right));
    for step in 0..6 {
        // The first alone, then all, then all but the first.
        let range = [0..1, 0..5, 1..5][step as usize / 2].clone();
        ours.backward_step(&loss(&left[range.clone()], step)).unwrap();
        theirs.backward_step(&loss(&right[range], step));
    }
    assert!(furthest(&left, &right) < 1e-6);
    let before = left[0].copy();
    ours.zero_grad().unwrap();
    assert!(left.iter().all(|param| !param.grad().defined()));
    assert_eq!(ours.step().unwrap(), Outcome::Stepped);
    assert_eq!(left[0], before);
}

#[test]
fn variables_that_come_later_are_taken_up_with_their_groups() {
    let store = VarStore::new(Device::Cpu);
    let first = store.root().ones("first", &[3]);
    let mut optimizer = Sgd::default().build(&store, 0.1).unwrap();
    optimizer.set_schedule(&cosine(10.0)).unwrap();
    let path = store.root().set_group(2);
    let second = path.ones("second", &[3]);
    optimizer.backward_step(&(&first + &second).sum(Kind::Float)).unwrap();
    assert_eq!(optimizer.group_count(), 3);
    assert_eq!(values(&second), values(&(Tensor::ones([3], (Kind::Float, Device::Cpu)) - 0.1)));
    optimizer.advance().unwrap();
    assert_eq!(optimizer.lr(2).unwrap(), optimizer.lr(0).unwrap());
    assert!(optimizer.lr(2).unwrap() < 0.1);
}

fn cosine(steps: f64) -> Schedule {
    Schedule::new(Cosine { steps, floor: 0.0 }).unwrap()
}

fn leaf(values: &[f32]) -> Tensor {
    Tensor::from_slice(values).set_requires_grad(true)
}

fn named(params: &[(&str, &Tensor)]) -> Vec<(String, Tensor)> {
    params.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())).collect()
}

#[test]
fn groups_have_rates_and_options_of_their_own() {
    let (a, b) = (leaf(&[1.0, 2.0]), leaf(&[1.0, 2.0]));
    let plain = Sgd::default();
    let mut optimizer = Sgd::build_groups(vec![
        Group::new(named(&[("a", &a)]), 0.5, plain),
        Group::new(named(&[("b", &b)]), 0.25, Sgd { maximize: true, ..plain }),
    ])
    .unwrap();
    optimizer.backward_step(&(&a + &b).sum(Kind::Float)).unwrap();
    assert_eq!((values(&a), values(&b)), (vec![0.5, 1.5], vec![1.25, 2.25]));
    optimizer.set_group_lr(1, 1.0).unwrap();
    optimizer.step().unwrap();
    assert_eq!((values(&a), values(&b)), (vec![0.0, 1.0], vec![2.25, 3.25]));
    optimizer.set_lr(0.0).unwrap();
    optimizer.step().unwrap();
    assert_eq!((values(&a), values(&b)), (vec![0.0, 1.0], vec![2.25, 3.25]));
}

#[test]
fn schedules_set_rates_and_other_options() {
    let weight = leaf(&[1.0]);
    let empty = Group::new(named(&[]), 0.2, Adam::default());
    let first = Group::new(named(&[("weight", &weight)]), 0.1, Adam::default());
    let mut optimizer = Adam::build_groups(vec![first, empty]).unwrap();
    let warmup = Schedule::new(Warmup { steps: 4.0, start: 0.0, shape: Ramp::Linear }).unwrap();
    let rate = warmup.then(&cosine(10.0), None).unwrap();
    optimizer.set_schedule(&rate).unwrap();
    optimizer.set_group_schedule(1, "betas[0]", &cosine(3.0)).unwrap();
    for step in 0..20 {
        let step = f64::from(step);
        assert_eq!(optimizer.lr(0).unwrap(), rate.lr(0.1, step));
        assert_eq!(optimizer.lr(1).unwrap(), rate.lr(0.2, step));
        assert_eq!(optimizer.option(1, "betas[0]").unwrap(), cosine(3.0).lr(0.9, step));
        assert_eq!(optimizer.option(0, "betas[0]").unwrap(), 0.9);
        optimizer.advance().unwrap();
    }
    optimizer.seek(2.0).unwrap();
    assert_eq!(optimizer.lr(1).unwrap(), rate.lr(0.2, 2.0));
    // Another one begins from the same base.
    optimizer.set_schedule(&cosine(5.0)).unwrap();
    assert_eq!(optimizer.lr(0).unwrap(), 0.1);
}

#[test]
fn a_plateau_wants_a_metric_where_the_rate_depends_on_it() {
    let weight = leaf(&[1.0]);
    let group = Group::new(named(&[("weight", &weight)]), 1.0, Sgd::default());
    let mut optimizer = Sgd::build_groups(vec![group]).unwrap();
    let plateau = Plateau { factor: 0.5, patience: 0.0, ..Plateau::default() };
    let warmup = Schedule::new(Warmup { steps: 2.0, start: 0.0, shape: Ramp::Linear }).unwrap();
    let rate = warmup.then(&Schedule::new(plateau).unwrap(), None).unwrap();
    optimizer.set_schedule(&rate).unwrap();
    optimizer.advance().unwrap();
    optimizer.advance().unwrap();
    assert!(matches!(optimizer.advance(), Err(Error::MetricMissing { group: 0, .. })));
    assert_eq!(optimizer.lr(0).unwrap(), 1.0);
    optimizer.advance_with(3.0).unwrap();
    assert_eq!(optimizer.lr(0).unwrap(), 1.0);
    optimizer.advance_with(3.0).unwrap();
    assert_eq!(optimizer.lr(0).unwrap(), 0.5);
}

#[test]
fn clipping_is_that_of_torch() {
    let (left, right) = (store(Kind::Float), store(Kind::Float));
    let options = Sgd { max_grad_norm: Some(0.7), ..Sgd::default() };
    let mut ours = options.build(&left, 0.1).unwrap();
    let mut theirs = nn::Sgd::default().build(&right, 0.1).unwrap();
    let (left, right) = (variables(&left), variables(&right));
    for step in 0..5 {
        ours.backward_step(&loss(&left, step)).unwrap();
        assert!(ours.grad_norm().unwrap() > 10.0);
        theirs.backward_step_clip_norm(&loss(&right, step), 0.7);
    }
    assert!(furthest(&left, &right) < 1e-6);

    let (left, right) = (store(Kind::Float), store(Kind::Float));
    let mut ours = Sgd { clip_value: Some(0.3), ..Sgd::default() }.build(&left, 0.1).unwrap();
    let mut theirs = nn::Sgd::default().build(&right, 0.1).unwrap();
    let (left, right) = (variables(&left), variables(&right));
    ours.backward_step(&loss(&left, 3)).unwrap();
    theirs.backward_step_clip(&loss(&right, 3), 0.3);
    assert_eq!(ours.grad_norm(), None);
    assert!(furthest(&left, &right) < 1e-7);
}

#[test]
fn a_norm_that_is_not_finite() {
    for (nonfinite_norm, expected) in [
        (Nonfinite::Propagate, Ok(Outcome::Stepped)),
        (Nonfinite::Skip, Ok(Outcome::Skipped)),
        (Nonfinite::Raise, Err("the total norm of the gradients is inf")),
    ] {
        let weight = leaf(&[1.0, 2.0]);
        let options = Sgd { max_grad_norm: Some(1.0), nonfinite_norm, momentum: 0.5, ..Sgd::default() };
        let group = Group::new(named(&[("weight", &weight)]), 1.0, options);
        let mut optimizer = Sgd::build_groups(vec![group]).unwrap();
        (&weight * Tensor::from_slice(&[f32::INFINITY, 1.0])).sum(Kind::Float).backward();
        match (optimizer.step(), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.to_string().starts_with(expected), "{found}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
        let moved = nonfinite_norm == Nonfinite::Propagate;
        assert_eq!(values(&weight)[1], 2.0);
        assert_eq!(values(&weight)[0].is_nan(), moved);
        // A step that was not done has left no state: the next is the first.
        if !moved {
            optimizer.backward_step(&weight.sum(Kind::Float)).unwrap();
            let scale = 1.0 / 2.0_f64.sqrt();
            assert!((values(&weight)[0] - (1.0 - scale)).abs() < 1e-6);
        }
    }
}

#[test]
fn a_norm_that_nothing_is_clipped_to() {
    let outcome = |options: Sgd, gradient: [f32; 2]| {
        let weight = leaf(&[1.0, 2.0]);
        let mut optimizer = Sgd::build_groups(vec![Group::new(named(&[("weight", &weight)]), 0.5, options)]).unwrap();
        (&weight * Tensor::from_slice(&gradient)).sum(Kind::Float).backward();
        let outcome = optimizer.step();
        let norm = optimizer.grad_norm();
        (outcome.map_err(|error| error.to_string()), norm, values(&weight))
    };
    let (plain, still) = (Sgd::default(), vec![1.0, 2.0]);
    let above = |most| Sgd { skip_grad_norm: Some(most), ..plain };
    assert_eq!(outcome(above(4.9), [3.0, 4.0]), (Ok(Outcome::Skipped), Some(5.0), still.clone()));
    assert_eq!(outcome(above(5.0), [3.0, 4.0]), (Ok(Outcome::Stepped), Some(5.0), vec![-0.5, 0.0]));
    let clipped = Sgd { max_grad_norm: Some(2.5), ..above(5.0) };
    let (stepped, norm, moved) = outcome(clipped, [3.0, 4.0]);
    assert_eq!((stepped, norm), (Ok(Outcome::Stepped), Some(5.0)));
    assert!((moved[0] - 0.25).abs() < 1e-6);
    let (skipped, norm, moved) = outcome(above(5.0), [f32::NAN, 4.0]);
    assert_eq!((skipped, norm.map(f64::is_nan), moved), (Ok(Outcome::Skipped), Some(true), still.clone()));
    let skips = Sgd { nonfinite_norm: Nonfinite::Skip, ..plain };
    assert_eq!(outcome(skips, [f32::INFINITY, 4.0]), (Ok(Outcome::Skipped), Some(f64::INFINITY), still.clone()));
    assert_eq!(outcome(skips, [3.0, 4.0]).1, Some(5.0));
    let raises = Sgd { nonfinite_norm: Nonfinite::Raise, ..plain };
    let said = "the total norm of the gradients is inf; expected a finite norm under nonfinite_norm=\"raise\"";
    assert_eq!(outcome(raises, [f32::INFINITY, 4.0]), (Err(said.to_owned()), None, still));
    assert_eq!(outcome(plain, [3.0, 4.0]).1, None);
    let zero = Group::new(named(&[("weight", &leaf(&[1.0]))]), 0.5, above(0.0));
    let error = Sgd::build_groups(vec![zero]).unwrap_err();
    assert_eq!(error.to_string(), "group 0: skip_grad_norm is 0, expected None or a number > 0");
}

#[test]
fn a_coefficient_that_is_not_finite_is_an_error_and_nothing_is_written() {
    let weight = leaf(&[1.0, 2.0]);
    let group = Group::new(named(&[("weight", &weight)]), f64::INFINITY, Adam::default());
    let mut optimizer = Adam::build_groups(vec![group]).unwrap();
    let error = optimizer.backward_step(&weight.sum(Kind::Float)).unwrap_err();
    let said = "parameter \"weight\": option \"lr\" makes \"rate\" inf in step 1, expected a finite number";
    assert_eq!(error.to_string(), said);
    assert_eq!(values(&weight), [1.0, 2.0]);
    optimizer.set_lr(0.5).unwrap();
    optimizer.step().unwrap();
    assert!((values(&weight)[0] - 0.5).abs() < 1e-6);
}

/// A variant of a tensor with the same elements and other strides.
fn transposed(tensor: &Tensor) -> Tensor {
    tensor.detach().tr().contiguous().tr()
}

#[test]
fn any_layout_and_type() {
    // Transposed and with gaps, against contiguous: the same bits.
    let start = numbers(5, &[20, 30], Kind::Float);
    let gaps = Tensor::zeros([20, 61], (Kind::Float, Device::Cpu));
    let mut inner = gaps.narrow(1, 0, 60).slice(1, 0, 60, 2);
    inner.copy_(&start);
    let layouts = [start.copy(), transposed(&start), inner];
    let mut results = Vec::new();
    for layout in layouts {
        let param = layout.set_requires_grad(true);
        let group = Group::new(named(&[("p", &param)]), 0.01, AdamW::default());
        let mut optimizer = AdamW::build_groups(vec![group]).unwrap();
        for step in 0..5 {
            optimizer.backward_step(&loss(&[param.shallow_clone()], step)).unwrap();
        }
        results.push(param.detach().contiguous());
    }
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
    // What lies between stays.
    assert_eq!(gaps.slice(1, 1, 61, 2).abs().sum(Kind::Double).double_value(&[]), 0.0);

    // 16-bit types: within a rounding of the same step in f32 on the same elements.
    for (kind, bound) in [(Kind::BFloat16, 4e-3), (Kind::Half, 5e-4)] {
        let narrow = numbers(5, &[300], kind).set_requires_grad(true);
        let wide = narrow.detach().to_kind(Kind::Float).set_requires_grad(true);
        for param in [&narrow, &wide] {
            let group = Group::new(named(&[("p", param)]), 0.01, Sgd::default());
            let mut optimizer = Sgd::build_groups(vec![group]).unwrap();
            (param * 3.0).sum(Kind::Float).backward();
            optimizer.step().unwrap();
        }
        let far = furthest(&[narrow.shallow_clone()], &[wide]);
        assert!(far > 0.0 && far <= bound, "{kind:?} {far}");
    }

    // Complex numbers count as their parts.
    let parts = numbers(6, &[7, 2], Kind::Float);
    let (complex, real) =
        (parts.view_as_complex().copy().set_requires_grad(true), parts.copy().set_requires_grad(true));
    for param in [&complex, &real] {
        let group = Group::new(named(&[("p", param)]), 0.01, Adagrad::default());
        let mut optimizer = Adagrad::build_groups(vec![group]).unwrap();
        let view = if param.is_complex() { param.view_as_real() } else { param.shallow_clone() };
        optimizer.backward_step(&(&view * &view).sum(Kind::Float)).unwrap();
    }
    assert_eq!(complex.detach().view_as_real(), real.detach());
}

#[test]
fn a_store_that_changes_its_type() {
    let mut store = VarStore::new(Device::Cpu);
    let weight = store.root().ones("weight", &[3]);
    let mut optimizer = Adam::default().build(&store, 0.1).unwrap();
    optimizer.backward_step(&weight.sum(Kind::Float)).unwrap();
    store.bfloat16();
    optimizer.backward_step(&weight.sum(Kind::Float)).unwrap();
    assert_eq!(weight.kind(), Kind::BFloat16);
    assert!(values(&weight).iter().all(|value| (value - 0.8).abs() < 4e-3));
}

#[test]
fn autograd_notices_that_a_parameter_was_written() {
    let weight = leaf(&[1.0, 2.0]);
    let group = Group::new(named(&[("weight", &weight)]), 0.1, Sgd::default());
    let mut optimizer = Sgd::build_groups(vec![group]).unwrap();
    let loss = weight.square().sum(Kind::Float);
    loss.f_run_backward_of(&weight);
    optimizer.step().unwrap();
    let error = loss.f_backward().unwrap_err();
    assert!(error.to_string().contains("modified by an inplace operation"), "{error}");
}

/// A gradient that leaves the graph in place.
trait KeptGraph {
    fn f_run_backward_of(&self, param: &Tensor);
}

impl KeptGraph for Tensor {
    fn f_run_backward_of(&self, param: &Tensor) {
        let grads = Tensor::run_backward(&[self], &[param], true, false);
        (param * &grads[0]).sum(Kind::Float).backward();
    }
}

#[test]
fn threads_do_not_change_the_bits() {
    let run = |threads| {
        tch::set_num_threads(threads);
        let param = numbers(1, &[300, 1000], Kind::Float).set_requires_grad(true);
        let options = Adam { max_grad_norm: Some(1.0), ..Adam::default() };
        let group = Group::new(named(&[("p", &param)]), 0.01, options);
        let mut optimizer = Adam::build_groups(vec![group]).unwrap();
        for step in 0..3 {
            // torch's own backward pass may depend on the threads.
            tch::set_num_threads(1);
            optimizer.zero_grad().unwrap();
            loss(&[param.shallow_clone()], step).backward();
            tch::set_num_threads(threads);
            optimizer.step().unwrap();
        }
        tch::set_num_threads(1);
        param.detach()
    };
    let alone = run(1);
    for threads in [2, 3, 7] {
        assert_eq!(alone, run(threads), "{threads}");
    }
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_written() {
    let cpu = (Kind::Float, Device::Cpu);
    let sgd =
        |params: &[(&str, &Tensor)], options: Sgd| Sgd::build_groups(vec![Group::new(named(params), 0.1, options)]);
    let said = |result: Result<Optimizer, Error>| result.err().map(|error| error.to_string()).unwrap_or_default();
    let (a, b) = (leaf(&[1.0]), leaf(&[2.0]));
    let plain = Sgd::default();
    assert_eq!(said(Sgd::build_groups(vec![])), "there are no groups, expected at least one");
    assert_eq!(said(sgd(&[], plain)), "there are no parameters, expected at least one");
    assert_eq!(said(sgd(&[("a", &a), ("a", &b)], plain)), "parameter \"a\" is there twice: its name is that of \"a\"");
    assert_eq!(
        said(sgd(&[("a", &a), ("b", &a)], plain)),
        "parameter \"b\" is there twice: its tensor is that of \"a\""
    );
    assert_eq!(
        said(sgd(&[("a", &(&a * 2))], plain)),
        "parameter \"a\": param is the result of an operation, expected a leaf of the graph"
    );
    assert_eq!(said(sgd(&[("a", &Tensor::new())], plain)), "parameter \"a\": param is undefined, expected a tensor");
    assert_eq!(
        said(sgd(&[("a", &a)], Sgd { nesterov: true, ..plain })),
        "group 0: nesterov is true, expected false where momentum is 0 or dampening is not"
    );
    assert_eq!(
        said(sgd(&[("a", &a)], Sgd { momentum: f64::NAN, ..plain })),
        "group 0: momentum is NaN, expected a number >= 0"
    );
    assert_eq!(
        said(sgd(&[("a", &a)], Sgd { clip_value: Some(-1.0), ..plain })),
        "group 0: clip_value is -1, expected None or a number >= 0"
    );
    let adam = Adam { betas: [0.9, 1.0], ..Adam::default() };
    let group = Group::new(named(&[("a", &a)]), 0.1, adam);
    assert_eq!(
        said(Adam::build_groups(vec![group])),
        "group 0: betas is [0.9, 1.0], expected two numbers >= 0 and < 1"
    );

    let mut optimizer = sgd(&[("a", &a)], plain).unwrap();
    let said = |result: Result<(), Error>| result.err().map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(said(optimizer.set_lr(-1.0)), "group 0: lr is -1, expected a number >= 0");
    assert_eq!(said(optimizer.set_group_lr(1, 1.0)), "group is 1, expected a number below 1");
    let unknown = said(optimizer.set_option(0, "betas[0]", 0.5));
    assert_eq!(
        unknown,
        "group 0: there is no option \"betas[0]\" that is a number, expected one of [\"lr\", \"momentum\", \"dampening\", \"weight_decay\"]"
    );
    assert!(matches!(optimizer.set_option(0, "nesterov", 1.0), Err(Error::UnknownOption { .. })));
    assert_eq!(said(optimizer.seek(-1.0)), "step is -1, expected a finite number >= 0");
    let negative = Schedule::new(torchpace::schedule::Constant { factor: -1.0 }).unwrap();
    assert_eq!(said(optimizer.set_schedule(&negative)), "group 0: lr is -0.1, expected a number >= 0");
    assert_eq!(optimizer.lr(0).unwrap(), 0.1);

    // Tensors that no step can be taken on: the good one before them stays as it is.
    let table = numbers(1, &[5, 3], Kind::Float).set_requires_grad(true);
    let rows = Tensor::embedding(&table, &Tensor::from_slice(&[1_i64, 3]), -1, false, true);
    (rows.sum(Kind::Float) + a.sum(Kind::Float)).backward();
    let mut optimizer = sgd(&[("a", &a), ("table", &table)], plain).unwrap();
    let error = optimizer.step().unwrap_err();
    assert!(error.to_string().starts_with("parameter \"table\": grad is not plain memory ("), "{error}");
    assert!(!error.to_string().contains('\n'));
    assert_eq!(values(&a), [1.0]);

    let expanded = Tensor::ones([1], cpu).expand([4], false).set_requires_grad(true);
    let mut optimizer = sgd(&[("e", &expanded)], plain).unwrap();
    expanded.sum(Kind::Float).backward();
    let error = optimizer.step().unwrap_err();
    assert!(matches!(error, Error::Step(torchpace::error::Error::SelfOverlap { .. })), "{error}");

    let both = Tensor::ones([6], cpu);
    let (left, right) = (both.narrow(0, 0, 4), both.narrow(0, 2, 4));
    let (left, right) = (left.set_requires_grad(true), right.set_requires_grad(true));
    let mut optimizer = sgd(&[("left", &left), ("right", &right)], plain).unwrap();
    assert!(matches!(optimizer.backward_step(&(&left + &right).sum(Kind::Float)), Err(Error::SharedMemory)));
    assert_eq!(values(&both), [1.0; 6]);

    let far = Tensor::f_zeros([2], (Kind::Float, Device::Mps));
    assert!(far.is_err(), "this test knows no machine with such a device");

    let loss = Tensor::ones([2], cpu);
    let error = optimizer.backward_step(&loss).unwrap_err();
    assert!(matches!(&error, Error::Torch { message } if !message.is_empty()), "{error}");
}

#[test]
fn a_group_without_gradients_may_clip_otherwise() {
    let (a, b) = (leaf(&[1.0]), leaf(&[1.0]));
    let options = Sgd { max_grad_norm: Some(1.0), ..Sgd::default() };
    let mut optimizer = Sgd::build_groups(vec![
        Group::new(named(&[("a", &a)]), 0.1, options),
        Group::new(named(&[("b", &b)]), 0.1, Sgd::default()),
    ])
    .unwrap();
    optimizer.backward_step(&a.sum(Kind::Float)).unwrap();
    let error = optimizer.backward_step(&(&a + &b).sum(Kind::Float)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "group 1: option \"max_grad_norm\" is None, expected 1 as in the groups before: there is one for all"
    );
}

#[test]
fn a_group_added_later_counts_its_own_steps() {
    let (first, late) = (leaf(&[1.0, -2.0]), leaf(&[0.5]));
    let group = |name: &str, param: &Tensor, lr| {
        let options = Adam { weight_decay: 0.1, ..Adam::default() };
        Group::new(named(&[(name, param)]), lr, options)
    };
    let mut optimizer = Adam::build_groups(vec![group("first", &first, 0.1)]).unwrap();
    for _ in 0..3 {
        optimizer.backward_step(&first.square().sum(Kind::Float)).unwrap();
    }
    // What is wrong changes nothing.
    let wrong = Adam::build_groups(vec![]);
    assert!(matches!(wrong, Err(Error::Empty { .. })));
    let sgd = Group::new(named(&[("late", &late)]), 0.1, Sgd::default());
    assert_eq!(
        optimizer.add_group(sgd).unwrap_err().to_string(),
        "group 1: rule is sgd, expected that of the other groups"
    );
    assert!(matches!(optimizer.add_group(group("late", &late, -1.0)), Err(Error::Option { group: 1, .. })));
    assert!(matches!(optimizer.add_group(group("late", &first, 0.1)), Err(Error::Duplicate { what: "tensor", .. })));
    assert!(matches!(optimizer.add_group(group("first", &late, 0.1)), Err(Error::Duplicate { what: "name", .. })));
    let twice = Group::new(named(&[("a", &late), ("b", &late)]), 0.1, Adam::default());
    assert!(matches!(optimizer.add_group(twice), Err(Error::Duplicate { what: "tensor", .. })));
    assert_eq!(optimizer.group_count(), 1);

    optimizer.add_group(group("late", &late, 0.2)).unwrap();
    let twin = leaf(&[0.5]);
    let mut alone = Adam::build_groups(vec![group("late", &twin, 0.2)]).unwrap();
    for _ in 0..3 {
        optimizer.backward_step(&(first.square().sum(Kind::Float) + late.square().sum(Kind::Float))).unwrap();
        alone.backward_step(&twin.square().sum(Kind::Float)).unwrap();
    }
    assert_eq!(values(&late), values(&twin));

    // A file has it too.
    let path = file("late-group");
    optimizer.save(&path).unwrap();
    let mut again = Adam::build_groups(vec![group("first", &first, 0.1), group("late", &late, 0.5)]).unwrap();
    again.load(&path).unwrap();
    assert_eq!(again.lr(1).unwrap(), 0.2);
    std::fs::remove_file(path).unwrap();
}

fn file(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("torchpace-test-{}-{name}.safetensors", std::process::id()))
}

#[test]
fn a_run_goes_on_from_a_file_as_if_it_had_not_stopped() {
    let path = file("resume");
    for kind in [Kind::Float, Kind::BFloat16, Kind::Double] {
        let (whole, halved) = (store(kind), store(kind));
        let options = RmsProp { momentum: 0.9, centered: true, max_grad_norm: Some(5.0), ..RmsProp::default() };
        let mut first = options.build(&whole, 0.01).unwrap();
        first.set_schedule(&cosine(20.0)).unwrap();
        let params = variables(&whole);
        let run = |optimizer: &mut Optimizer, params: &[Tensor], steps: std::ops::Range<i64>| {
            for step in steps {
                optimizer.backward_step(&loss(params, step)).unwrap();
                optimizer.advance().unwrap();
            }
        };
        run(&mut first, &params, 0..10);
        let mut second = options.build(&halved, 0.5).unwrap();
        second.set_schedule(&cosine(20.0)).unwrap();
        first.save(&path).unwrap();
        second.load(&path).unwrap();
        assert_eq!(second.lr(0).unwrap(), first.lr(0).unwrap());
        let copies = variables(&halved);
        tch::no_grad(|| copies.iter().zip(&params).for_each(|(to, from)| to.shallow_clone().copy_(from)));
        run(&mut first, &params, 10..15);
        run(&mut second, &copies, 10..15);
        assert_eq!(second.lr(0).unwrap(), first.lr(0).unwrap());
        assert!(params.iter().zip(&copies).all(|(left, right)| left == right), "{kind:?}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn complex_state_and_any_layout_come_back_from_a_file() {
    let path = file("complex");
    let complex = numbers(3, &[6, 5, 2], Kind::Float).view_as_complex().copy();
    for start in [complex, transposed(&numbers(4, &[6, 5], Kind::Half))] {
        let (first, second) = (start.copy().set_requires_grad(true), start.copy().set_requires_grad(true));
        let make = |param: &Tensor| {
            let options = Adagrad { initial_accumulator_value: 0.5, ..Adagrad::default() };
            Adagrad::build_groups(vec![Group::new(named(&[("p", param)]), 0.1, options)]).unwrap()
        };
        let step = |optimizer: &mut Optimizer, param: &Tensor| {
            optimizer.backward_step(&(param * param.conj()).abs().sum(Kind::Float)).unwrap();
        };
        let (mut whole, mut other) = (make(&first), make(&second));
        step(&mut whole, &first);
        whole.save(&path).unwrap();
        other.load(&path).unwrap();
        tch::no_grad(|| second.shallow_clone().copy_(&first));
        step(&mut whole, &first);
        step(&mut other, &second);
        assert_eq!(first.detach(), second.detach());
        assert!(first.detach() != start);
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_file_that_does_not_fit_changes_nothing() {
    let path = file("unfit");
    let (a, b) = (leaf(&[1.0, 2.0]), leaf(&[1.0, 2.0, 3.0]));
    let make =
        |params: &[(&str, &Tensor)]| Adam::build_groups(vec![Group::new(named(params), 0.1, Adam::default())]).unwrap();
    let mut optimizer = make(&[("a", &a)]);
    optimizer.backward_step(&a.sum(Kind::Float)).unwrap();
    optimizer.set_lr(0.7).unwrap();
    optimizer.save(&path).unwrap();
    let said = |optimizer: &mut Optimizer| {
        let error = optimizer.load(&path).unwrap_err().to_string();
        assert_eq!(optimizer.lr(0).unwrap(), 0.1);
        error.replace(&path.display().to_string(), "file")
    };
    let other = |expected: &str| format!("file: {expected}");
    assert_eq!(
        said(&mut make(&[("b", &b)])),
        other("parameter \"a\" of group 0 is unknown, expected one of the optimizer")
    );
    assert_eq!(said(&mut make(&[("a", &b)])), "parameter \"a\": exp_avg has shape [2], expected [3]");
    assert_eq!(said(&mut make(&[("a", &a), ("b", &b)])), other("the number of parameters in group 0 is 1, expected 2"));
    let group = Group::new(named(&[("a", &a)]), 0.1, Sgd::default());
    assert_eq!(said(&mut Sgd::build_groups(vec![group]).unwrap()), other("rule is adam, expected sgd"));
    std::fs::write(&path, b"no safetensors").unwrap();
    assert!(said(&mut make(&[("a", &a)])).starts_with("file: the file is "));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(make(&[("a", &a)]).load(&path), Err(Error::Io { .. })));
    assert!(matches!(make(&[("a", &a)]).save("/no/such/folder/x.safetensors"), Err(Error::Io { .. })));
}

#[test]
fn an_optimizer_may_go_to_another_thread() {
    let weight = leaf(&[1.0]);
    let group = Group::new(named(&[("weight", &weight)]), 0.5, Sgd::default());
    let mut optimizer = Sgd::build_groups(vec![group]).unwrap();
    grad(&[weight.shallow_clone()], 1);
    let before = values(&weight)[0];
    std::thread::spawn(move || optimizer.step().map(drop).map_err(|error| error.to_string())).join().unwrap().unwrap();
    assert!(values(&weight)[0] != before);
}

#[test]
fn the_readme_has_the_program_that_make_test_tch_runs() {
    let (_, program) = include_str!("../examples/first.rs").split_once("\n\n").unwrap();
    let readme = include_str!("../README.md");
    assert!(readme.contains(&format!("```rust\n{program}```\n")), "README.md has not the text of examples/first.rs");
}

/// A run of ten steps, as tests/turns.py does it in Python.
struct Run {
    store: VarStore,
    optimizer: Optimizer,
}

type Build = Box<dyn Fn(&VarStore) -> Result<Optimizer, Error>>;

impl Run {
    fn new(kind: Kind, build: &Build) -> Self {
        let store = store(kind);
        let optimizer = build(&store).unwrap();
        Self { store, optimizer }
    }

    fn resume(&mut self, folder: &Path, name: &str) {
        for (name, value) in Tensor::read_safetensors(folder.join(format!("{name}-weights.safetensors"))).unwrap() {
            tch::no_grad(|| self.store.root().get(&name).unwrap().copy_(&value));
        }
        self.optimizer.load(folder.join(format!("{name}.safetensors"))).unwrap();
    }

    fn steps(&mut self, steps: std::ops::Range<i64>) {
        self.optimizer.set_schedule(&cosine(20.0)).unwrap();
        self.optimizer.seek(steps.start as f64).unwrap();
        let params = variables(&self.store);
        for step in steps {
            self.optimizer.backward_step(&loss(&params, step)).unwrap();
            self.optimizer.advance().unwrap();
        }
    }

    fn weights(&self) -> Vec<(String, Tensor)> {
        let named = self.store.variables().into_iter().map(|(name, value)| (name, value.detach()));
        let mut named: Vec<_> = named.collect();
        named.sort_by(|left, right| left.0.cmp(&right.0));
        named
    }

    fn save(&self, folder: &Path, name: &str) {
        Tensor::write_safetensors(&self.weights(), folder.join(format!("{name}-weights.safetensors"))).unwrap();
        self.optimizer.save(folder.join(format!("{name}.safetensors"))).unwrap();
    }
}

/// That two files hold the same tensors, to the bit.
fn same(folder: &Path, left: &str, right: &str) {
    let read = |name: &str| {
        let mut tensors = Tensor::read_safetensors(folder.join(format!("{name}.safetensors"))).unwrap();
        tensors.sort_by(|left, right| left.0.cmp(&right.0));
        tensors
    };
    let (left_tensors, right_tensors) = (read(left), read(right));
    assert!(!left_tensors.is_empty());
    assert_eq!(left_tensors.len(), right_tensors.len());
    for ((left_name, left_tensor), (right_name, right_tensor)) in left_tensors.iter().zip(&right_tensors) {
        assert_eq!(left_name, right_name);
        assert_eq!(left_tensor.kind(), right_tensor.kind(), "{left_name}");
        assert!(left_tensor == right_tensor, "{}: {left_name} of {left} and {right} differ", folder.display());
    }
}

const NAMES: [&str; 3] = ["own", "none", "one"];

#[test]
#[ignore = "needs Python with the package installed: make test-rust runs it"]
fn python_and_rust_take_turns() {
    tch::set_num_threads(1);
    let root = std::env::temp_dir().join(format!("torchpace-turns-{}", std::process::id()));
    let builds: Vec<(&str, &str, Build)> = vec![
        (
            "SGD",
            r#"{"lr": 0.01, "momentum": 0.9, "nesterov": true, "weight_decay": 0.1}"#,
            Box::new(|s| Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.1, ..Sgd::default() }.build(s, 0.01)),
        ),
        (
            "SGD",
            r#"{"lr": 0.01, "momentum": 0.5, "averaged": true, "maximize": true, "clip_value": 0.5}"#,
            Box::new(|s| {
                let clip_value = Some(0.5);
                Sgd { momentum: 0.5, averaged: true, maximize: true, clip_value, ..Sgd::default() }.build(s, 0.01)
            }),
        ),
        (
            "RMSprop",
            r#"{"lr": 0.02, "alpha": 0.9, "momentum": 0.5, "centered": true, "eps_inside": true}"#,
            Box::new(|s| {
                let options = RmsProp { alpha: 0.9, momentum: 0.5, centered: true, ..RmsProp::default() };
                RmsProp { eps_inside: true, ..options }.build(s, 0.02)
            }),
        ),
        (
            "Adagrad",
            r#"{"lr": 0.05, "lr_decay": 0.1, "initial_accumulator_value": 0.3, "mean": true}"#,
            Box::new(|s| {
                let initial_accumulator_value = 0.3;
                Adagrad { lr_decay: 0.1, initial_accumulator_value, mean: true, ..Adagrad::default() }.build(s, 0.05)
            }),
        ),
        (
            "Adam",
            r#"{"lr": 0.01, "betas": [0.8, 0.9], "amsgrad": true, "weight_decay": 0.1, "max_grad_norm": 1.0}"#,
            Box::new(|s| {
                let options = Adam { betas: [0.8, 0.9], amsgrad: true, weight_decay: 0.1, ..Adam::default() };
                Adam { max_grad_norm: Some(1.0), ..options }.build(s, 0.01)
            }),
        ),
        ("AdamW", r#"{"lr": 0.01}"#, Box::new(|s| AdamW::default().build(s, 0.01))),
        (
            "Adadelta",
            r#"{"lr": 2.0, "rho": 0.8, "eps": 0.001, "weight_decay": 0.1}"#,
            Box::new(|s| Adadelta { rho: 0.8, eps: 1e-3, weight_decay: 0.1, ..Adadelta::default() }.build(s, 2.0)),
        ),
        (
            "Adamax",
            r#"{"lr": 0.01, "betas": [0.8, 0.9], "weight_decay": 0.1}"#,
            Box::new(|s| Adamax { betas: [0.8, 0.9], weight_decay: 0.1, ..Adamax::default() }.build(s, 0.01)),
        ),
        (
            "RAdam",
            r#"{"lr": 0.01, "betas": [0.8, 0.9], "weight_decay": 0.1, "decoupled_weight_decay": true}"#,
            Box::new(|s| {
                let options = RAdam { betas: [0.8, 0.9], weight_decay: 0.1, ..RAdam::default() };
                RAdam { decoupled_weight_decay: true, ..options }.build(s, 0.01)
            }),
        ),
        (
            "Rprop",
            r#"{"lr": 0.05, "etas": [0.4, 1.3], "step_sizes": [0.001, 0.08]}"#,
            Box::new(|s| Rprop { etas: [0.4, 1.3], step_sizes: [0.001, 0.08], ..Rprop::default() }.build(s, 0.05)),
        ),
        (
            "Lion",
            r#"{"lr": 0.01, "betas": [0.8, 0.9], "weight_decay": 0.1, "cautious_weight_decay": true}"#,
            Box::new(|s| {
                let options = Lion { betas: [0.8, 0.9], weight_decay: 0.1, ..Lion::default() };
                Lion { cautious_weight_decay: true, ..options }.build(s, 0.01)
            }),
        ),
        (
            "ScheduleFreeAdamW",
            r#"{"lr": 0.01, "betas": [0.8, 0.9], "weight_decay": 0.1, "warmup_steps": 12, "r": 0.5}"#,
            Box::new(|s| {
                let options = ScheduleFreeAdamW { betas: [0.8, 0.9], weight_decay: 0.1, ..Default::default() };
                ScheduleFreeAdamW { warmup_steps: 12.0, r: 0.5, ..options }.build(s, 0.01)
            }),
        ),
        (
            "Prodigy",
            r#"{"lr": 0.5, "betas": [0.8, 0.9], "weight_decay": 0.1, "d0": 0.01, "growth_rate": 2.0}"#,
            Box::new(|s| {
                let options = Prodigy { betas: [0.8, 0.9], weight_decay: 0.1, d0: 0.01, ..Prodigy::default() };
                Prodigy { growth_rate: 2.0, ..options }.build(s, 0.5)
            }),
        ),
        (
            "Prodigy",
            r#"{"lr": 1.0, "use_bias_correction": true, "d0": 0.01}"#,
            Box::new(|s| Prodigy { use_bias_correction: true, d0: 0.01, ..Prodigy::default() }.build(s, 1.0)),
        ),
        (
            "ScheduleFreeSGD",
            r#"{"lr": 0.05, "momentum": 0.8}"#,
            Box::new(|s| ScheduleFreeSgd { momentum: 0.8, ..Default::default() }.build(s, 0.05)),
        ),
        (
            "LAMB",
            r#"{"lr": 0.01, "betas": [0.8, 0.9], "weight_decay": 0.1, "trust_clip": true}"#,
            Box::new(|s| {
                Lamb { betas: [0.8, 0.9], weight_decay: 0.1, trust_clip: true, ..Lamb::default() }.build(s, 0.01)
            }),
        ),
        (
            "LARS",
            r#"{"lr": 2.0, "momentum": 0.8, "weight_decay": 0.1}"#,
            Box::new(|s| Lars { momentum: 0.8, weight_decay: 0.1, ..Lars::default() }.build(s, 2.0)),
        ),
        (
            "LARS",
            r#"{"lr": 0.01, "momentum": 0.8, "trust_coefficient": null}"#,
            Box::new(|s| Lars { momentum: 0.8, trust_coefficient: None, ..Lars::default() }.build(s, 0.01)),
        ),
        (
            "AdamW",
            r#"{"lr": 0.01, "cautious": true}"#,
            Box::new(|s| AdamW { cautious: true, ..AdamW::default() }.build(s, 0.01)),
        ),
        (
            "AdEMAMix",
            r#"{"lr": 0.01, "betas": [0.8, 0.9, 0.95], "alpha_warmup": 30, "weight_decay": 0.1}"#,
            Box::new(|s| {
                let options = AdEMAMix { betas: [0.8, 0.9, 0.95], weight_decay: 0.1, ..AdEMAMix::default() };
                AdEMAMix { alpha_warmup: Some(30.0), ..options }.build(s, 0.01)
            }),
        ),
        (
            "NAdam",
            r#"{"lr": 0.01, "betas": [0.8, 0.9], "weight_decay": 0.1, "momentum_decay": 0.3}"#,
            Box::new(|s| {
                let options = NAdam { betas: [0.8, 0.9], weight_decay: 0.1, ..NAdam::default() };
                NAdam { momentum_decay: 0.3, ..options }.build(s, 0.01)
            }),
        ),
        (
            "ASGD",
            r#"{"lr": 0.05, "lambd": 0.2, "alpha": 0.5, "t0": 3.0}"#,
            Box::new(|s| Asgd { lambd: 0.2, alpha: 0.5, t0: 3.0, ..Asgd::default() }.build(s, 0.05)),
        ),
    ];
    let kinds = [Kind::Float, Kind::Double, Kind::BFloat16];
    let mut cases = Vec::new();
    for (number, (class, options, build)) in builds.iter().enumerate() {
        for kind in kinds {
            // Without names, or where Python has one for all, parameters are found by their order.
            for names in NAMES {
                let name = format!("{number}-{kind:?}-{names}");
                let folder = root.join(&name);
                std::fs::create_dir_all(&folder).unwrap();
                cases.push(format!(
                    r#"{{"folder": "{name}", "class": "{class}", "options": {options}, "kind": "{kind:?}", "names": "{names}"}}"#
                ));
                let mut run = Run::new(kind, build);
                run.steps(0..5);
                run.save(&folder, "rust-half");
                run.steps(5..10);
                run.save(&folder, "rust-whole");
            }
        }
    }
    std::fs::write(root.join("cases.json"), format!("[{}]", cases.join(", "))).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/turns.py");
    let done = Command::new("python3").arg(script).arg(&root).status().unwrap();
    assert!(done.success());
    for (number, (_, _, build)) in builds.iter().enumerate() {
        for kind in kinds {
            for names in NAMES {
                let folder = root.join(format!("{number}-{kind:?}-{names}"));
                same(&folder, "rust-whole-weights", "python-whole-weights");
                same(&folder, "rust-whole-weights", "python-after-rust-weights");
                let mut run = Run::new(kind, build);
                run.resume(&folder, "python-half");
                run.steps(5..10);
                run.save(&folder, "rust-after-python");
                same(&folder, "rust-whole-weights", "rust-after-python-weights");
                same(&folder, "rust-whole", "rust-after-python");
                if names == "own" {
                    same(&folder, "rust-whole", "python-whole");
                    same(&folder, "rust-whole", "python-after-rust");
                }
            }
        }
    }
    std::fs::remove_dir_all(root).unwrap();
}
