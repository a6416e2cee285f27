//! Adamax.

use super::terms::{absolute, coupled_decay, moving_average};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::{Quotient, Value};
use crate::rule::{Options, Origin, Rule};

/// Adamax (Kingma and Ba, 2015, section 7.1), torch's form.
///
/// ```text
/// g = grad + weight_decay * param
/// m = beta1 * m + (1 - beta1) * g
/// u = max(beta2 * u, |g| + eps)
/// param -= lr / (1 - beta1^t) * m / u                     t counts steps from 1
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adamax {
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
}

impl Rule<6, 2> for Adamax {
    const NAME: &'static str = "adamax";
    const COEFFS: [&'static str; 6] = ["rate", "beta1", "beta1_rest", "beta2", "eps", "weight_decay"];
    const ORIGINS: [Origin; 6] = [
        Quotient("betas[0]"),
        Value("betas[0]"),
        Value("betas[0]"),
        Value("betas[1]"),
        Value("eps"),
        Value("weight_decay"),
    ];
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_inf"];
    const COUNTED: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        let [beta1, beta2] = options.pair("betas")?;
        Ok(Self { beta1, beta2, eps: options.number("eps")?, weight_decay: options.number("weight_decay")? })
    }

    fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; 6] {
        let (one, beta1) = (N::lit(1.0), N::lit(self.beta1));
        let rate = lr / (one - beta1.pow(step));
        [rate, beta1, one - beta1, N::lit(self.beta2), N::lit(self.eps), N::lit(self.weight_decay)]
    }

    fn live(&self) -> [bool; 2] {
        [true, true]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [rate, beta1, rest, beta2, eps, weight_decay]: [T; 6],
        param: T,
        grad: T,
        [mean, largest]: [T; 2],
    ) -> (T, [T; 2]) {
        let grad = coupled_decay(self.weight_decay != 0.0, weight_decay, param, grad);
        let mean = moving_average(self.beta1, [beta1, rest], mean, grad);
        let largest = (beta2 * largest).max(absolute(grad) + eps);
        ((-rate).fma(mean / largest, param), [mean, largest])
    }
}
