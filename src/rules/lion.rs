//! Lion.

use super::terms::{agreeing, count_agreeing, decoupled_decay, moving_average, rate_of_agreeing, sign};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::Value;
use crate::rule::{Options, Origin, Rule, SUMS};

/// Lion (Chen et al., 2023, algorithm 2).
///
/// ```text
/// param *= 1 - lr * weight_decay              (if cautious, where it does not oppose the update)
/// u = sign(beta1 * m + (1 - beta1) * grad)
/// u = u * (u * grad > 0) / max(mean(u * grad > 0), 0.001)     (cautious)
/// param -= lr * u
/// m = beta2 * m + (1 - beta2) * grad
/// ```
///
/// Signs are those of `torch.sign`: of NaN it is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lion {
    beta1: f64,
    beta2: f64,
    weight_decay: f64,
    cautious_decay: bool,
    cautious: bool,
}

impl Rule<6, 1> for Lion {
    const NAME: &'static str = "lion";
    const COEFFS: [&'static str; 6] = ["lr", "beta1", "beta1_rest", "beta2", "beta2_rest", "decay"];
    const ORIGINS: [Origin; 6] = [
        Value("lr"),
        Value("betas[0]"),
        Value("betas[0]"),
        Value("betas[1]"),
        Value("betas[1]"),
        Value("weight_decay"),
    ];
    const SLOTS: [&'static str; 1] = ["exp_avg"];
    const COUNTED: bool = false;
    const HAS_SUMS: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        let [beta1, beta2] = options.pair("betas")?;
        Ok(Self {
            beta1,
            beta2,
            weight_decay: options.number("weight_decay")?,
            cautious_decay: options.extra("cautious_weight_decay")?,
            cautious: options.extra("cautious")?,
        })
    }

    fn coeffs<N: Number>(&self, lr: N, _step: N) -> [N; 6] {
        let (one, beta1, beta2) = (N::lit(1.0), N::lit(self.beta1), N::lit(self.beta2));
        [lr, beta1, one - beta1, beta2, one - beta2, one - lr * N::lit(self.weight_decay)]
    }

    fn needs_sums(&self) -> bool {
        self.cautious
    }

    #[inline(always)]
    fn summands<T: Number>(&self, [_, beta1, rest1, ..]: [T; 6], _param: T, grad: T, [mean]: [T; 1]) -> [[T; 2]; SUMS] {
        count_agreeing(moving_average(self.beta1, [beta1, rest1], mean, grad), grad)
    }

    fn complete<N: Number>(&self, mut coeffs: [N; 6], [agreeing, _]: [N; SUMS], len: N) -> [N; 6] {
        coeffs[0] = rate_of_agreeing(coeffs[0], agreeing, len);
        coeffs
    }

    fn live(&self) -> [bool; 1] {
        [true]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [lr, beta1, rest1, beta2, rest2, decay]: [T; 6],
        param: T,
        grad: T,
        [mean]: [T; 1],
    ) -> (T, [T; 1]) {
        let direction = moving_average(self.beta1, [beta1, rest1], mean, grad);
        let direction = sign(agreeing(self.cautious, direction, grad));
        let mean = moving_average(self.beta2, [beta2, rest2], mean, grad);
        let decays = self.weight_decay != 0.0;
        let param = if decays { decoupled_decay(self.cautious_decay, decay, param, direction) } else { param };
        ((-lr).fma(direction, param), [mean])
    }
}
