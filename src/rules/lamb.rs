//! LAMB.

use super::terms::{moving_average, moving_average_of_squares};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::{Quotient, Root, Value};
use crate::rule::{Options, Origin, Rule, SUMS};

/// LAMB (You et al., 2020, algorithm 2), with the bias of the averages corrected, as its authors do.
///
/// ```text
/// m = beta1 * m + (1 - beta1) * grad
/// v = beta2 * v + (1 - beta2) * grad^2
/// u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * param         t counts steps from 1
/// param -= lr * |param| / |u| * u             2-norms over the parameter; the quotient is 1 where one is 0
/// ```
///
/// Under `trust_clip` the quotient is at most 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lamb {
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    bias_correction: bool,
    trust_clip: bool,
}

impl Rule<9, 2> for Lamb {
    const NAME: &'static str = "lamb";
    const COEFFS: [&'static str; 9] =
        ["rate", "beta1", "beta1_rest", "unbias_mean", "beta2", "beta2_rest", "unbias", "eps", "weight_decay"];
    const ORIGINS: [Origin; 9] = [
        Value("lr"),
        Value("betas[0]"),
        Value("betas[0]"),
        Quotient("betas[0]"),
        Value("betas[1]"),
        Value("betas[1]"),
        Root("betas[1]"),
        Value("eps"),
        Value("weight_decay"),
    ];
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];
    const COUNTED: bool = true;
    const HAS_SUMS: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        let [beta1, beta2] = options.pair("betas")?;
        Ok(Self {
            beta1,
            beta2,
            eps: options.number("eps")?,
            weight_decay: options.number("weight_decay")?,
            bias_correction: options.flag("bias_correction")?,
            trust_clip: options.flag("trust_clip")?,
        })
    }

    fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; 9] {
        let one = N::lit(1.0);
        let (beta1, beta2) = (N::lit(self.beta1), N::lit(self.beta2));
        let (unbias1, unbias2) = if self.bias_correction {
            (one / (one - beta1.pow(step)), one / (one - beta2.pow(step)).sqrt())
        } else {
            (one, one)
        };
        let (eps, weight_decay) = (N::lit(self.eps), N::lit(self.weight_decay));
        [lr, beta1, one - beta1, unbias1, beta2, one - beta2, unbias2, eps, weight_decay]
    }

    fn needs_sums(&self) -> bool {
        true
    }

    #[inline(always)]
    fn summands<T: Number>(&self, coeffs: [T; 9], param: T, grad: T, slots: [T; 2]) -> [[T; 2]; SUMS] {
        let (direction, _) = self.direction(coeffs, param, grad, slots);
        [[param, param], [direction, direction]]
    }

    fn complete<N: Number>(&self, mut coeffs: [N; 9], [param, direction]: [N; SUMS], _len: N) -> [N; 9] {
        let (zero, one) = (N::lit(0.0), N::lit(1.0));
        let quotient = param.sqrt() / direction.sqrt();
        let quotient = N::if_equal(param, zero, one, N::if_equal(direction, zero, one, quotient));
        // The smaller of two is the negative of the larger of their negatives.
        let quotient = if self.trust_clip { -(-quotient).max(-one) } else { quotient };
        coeffs[0] = coeffs[0] * quotient;
        coeffs
    }

    fn live(&self) -> [bool; 2] {
        [true; 2]
    }

    #[inline(always)]
    fn update<T: Number>(&self, coeffs: [T; 9], param: T, grad: T, slots: [T; 2]) -> (T, [T; 2]) {
        let (direction, slots) = self.direction(coeffs, param, grad, slots);
        ((-coeffs[0]).fma(direction, param), slots)
    }
}

impl Lamb {
    /// The update before it is scaled, and the averages in it.
    #[inline(always)]
    fn direction<T: Number>(
        &self,
        [_, beta1, rest1, unbias1, beta2, rest2, unbias2, eps, weight_decay]: [T; 9],
        param: T,
        grad: T,
        [mean, square]: [T; 2],
    ) -> (T, [T; 2]) {
        let mean = moving_average(self.beta1, [beta1, rest1], mean, grad);
        let square = moving_average_of_squares([beta2, rest2], square, grad);
        let direction = unbias1 * mean / square.sqrt().fma(unbias2, eps);
        let direction = if self.weight_decay == 0.0 { direction } else { weight_decay.fma(param, direction) };
        (direction, [mean, square])
    }
}
