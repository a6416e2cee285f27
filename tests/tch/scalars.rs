//! The rules whose state has numbers of a parameter, `f32` beside a parameter of any type.

use tch::Kind;
use tch::nn::VarStore;
use torchpace::tch::{Asgd, Error, NAdam, Optimizer};

use super::{SHAPES, loss, numbers, store, values, variables};

/// Ten steps beside `formula`, which makes the new parameters of the old, the gradients and the step from 1.
fn by_hand(build: impl Fn(&VarStore) -> Result<Optimizer, Error>, mut formula: impl FnMut(&mut [f64], &[f64], f64)) {
    let store = store(Kind::Double);
    let mut optimizer = build(&store).unwrap();
    let params = variables(&store);
    let mut expected = values(&params[0]);
    for step in 0..10 {
        let pull = values(&numbers(step, SHAPES[0], Kind::Double));
        let grads: Vec<f64> = pull.iter().zip(&expected).map(|(pull, param)| pull + param).collect();
        formula(&mut expected, &grads, step as f64 + 1.0);
        optimizer.backward_step(&loss(&params, step)).unwrap();
    }
    let far = values(&params[0]).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(far < 1e-14, "{far:e}");
}

#[test]
fn nadam_by_hand() {
    for decoupled_weight_decay in [false, true] {
        let options =
            NAdam { betas: [0.8, 0.9], eps: 1e-3, weight_decay: 0.1, momentum_decay: 0.3, ..NAdam::default() };
        let (mut product, mut slots) = (1.0_f32, vec![[0.0; 2]; 1200]);
        by_hand(
            |store| NAdam { decoupled_weight_decay, ..options }.build(store, 0.05),
            |params, grads, step| {
                let mu = |step: f64| 0.8 * (1.0 - 0.5 * 0.96_f64.powf(step * 0.3));
                let (now, next) = (mu(step), mu(step + 1.0));
                product *= now as f32;
                let product = f64::from(product);
                for ((param, &grad), [mean, square]) in params.iter_mut().zip(grads).zip(&mut slots) {
                    let mut grad = grad;
                    if decoupled_weight_decay {
                        *param -= 0.05 * 0.1 * *param;
                    } else {
                        grad += 0.1 * *param;
                    }
                    *mean = 0.8 * *mean + 0.2 * grad;
                    *square = 0.9 * *square + 0.1 * grad * grad;
                    let along = (1.0 - now) / (1.0 - product) * grad + next / (1.0 - product * next) * *mean;
                    *param -= 0.05 * along / ((*square / (1.0 - 0.9_f64.powf(step))).sqrt() + 1e-3);
                }
            },
        );
    }
}

#[test]
fn asgd_by_hand() {
    let options = Asgd { lambd: 0.2, alpha: 0.5, t0: 3.0, weight_decay: 0.1, ..Asgd::default() };
    let mut eta = 0.05_f32;
    by_hand(
        |store| options.build(store, 0.05),
        |params, grads, step| {
            let now = f64::from(eta);
            for (param, grad) in params.iter_mut().zip(grads) {
                *param -= now * (grad + 0.1 * *param + 0.2 * *param);
            }
            eta = (0.05 / (1.0 + 0.2 * 0.05 * step).powf(0.5)) as f32;
        },
    );
}
