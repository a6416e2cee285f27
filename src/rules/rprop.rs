//! Rprop.

use super::terms::{clamp, sign};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::Value;
use crate::rule::{Options, Origin, Rule};

/// Rprop (Riedmiller and Braun, 1993), torch's form, which does not take a step back.
///
/// ```text
/// turn = grad * prev                                      (prev = 0 in the first step)
/// size = clamp(size * f, size_min, size_max)              (size = lr before the first step)
///     f = etaplus where turn > 0, etaminus where turn < 0, else 1
/// g = 0 where turn < 0, else grad
/// param -= sign(g) * size
/// prev = g
/// ```
///
/// Signs are those of `torch.sign`: of NaN it is 0. The learning rate plays no part but in new state; it is a coefficient
/// for the sake of the error where it is not finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rprop {
    etas: [f64; 2],
    sizes: [f64; 2],
}

impl Rule<5, 2> for Rprop {
    const NAME: &'static str = "rprop";
    const COEFFS: [&'static str; 5] = ["lr", "etaminus", "etaplus", "size_min", "size_max"];
    const ORIGINS: [Origin; 5] =
        [Value("lr"), Value("etas[0]"), Value("etas[1]"), Value("step_sizes[0]"), Value("step_sizes[1]")];
    const SLOTS: [&'static str; 2] = ["prev", "step_size"];
    const COUNTED: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        Ok(Self { etas: options.pair("etas")?, sizes: options.pair("step_sizes")? })
    }

    fn coeffs<N: Number>(&self, lr: N, _step: N) -> [N; 5] {
        let ([minus, plus], [least, most]) = (self.etas.map(N::lit), self.sizes.map(N::lit));
        [lr, minus, plus, least, most]
    }

    fn live(&self) -> [bool; 2] {
        [true, true]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [_, minus, plus, least, most]: [T; 5],
        param: T,
        grad: T,
        [prev, size]: [T; 2],
    ) -> (T, [T; 2]) {
        let (zero, turn) = (T::lit(0.0), grad * prev);
        let factor = T::if_less(turn, zero, minus, T::if_less(zero, turn, plus, T::lit(1.0)));
        let size = clamp(size * factor, least, most);
        let grad = T::if_less(turn, zero, zero, grad);
        ((-sign(grad)).fma(size, param), [grad, size])
    }
}
