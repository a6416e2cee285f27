//! RAdam.

use super::terms::{coupled_decay, decoupled_decay, moving_average, moving_average_of_squares};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::{Quotient, Root, Value};
use crate::rule::{Options, Origin, Rule};

/// RAdam (Liu et al., 2020), with decoupled weight decay (Loshchilov and Hutter, 2019) as an option, torch's form.
///
/// ```text
/// param *= 1 - lr * weight_decay              (decoupled; if cautious, where it does not oppose the update)
/// g = grad + weight_decay * param             (else)
/// m = beta1 * m + (1 - beta1) * g
/// v = beta2 * v + (1 - beta2) * g^2
/// rho_inf = 2 / (1 - beta2) - 1
/// rho = rho_inf - 2 * t * beta2^t / (1 - beta2^t)                         t counts steps from 1
/// r = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
/// param -= lr * r * m / (1 - beta1^t) * sqrt(1 - beta2^t) / (sqrt(v) + eps)       (rho > 5)
/// param -= lr * m / (1 - beta1^t)                                                 (else)
/// ```
///
/// Which of the two it is depends on the step, not on the structure: the coefficient `adaptive`, `r * sqrt(1 - beta2^t)` in
/// the first, is 0 in the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RAdam {
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    decoupled: bool,
    cautious: bool,
}

impl RAdam {
    /// What the update is multiplied by where it is divided by the root of `v`; 0 where it is not.
    fn adaptive<N: Number>(&self, step: N) -> N {
        let [zero, one, two, four, five, six] = [0.0, 1.0, 2.0, 4.0, 5.0, 6.0].map(N::lit);
        let beta2 = N::lit(self.beta2);
        let power = beta2.pow(step);
        let unbias = one - power;
        let longest = two / (one - beta2) - one;
        let length = longest - two * step * power / unbias;
        let share = (length - four) * (length - two) * longest / ((longest - four) * (longest - two) * length);
        // Of a beta2 of 1 comes a length that is NaN, below no number: the longest, which is infinite, says so.
        let not_above = N::if_less(length, six, zero, longest);
        N::if_less(five, length, share.sqrt() * unbias.sqrt(), not_above)
    }
}

impl Rule<8, 2> for RAdam {
    const NAME: &'static str = "radam";
    const COEFFS: [&'static str; 8] =
        ["rate", "beta1", "beta1_rest", "beta2", "beta2_rest", "adaptive", "eps", "decay"];
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
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];
    const COUNTED: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        let [beta1, beta2] = options.pair("betas")?;
        Ok(Self {
            beta1,
            beta2,
            eps: options.number("eps")?,
            weight_decay: options.number("weight_decay")?,
            decoupled: options.flag("decoupled_weight_decay")?,
            cautious: options.extra("cautious_weight_decay")?,
        })
    }

    fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; 8] {
        let one = N::lit(1.0);
        let (beta1, beta2, weight_decay) = (N::lit(self.beta1), N::lit(self.beta2), N::lit(self.weight_decay));
        let rate = lr / (one - beta1.pow(step));
        let decay = if self.decoupled { one - lr * weight_decay } else { weight_decay };
        [rate, beta1, one - beta1, beta2, one - beta2, self.adaptive(step), N::lit(self.eps), decay]
    }

    fn live(&self) -> [bool; 2] {
        [true, true]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [rate, beta1, rest1, beta2, rest2, adaptive, eps, decay]: [T; 8],
        param: T,
        grad: T,
        [mean, square]: [T; 2],
    ) -> (T, [T; 2]) {
        let decays = self.weight_decay != 0.0;
        let grad = coupled_decay(decays && !self.decoupled, decay, param, grad);
        let mean = moving_average(self.beta1, [beta1, rest1], mean, grad);
        let square = moving_average_of_squares([beta2, rest2], square, grad);
        let scale = T::if_equal(adaptive, T::lit(0.0), T::lit(1.0), adaptive / (square.sqrt() + eps));
        let direction = mean * scale;
        let param =
            if decays && self.decoupled { decoupled_decay(self.cautious, decay, param, direction) } else { param };
        ((-rate).fma(direction, param), [mean, square])
    }
}
