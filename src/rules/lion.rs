//! Lion.

use super::terms::{decoupled_decay, moving_average, sign};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::Value;
use crate::rule::{Options, Origin, Rule};

/// Lion (Chen et al., 2023, algorithm 2).
///
/// ```text
/// param *= 1 - lr * weight_decay              (if cautious, where it does not oppose the update)
/// param -= lr * sign(beta1 * m + (1 - beta1) * grad)
/// m = beta2 * m + (1 - beta2) * grad
/// ```
///
/// Signs are those of `torch.sign`: of NaN it is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lion {
    beta1: f64,
    beta2: f64,
    weight_decay: f64,
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

    fn read(options: &dyn Options) -> Result<Self, Error> {
        let [beta1, beta2] = options.pair("betas")?;
        let (weight_decay, cautious) = (options.number("weight_decay")?, options.extra("cautious_weight_decay")?);
        Ok(Self { beta1, beta2, weight_decay, cautious })
    }

    fn coeffs<N: Number>(&self, lr: N, _step: N) -> [N; 6] {
        let (one, beta1, beta2) = (N::lit(1.0), N::lit(self.beta1), N::lit(self.beta2));
        [lr, beta1, one - beta1, beta2, one - beta2, one - lr * N::lit(self.weight_decay)]
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
        let direction = sign(moving_average(self.beta1, [beta1, rest1], mean, grad));
        let mean = moving_average(self.beta2, [beta2, rest2], mean, grad);
        let decays = self.weight_decay != 0.0;
        let param = if decays { decoupled_decay(self.cautious, decay, param, direction) } else { param };
        ((-lr).fma(direction, param), [mean])
    }
}
