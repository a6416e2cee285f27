//! Adadelta.

use super::terms::{coupled_decay, moving_average_of_squares};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::Value;
use crate::rule::{Options, Origin, Rule};

/// Adadelta (Zeiler, 2012), torch's form.
///
/// ```text
/// g = grad + weight_decay * param
/// s = rho * s + (1 - rho) * g^2
/// u = sqrt(d + eps) / sqrt(s + eps) * g
/// d = rho * d + (1 - rho) * u^2
/// param -= lr * u
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adadelta {
    rho: f64,
    eps: f64,
    weight_decay: f64,
}

impl Rule<5, 2> for Adadelta {
    const NAME: &'static str = "adadelta";
    const COEFFS: [&'static str; 5] = ["lr", "rho", "rho_rest", "eps", "weight_decay"];
    const ORIGINS: [Origin; 5] = [Value("lr"), Value("rho"), Value("rho"), Value("eps"), Value("weight_decay")];
    const SLOTS: [&'static str; 2] = ["square_avg", "acc_delta"];
    const COUNTED: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        Ok(Self {
            rho: options.number("rho")?,
            eps: options.number("eps")?,
            weight_decay: options.number("weight_decay")?,
        })
    }

    fn coeffs<N: Number>(&self, lr: N, _step: N) -> [N; 5] {
        let rho = N::lit(self.rho);
        [lr, rho, N::lit(1.0) - rho, N::lit(self.eps), N::lit(self.weight_decay)]
    }

    fn live(&self) -> [bool; 2] {
        [true, true]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [lr, rho, rest, eps, weight_decay]: [T; 5],
        param: T,
        grad: T,
        [square, traveled]: [T; 2],
    ) -> (T, [T; 2]) {
        let grad = coupled_decay(self.weight_decay != 0.0, weight_decay, param, grad);
        let square = moving_average_of_squares([rho, rest], square, grad);
        let way = (traveled + eps).sqrt() / (square + eps).sqrt() * grad;
        let traveled = moving_average_of_squares([rho, rest], traveled, way);
        ((-lr).fma(way, param), [square, traveled])
    }
}
