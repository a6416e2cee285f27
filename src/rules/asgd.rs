//! Averaged stochastic gradient descent.

use super::terms::coupled_decay;
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::{Quotient, Value};
use crate::rule::{Options, Origin, Rule};

/// Averaged stochastic gradient descent (Polyak and Juditsky, 1992), torch's form.
///
/// ```text
/// g = grad + weight_decay * param
/// param -= eta * (g + lambd * param)
/// ax += mu * (param - ax)
/// eta = lr / (1 + lambd * lr * t)^alpha       (for the next step; from eta = lr)
/// mu = 1 / max(1, t - t0)                     (for the next step; from mu = 1, which makes ax = param)
/// ```
///
/// `t` counts steps from 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asgd {
    lambd: f64,
    alpha: f64,
    t0: f64,
    weight_decay: f64,
}

impl Rule<4, 3> for Asgd {
    const NAME: &'static str = "asgd";
    const COEFFS: [&'static str; 4] = ["decay", "eta", "mu", "weight_decay"];
    const ORIGINS: [Origin; 4] = [Value("lambd"), Quotient("alpha"), Value("t0"), Value("weight_decay")];
    const SLOTS: [&'static str; 3] = ["eta", "mu", "ax"];
    const SCALARS: [bool; 3] = [true, true, false];
    const COUNTED: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        Ok(Self {
            lambd: options.number("lambd")?,
            alpha: options.number("alpha")?,
            t0: options.number("t0")?,
            weight_decay: options.number("weight_decay")?,
        })
    }

    /// With `lambd` in the place of the decay and the next step's `eta` and `mu` in those of this step's, for
    /// [`advance`](Self::advance) to change.
    fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; 4] {
        let (one, lambd) = (N::lit(1.0), N::lit(self.lambd));
        let eta = lr / (one + lambd * lr * step).pow(N::lit(self.alpha));
        let mu = one / (step - N::lit(self.t0)).max(one);
        [lambd, eta, mu, N::lit(self.weight_decay)]
    }

    fn advance<N: Number>(
        &self,
        [lambd, eta_next, mu_next, weight_decay]: [N; 4],
        [eta, mu, none]: [N; 3],
        _single: bool,
    ) -> ([N; 4], [N; 3]) {
        ([N::lit(1.0) - lambd * eta, eta, mu, weight_decay], [eta_next, mu_next, none])
    }

    fn live(&self) -> [bool; 3] {
        [false, false, true]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [decay, eta, mu, weight_decay]: [T; 4],
        param: T,
        grad: T,
        [none, _, average]: [T; 3],
    ) -> (T, [T; 3]) {
        let grad = coupled_decay(self.weight_decay != 0.0, weight_decay, param, grad);
        let param = (-eta).fma(grad, param * decay);
        // What was there before, be it infinite, plays no part at first.
        let average = T::if_equal(mu, T::lit(1.0), param, (param - average).fma(mu, average));
        (param, [none, none, average])
    }
}
