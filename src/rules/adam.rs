//! Adam and AdamW.

use super::terms::{
    agreeing, count_agreeing, coupled_decay, decoupled_decay, moving_average, moving_average_of_squares,
    rate_of_agreeing,
};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::{Quotient, Root, Value};
use crate::rule::{Options, Origin, Rule, SUMS};

/// Adam (Kingma and Ba, 2015), with AMSGrad (Reddi, Kale and Kumar, 2018) and decoupled weight decay (AdamW, Loshchilov
/// and Hutter, 2019) as options, torch's form.
///
/// ```text
/// param *= 1 - lr * weight_decay              (decoupled; if cautious, where it does not oppose the update)
/// g = grad + weight_decay * param             (else)
/// m = beta1 * m + (1 - beta1) * g
/// v = beta2 * v + (1 - beta2) * g^2
/// x = max(x, v)                               (amsgrad; then x takes the place of v below)
/// m = m * (m * g > 0) / max(mean(m * g > 0), 0.001)                       (cautious; m itself stays)
/// param -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)       t counts steps from 1
/// ```
///
/// The root of the correction is taken once a step, and multiplied where the formula divides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    amsgrad: bool,
    decoupled: bool,
    cautious_decay: bool,
    cautious: bool,
}

impl Rule<8, 3> for Adam {
    const NAME: &'static str = "adam";
    const COEFFS: [&'static str; 8] = ["rate", "beta1", "beta1_rest", "beta2", "beta2_rest", "unbias", "eps", "decay"];
    const ORIGINS: [Origin; 8] = [
        Quotient("betas[0]"),
        Value("betas[0]"),
        Value("betas[0]"),
        Value("betas[1]"),
        Value("betas[1]"),
        Root("betas[1]"),
        Value("eps"),
        Value("weight_decay"),
    ];
    const SLOTS: [&'static str; 3] = ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];
    const LATE: [bool; 3] = [false, false, true];
    const COUNTED: bool = true;
    const HAS_SUMS: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        let [beta1, beta2] = options.pair("betas")?;
        Ok(Self {
            beta1,
            beta2,
            eps: options.number("eps")?,
            weight_decay: options.number("weight_decay")?,
            amsgrad: options.flag("amsgrad")?,
            decoupled: options.flag("decoupled_weight_decay")?,
            cautious_decay: options.extra("cautious_weight_decay")?,
            cautious: options.extra("cautious")?,
        })
    }

    fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; 8] {
        let one = N::lit(1.0);
        let (beta1, beta2, weight_decay) = (N::lit(self.beta1), N::lit(self.beta2), N::lit(self.weight_decay));
        let unbias = one / (one - beta2.pow(step)).sqrt();
        let rate = lr / (one - beta1.pow(step));
        let decay = if self.decoupled { one - lr * weight_decay } else { weight_decay };
        [rate, beta1, one - beta1, beta2, one - beta2, unbias, N::lit(self.eps), decay]
    }

    fn needs_sums(&self) -> bool {
        self.cautious
    }

    #[inline(always)]
    fn summands<T: Number>(
        &self,
        [_, beta1, rest1, _, _, _, _, decay]: [T; 8],
        param: T,
        grad: T,
        [mean, ..]: [T; 3],
    ) -> [[T; 2]; SUMS] {
        let grad = coupled_decay(self.weight_decay != 0.0 && !self.decoupled, decay, param, grad);
        count_agreeing(moving_average(self.beta1, [beta1, rest1], mean, grad), grad)
    }

    fn complete<N: Number>(&self, mut coeffs: [N; 8], [agreeing, _]: [N; SUMS], len: N) -> [N; 8] {
        coeffs[0] = rate_of_agreeing(coeffs[0], agreeing, len);
        coeffs
    }

    fn live(&self) -> [bool; 3] {
        [true, true, self.amsgrad]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [rate, beta1, rest1, beta2, rest2, unbias, eps, decay]: [T; 8],
        param: T,
        grad: T,
        [mean, square, largest]: [T; 3],
    ) -> (T, [T; 3]) {
        let decays = self.weight_decay != 0.0;
        let grad = coupled_decay(decays && !self.decoupled, decay, param, grad);
        let mean = moving_average(self.beta1, [beta1, rest1], mean, grad);
        let square = moving_average_of_squares([beta2, rest2], square, grad);
        let (largest, square_used) = if self.amsgrad {
            let largest = largest.max(square);
            (largest, largest)
        } else {
            (largest, square)
        };
        let direction = agreeing(self.cautious, mean, grad) / square_used.sqrt().fma(unbias, eps);
        let param = if decays && self.decoupled {
            decoupled_decay(self.cautious_decay, decay, param, direction)
        } else {
            param
        };
        let param = (-rate).fma(direction, param);
        (param, [mean, square, largest])
    }
}
