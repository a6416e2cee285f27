//! Rules that need sums over a parameter, by hand.

use torchpace::tch::{Lamb, Lars, Lion};

use super::by_hand_whole;

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
