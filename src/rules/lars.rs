//! LARS.

use super::terms::coupled_decay;
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::Value;
use crate::rule::{Options, Origin, Rule, SUMS};

/// LARS (You, Gitman and Ginsburg, 2017, algorithm 1), with dampening and Nesterov's momentum as options, as in SGD.
///
/// ```text
/// q = trust_coefficient * |param| / (|grad| + weight_decay * |param| + eps)
///                     2-norms over the parameter; 1 where one is 0, or without a coefficient
/// g = q * (grad + weight_decay * param)
/// buffer = momentum * buffer + (1 - dampening) * g      (undamped in the first step)
/// param -= lr * (g + momentum * buffer)                 (nesterov)
/// param -= lr * buffer                                  (else; lr * g without momentum)
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lars {
    momentum: f64,
    dampening: f64,
    weight_decay: f64,
    nesterov: bool,
    trust_coefficient: Option<f64>,
    eps: f64,
}

impl Rule<7, 1> for Lars {
    const NAME: &'static str = "lars";
    const COEFFS: [&'static str; 7] = ["lr", "momentum", "intake", "weight_decay", "quotient", "trust", "eps"];
    const ORIGINS: [Origin; 7] = [
        Value("lr"),
        Value("momentum"),
        Value("dampening"),
        Value("weight_decay"),
        Value("trust_coefficient"),
        Value("trust_coefficient"),
        Value("eps"),
    ];
    const SLOTS: [&'static str; 1] = ["momentum_buffer"];
    const COUNTED: bool = false;
    const HAS_SUMS: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        Ok(Self {
            momentum: options.number("momentum")?,
            dampening: options.number("dampening")?,
            weight_decay: options.number("weight_decay")?,
            nesterov: options.flag("nesterov")?,
            trust_coefficient: options.optional("trust_coefficient")?,
            eps: options.number("eps")?,
        })
    }

    fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; 7] {
        let one = N::lit(1.0);
        // A new buffer holds 0, so an undamped intake makes v = g of it.
        let intake = N::if_equal(step, one, one, one - N::lit(self.dampening));
        let (momentum, weight_decay, eps) = (N::lit(self.momentum), N::lit(self.weight_decay), N::lit(self.eps));
        [lr, momentum, intake, weight_decay, one, N::lit(self.trust_coefficient.unwrap_or(0.0)), eps]
    }

    fn needs_sums(&self) -> bool {
        self.trust_coefficient.is_some()
    }

    #[inline(always)]
    fn summands<T: Number>(&self, _coeffs: [T; 7], param: T, grad: T, _slots: [T; 1]) -> [[T; 2]; SUMS] {
        [[param, param], [grad, grad]]
    }

    fn complete<N: Number>(&self, mut coeffs: [N; 7], [param, grad]: [N; SUMS], _len: N) -> [N; 7] {
        let (zero, one) = (N::lit(0.0), N::lit(1.0));
        let [_, _, _, weight_decay, _, trust, eps] = coeffs;
        let length = param.sqrt();
        let quotient = trust * length / (weight_decay.fma(length, grad.sqrt()) + eps);
        coeffs[4] = N::if_equal(param, zero, one, N::if_equal(grad, zero, one, quotient));
        coeffs
    }

    fn live(&self) -> [bool; 1] {
        [self.momentum != 0.0]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [lr, momentum, intake, weight_decay, quotient, _, _]: [T; 7],
        param: T,
        grad: T,
        [buffer]: [T; 1],
    ) -> (T, [T; 1]) {
        let grad = coupled_decay(self.weight_decay != 0.0, weight_decay, param, grad);
        let grad = if self.trust_coefficient.is_some() { quotient * grad } else { grad };
        if self.momentum == 0.0 {
            return ((-lr).fma(grad, param), [buffer]);
        }
        let buffer = intake.fma(grad, momentum * buffer);
        let direction = if self.nesterov { momentum.fma(buffer, grad) } else { buffer };
        ((-lr).fma(direction, param), [buffer])
    }
}
