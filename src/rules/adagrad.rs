//! Adagrad.

use super::terms::{coupled_decay, root_with_eps};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::{Quotient, Value};
use crate::rule::{Options, Origin, Rule};

/// Adagrad (Duchi, Hazan and Singer, 2011), torch's form.
///
/// ```text
/// g = grad + weight_decay * param
/// sum += g^2
/// s = sum                                                 (sum / t   if mean)
/// param -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)
///                                                         (sqrt(s + eps)   if eps_inside)
/// ```
///
/// `t` counts steps from 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adagrad {
    lr_decay: f64,
    eps: f64,
    weight_decay: f64,
    mean: bool,
    eps_inside: bool,
}

impl Rule<4, 1> for Adagrad {
    const NAME: &'static str = "adagrad";
    const COEFFS: [&'static str; 4] = ["lr", "eps", "weight_decay", "share"];
    const ORIGINS: [Origin; 4] = [Quotient("lr_decay"), Value("eps"), Value("weight_decay"), Quotient("mean")];
    const SLOTS: [&'static str; 1] = ["sum"];
    const COUNTED: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        Ok(Self {
            lr_decay: options.number("lr_decay")?,
            eps: options.number("eps")?,
            weight_decay: options.number("weight_decay")?,
            mean: options.extra("mean")?,
            eps_inside: options.extra("eps_inside")?,
        })
    }

    fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; 4] {
        let one = N::lit(1.0);
        let lr = lr / (one + (step - one) * N::lit(self.lr_decay));
        let share = if self.mean { one / step } else { one };
        [lr, N::lit(self.eps), N::lit(self.weight_decay), share]
    }

    fn live(&self) -> [bool; 1] {
        [true]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [lr, eps, weight_decay, share]: [T; 4],
        param: T,
        grad: T,
        [sum]: [T; 1],
    ) -> (T, [T; 1]) {
        let grad = coupled_decay(self.weight_decay != 0.0, weight_decay, param, grad);
        let sum = grad.fma(grad, sum);
        let scale = root_with_eps(self.eps_inside, if self.mean { sum * share } else { sum }, eps);
        ((-lr).fma(grad / scale, param), [sum])
    }
}
