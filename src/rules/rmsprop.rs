//! RMSprop.

use super::terms::{coupled_decay, moving_average, moving_average_of_squares, root_with_eps};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::Value;
use crate::rule::{Options, Origin, Rule};

/// RMSprop (Hinton, 2012, lecture 6e), optionally centered (Graves, 2013) and with momentum, torch's form.
///
/// ```text
/// g = grad + weight_decay * param
/// s = alpha * s + (1 - alpha) * g^2
/// a = alpha * a + (1 - alpha) * g             (centered; then the root is of max(s - a^2, 0), else of s)
/// u = g / (sqrt(s) + eps)                     (sqrt(s + eps)   if eps_inside)
/// b = momentum * b + u                        (with momentum; then u = b)
/// param -= lr * u
/// ```
///
/// Differs from torch in `max(.., 0)`: where rounding takes a variance below 0, torch's root is NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsProp {
    alpha: f64,
    eps: f64,
    weight_decay: f64,
    momentum: f64,
    centered: bool,
    eps_inside: bool,
}

impl Rule<6, 3> for RmsProp {
    const NAME: &'static str = "rmsprop";
    const COEFFS: [&'static str; 6] = ["lr", "alpha", "alpha_rest", "eps", "momentum", "weight_decay"];
    const ORIGINS: [Origin; 6] =
        [Value("lr"), Value("alpha"), Value("alpha"), Value("eps"), Value("momentum"), Value("weight_decay")];
    const SLOTS: [&'static str; 3] = ["square_avg", "momentum_buffer", "grad_avg"];
    const COUNTED: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        Ok(Self {
            alpha: options.number("alpha")?,
            eps: options.number("eps")?,
            weight_decay: options.number("weight_decay")?,
            momentum: options.number("momentum")?,
            centered: options.flag("centered")?,
            eps_inside: options.extra("eps_inside")?,
        })
    }

    fn coeffs<N: Number>(&self, lr: N, _step: N) -> [N; 6] {
        let alpha = N::lit(self.alpha);
        [lr, alpha, N::lit(1.0) - alpha, N::lit(self.eps), N::lit(self.momentum), N::lit(self.weight_decay)]
    }

    fn live(&self) -> [bool; 3] {
        [true, self.momentum > 0.0, self.centered]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [lr, alpha, rest, eps, momentum, weight_decay]: [T; 6],
        param: T,
        grad: T,
        [square, buffer, mean]: [T; 3],
    ) -> (T, [T; 3]) {
        let grad = coupled_decay(self.weight_decay != 0.0, weight_decay, param, grad);
        let square = moving_average_of_squares([alpha, rest], square, grad);
        let (mean, spread) = if self.centered {
            let mean = moving_average(self.alpha, [alpha, rest], mean, grad);
            (mean, (-mean).fma(mean, square).max(T::lit(0.0)))
        } else {
            (mean, square)
        };
        let scaled = grad / root_with_eps(self.eps_inside, spread, eps);
        let (buffer, direction) = if self.momentum > 0.0 {
            let buffer = momentum.fma(buffer, scaled);
            (buffer, buffer)
        } else {
            (buffer, scaled)
        };
        ((-lr).fma(direction, param), [square, buffer, mean])
    }
}
