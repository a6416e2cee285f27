//! Rules that need sums over a parameter, by hand.

use tch::{Device, Kind, Tensor, nn};
use torchpace::tch::{Error, Group, Lamb, Lars, Lion, Prodigy};

use super::{by_hand_whole, values};

fn norm(all: &[f64]) -> f64 {
    all.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn lamb_by_hand() {
    let options = Lamb { betas: [0.8, 0.9], eps: 1e-3, weight_decay: 0.1, ..Lamb::default() };
    by_hand_whole(
        |store| options.build(store, 0.05),
        [0.0; 2],
        |params, grads, kept, step| {
            let mut updates = Vec::new();
            for ((param, grad), [mean, square]) in params.iter().zip(grads).zip(kept) {
                *mean = 0.8 * *mean + 0.2 * grad;
                *square = 0.9 * *square + 0.1 * grad * grad;
                let root = (*square / (1.0 - 0.9_f64.powi(step))).sqrt() + 1e-3;
                updates.push(*mean / (1.0 - 0.8_f64.powi(step)) / root + 0.1 * param);
            }
            let rate = 0.05 * norm(params) / norm(&updates);
            params.iter_mut().zip(&updates).for_each(|(param, update)| *param -= rate * update);
        },
    );
}

#[test]
fn lars_by_hand() {
    let options = Lars { momentum: 0.8, weight_decay: 0.1, trust_coefficient: Some(0.02), ..Lars::default() };
    by_hand_whole(
        |store| options.build(store, 2.0),
        [0.0],
        |params, grads, kept, _| {
            let quotient = 0.02 * norm(params) / (norm(grads) + 0.1 * norm(params) + 1e-8);
            for ((param, grad), [buffer]) in params.iter_mut().zip(grads).zip(kept) {
                *buffer = 0.8 * *buffer + quotient * (grad + 0.1 * *param);
                *param -= 2.0 * *buffer;
            }
        },
    );
}

#[test]
fn cautious_lion_by_hand() {
    let options = Lion { betas: [0.8, 0.9], weight_decay: 0.1, cautious: true, ..Lion::default() };
    by_hand_whole(
        |store| options.build(store, 0.01),
        [0.0],
        |params, grads, kept, _| {
            let mut updates = Vec::new();
            for (grad, [mean]) in grads.iter().zip(kept) {
                let direction = 0.8 * *mean + 0.2 * grad;
                *mean = 0.9 * *mean + 0.1 * grad;
                updates.push(if direction * grad > 0.0 { direction.signum() } else { 0.0 });
            }
            let agreeing = updates.iter().filter(|update| **update != 0.0).count();
            let rate = 0.01 / (agreeing as f64 / updates.len() as f64).max(1e-3);
            for (param, update) in params.iter_mut().zip(&updates) {
                *param = *param * (1.0 - 0.01 * 0.1) - rate * update;
            }
        },
    );
}

#[test]
fn prodigy_by_hand() {
    let leaf = |name: &str| {
        let values = Tensor::arange(7, (Kind::Double, Device::Cpu)) * 0.3;
        (name.to_owned(), values.set_requires_grad(true))
    };
    let options = Prodigy { betas: [0.8, 0.9], beta3: Some(0.7), d0: 0.1, weight_decay: 0.1, ..Prodigy::default() };
    let (a, b) = (leaf("a"), leaf("b"));
    let params = [a.1.shallow_clone(), b.1.shallow_clone()];
    let mut optimizer = Prodigy::build_groups(vec![Group::new([a, b], 0.5, options)]).unwrap();
    let first: Vec<f64> = params.iter().flat_map(values).collect();
    let (mut expected, mut kept) = (first.clone(), vec![[0.0; 3]; 14]);
    let (mut d, mut numerator) = (0.1, 0.0);
    for _ in 0..10 {
        let (rate, mut gained, mut size) = (0.5 * d, 0.0, 0.0);
        for ((param, first), [mean, square, sum]) in expected.iter().zip(&first).zip(&mut kept) {
            let grad = 2.0 * (param - 3.0);
            *mean = 0.8 * *mean + d * 0.2 * grad;
            *square = 0.9 * *square + d * d * 0.1 * grad * grad;
            *sum = 0.7 * *sum + d / 0.1 * rate * grad;
            gained += d / 0.1 * rate * grad * (first - param);
            size += sum.abs();
        }
        numerator = 0.7 * numerator + gained;
        d = f64::max(d, numerator / size);
        for (param, [mean, square, _]) in expected.iter_mut().zip(&kept) {
            *param -= rate * (0.1 * *param + mean / (square.sqrt() + d * 1e-8));
        }
        let loss = |param: &Tensor| (param - 3.0).square().sum(Kind::Double);
        optimizer.backward_step(&(loss(&params[0]) + loss(&params[1]))).unwrap();
    }
    assert!(d > 0.1, "{d}");
    let own = optimizer.option(0, "d").unwrap();
    assert!((own / d - 1.0).abs() < 1e-12, "{own} {d}");
    let found: Vec<f64> = params.iter().flat_map(values).collect();
    let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(far < 1e-12, "{far:e}");
}

#[test]
fn what_prodigy_learns_is_of_all_groups() {
    let store = nn::VarStore::new(Device::Cpu);
    let [a, b] = ["a", "b"].map(|name| store.root().ones(name, &[3]));
    let group = |name: &str, param: &Tensor, options| Group::new([(name, param.shallow_clone())], 1.0, options);
    let options = Prodigy { d0: 0.01, ..Prodigy::default() };
    let mut optimizer = Prodigy::build_groups(vec![group("a", &a, options), group("b", &b, options)]).unwrap();
    for _ in 0..3 {
        optimizer.backward_step(&(a.square().sum(Kind::Float) + b.sum(Kind::Float))).unwrap();
    }
    let [first, second] = [0, 1].map(|group| optimizer.option(group, "d").unwrap());
    assert!(first > 0.01);
    assert_eq!(first, second);
    assert_eq!(optimizer.option(1, "k").unwrap(), 3.0);
    optimizer.set_option(1, "d_coef", 2.0).unwrap();
    let before = Tensor::cat(&[&a, &b], 0).copy();
    let error = optimizer.step().unwrap_err();
    assert!(matches!(error, Error::Step(torchpace::error::Error::GroupsDiffer { name: "d_coef", .. })), "{error}");
    assert_eq!(Tensor::cat(&[&a, &b], 0), before);
}
