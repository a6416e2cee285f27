//! Stochastic gradient descent with momentum.

use super::terms::coupled_decay;
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::Value;
use crate::rule::{Options, Origin, Rule};

/// Gradient descent, optionally with heavy-ball or Nesterov momentum (Sutskever et al., 2013), torch's form.
///
/// ```text
/// g = grad + weight_decay * param
/// v = momentum * v + (1 - dampening) * g      (v = g in the first step)
/// v = momentum * v + (1 - momentum) * g       (averaged; from v = 0)
/// param -= lr * (g + momentum * v   if nesterov,   else v)
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    momentum: f64,
    dampening: f64,
    weight_decay: f64,
    nesterov: bool,
    averaged: bool,
}

impl Rule<4, 1> for Sgd {
    const NAME: &'static str = "sgd";
    const COEFFS: [&'static str; 4] = ["lr", "momentum", "intake", "weight_decay"];
    const ORIGINS: [Origin; 4] = [Value("lr"), Value("momentum"), Value("dampening"), Value("weight_decay")];
    const SLOTS: [&'static str; 1] = ["momentum_buffer"];
    const COUNTED: bool = false;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        Ok(Self {
            momentum: options.number("momentum")?,
            dampening: options.number("dampening")?,
            weight_decay: options.number("weight_decay")?,
            nesterov: options.flag("nesterov")?,
            averaged: options.extra("averaged")?,
        })
    }

    fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; 4] {
        let one = N::lit(1.0);
        // A new buffer holds 0, so an undamped intake makes v = g of it.
        let undamped_first = N::if_equal(step, one, one, one - N::lit(self.dampening));
        let momentum = N::lit(self.momentum);
        let intake = if self.averaged { one - momentum } else { undamped_first };
        [lr, momentum, intake, N::lit(self.weight_decay)]
    }

    fn live(&self) -> [bool; 1] {
        [self.momentum != 0.0]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [lr, momentum, intake, weight_decay]: [T; 4],
        param: T,
        grad: T,
        [buffer]: [T; 1],
    ) -> (T, [T; 1]) {
        let grad = coupled_decay(self.weight_decay != 0.0, weight_decay, param, grad);
        if self.momentum == 0.0 {
            return ((-lr).fma(grad, param), [buffer]);
        }
        let buffer = intake.fma(grad, momentum * buffer);
        let direction = if self.nesterov { momentum.fma(buffer, grad) } else { buffer };
        ((-lr).fma(direction, param), [buffer])
    }
}
