//! AdEMAMix.

use super::terms::{
    agreeing, count_agreeing, decoupled_decay, moving_average, moving_average_of_squares, rate_of_agreeing,
};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::{Quotient, Root, Value};
use crate::rule::{Options, Origin, Rule, SUMS};

/// AdEMAMix (Pagliardini, Ablin and Grangier, 2024, algorithm 1).
///
/// ```text
/// param *= 1 - lr * weight_decay              (if cautious, where it does not oppose the update)
/// m1 = beta1 * m1 + (1 - beta1) * grad
/// m2 = beta3_t * m2 + (1 - beta3_t) * grad
/// v = beta2 * v + (1 - beta2) * grad^2
/// u = m1 / (1 - beta1^t) + alpha_t * m2                                                  t counts steps from 1
/// u = u * (u * grad > 0) / max(mean(u * grad > 0), 0.001)                                 (cautious)
/// param -= lr * u / (sqrt(v / (1 - beta2^t)) + eps)
/// ```
///
/// `alpha_t` rises linearly to `alpha` over `alpha_warmup` steps, and `beta3_t` from `beta1` to `beta3` over
/// `beta3_warmup`, so that the steps after which an average has forgotten half rise linearly. Both are there at once
/// without a warmup.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdEMAMix {
    betas: [f64; 3],
    alpha: f64,
    /// In steps, 0 for none.
    beta3_warmup: f64,
    alpha_warmup: f64,
    eps: f64,
    weight_decay: f64,
    cautious_decay: bool,
    cautious: bool,
}

impl Rule<12, 3> for AdEMAMix {
    const NAME: &'static str = "ademamix";
    const COEFFS: [&'static str; 12] = [
        "lr",
        "beta1",
        "beta1_rest",
        "unbias_fast",
        "beta2",
        "beta2_rest",
        "unbias",
        "beta3",
        "beta3_rest",
        "alpha",
        "eps",
        "decay",
    ];
    const ORIGINS: [Origin; 12] = [
        Value("lr"),
        Value("betas[0]"),
        Value("betas[0]"),
        Quotient("betas[0]"),
        Value("betas[1]"),
        Value("betas[1]"),
        Root("betas[1]"),
        Value("betas[2]"),
        Value("betas[2]"),
        Value("alpha"),
        Value("eps"),
        Value("weight_decay"),
    ];
    const SLOTS: [&'static str; 3] = ["exp_avg_fast", "exp_avg_slow", "exp_avg_sq"];
    const COUNTED: bool = true;
    const HAS_SUMS: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        Ok(Self {
            betas: options.triple("betas")?,
            alpha: options.number("alpha")?,
            beta3_warmup: options.optional("beta3_warmup")?.unwrap_or(0.0),
            alpha_warmup: options.optional("alpha_warmup")?.unwrap_or(0.0),
            eps: options.number("eps")?,
            weight_decay: options.number("weight_decay")?,
            cautious_decay: options.extra("cautious_weight_decay")?,
            cautious: options.extra("cautious")?,
        })
    }

    fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; 12] {
        let one = N::lit(1.0);
        let [beta1, beta2, beta3] = self.betas.map(N::lit);
        // The share of a warmup that is done; where there is none, a step is beyond it.
        let warmed = |warmup: f64, during: &dyn Fn(N) -> N, after: N| {
            let warmup = N::lit(warmup);
            N::if_less(step, warmup, during(step / warmup), after)
        };
        let alpha = N::lit(self.alpha);
        let alpha = warmed(self.alpha_warmup, &|share| share * alpha, alpha);
        let [from, to] = [self.betas[0], self.betas[2]].map(|beta| N::lit(half_life(beta)));
        let rising = |share: N| N::lit(0.5).pow(one / ((one - share) * from + share * to + one));
        let beta3 = warmed(self.beta3_warmup, &rising, beta3);
        [
            lr,
            beta1,
            one - beta1,
            one / (one - beta1.pow(step)),
            beta2,
            one - beta2,
            one / (one - beta2.pow(step)).sqrt(),
            beta3,
            one - beta3,
            alpha,
            N::lit(self.eps),
            one - lr * N::lit(self.weight_decay),
        ]
    }

    fn needs_sums(&self) -> bool {
        self.cautious
    }

    #[inline(always)]
    fn summands<T: Number>(&self, coeffs: [T; 12], _param: T, grad: T, [fast, slow, _]: [T; 3]) -> [[T; 2]; SUMS] {
        count_agreeing(self.mixed(coeffs, grad, fast, slow).0, grad)
    }

    fn complete<N: Number>(&self, mut coeffs: [N; 12], [agreeing, _]: [N; SUMS], len: N) -> [N; 12] {
        coeffs[0] = rate_of_agreeing(coeffs[0], agreeing, len);
        coeffs
    }

    fn live(&self) -> [bool; 3] {
        [true; 3]
    }

    #[inline(always)]
    fn update<T: Number>(&self, coeffs: [T; 12], param: T, grad: T, [fast, slow, square]: [T; 3]) -> (T, [T; 3]) {
        let [lr, _, _, _, beta2, rest2, unbias2, _, _, _, eps, decay] = coeffs;
        let (mixed, [fast, slow]) = self.mixed(coeffs, grad, fast, slow);
        let square = moving_average_of_squares([beta2, rest2], square, grad);
        let direction = agreeing(self.cautious, mixed, grad) / square.sqrt().fma(unbias2, eps);
        let decays = self.weight_decay != 0.0;
        let param = if decays { decoupled_decay(self.cautious_decay, decay, param, direction) } else { param };
        ((-lr).fma(direction, param), [fast, slow, square])
    }
}

impl AdEMAMix {
    /// The fast average, corrected, with the slow one; and both as they are kept.
    #[inline(always)]
    fn mixed<T: Number>(
        &self,
        [_, beta1, rest1, unbias1, _, _, _, beta3, rest3, alpha, ..]: [T; 12],
        grad: T,
        fast: T,
        slow: T,
    ) -> (T, [T; 2]) {
        let fast = moving_average(self.betas[0], [beta1, rest1], fast, grad);
        let slow = moving_average(self.betas[2], [beta3, rest3], slow, grad);
        (unbias1.fma(fast, alpha * slow), [fast, slow])
    }
}

/// After how many steps an average with this decay has forgotten half, less one. The authors add 1e-8, so that a decay of 0
/// has one too; up to 1, so that one close to 1 has.
fn half_life(beta: f64) -> f64 {
    0.5_f64.ln() / (beta + 1e-8).min(1.0 - 1e-8).ln() - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(beta3_warmup: f64, alpha_warmup: f64) -> AdEMAMix {
        let betas = [0.9, 0.999, 0.9999];
        AdEMAMix {
            betas,
            alpha: 2.0,
            beta3_warmup,
            alpha_warmup,
            eps: 1e-8,
            weight_decay: 0.0,
            cautious_decay: false,
            cautious: false,
        }
    }

    #[test]
    fn nothing_rises_without_a_warmup() {
        let coeffs = rule(0.0, 0.0).coeffs(0.1, 1.0);
        assert_eq!([coeffs[7], coeffs[9]], [0.9999, 2.0]);
    }

    #[test]
    fn half_lives_and_alpha_rise_linearly() {
        let at = |step: f64| rule(1000.0, 500.0).coeffs(0.1, step);
        let [first, last] = [0.9, 0.9999].map(half_life);
        for (step, share) in [(1.0, 0.001), (250.0, 0.25), (999.0, 0.999)] {
            let expected = (1.0 - share) * first + share * last;
            assert!((0.5_f64.ln() / at(step)[7].ln() - 1.0 - expected).abs() < 1e-6 * last);
        }
        assert_eq!([at(250.0)[9], at(500.0)[9], at(501.0)[9]], [1.0, 2.0, 2.0]);
        assert_eq!([at(1000.0)[7], at(1e6)[7]], [0.9999; 2]);
    }
}
