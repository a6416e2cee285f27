//! NAdam.

use super::terms::{coupled_decay, decoupled_decay, moving_average, moving_average_of_squares, to_single};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::{Root, Value};
use crate::rule::{Options, Origin, Rule};

/// NAdam (Dozat, 2016), Adam with Nesterov's momentum, with decoupled weight decay (Loshchilov and Hutter, 2019) as an
/// option, torch's form.
///
/// ```text
/// param *= 1 - lr * weight_decay              (decoupled; if cautious, where it does not oppose the update)
/// g = grad + weight_decay * param             (else)
/// mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2)
/// P = P * mu_t                                (from P = 1)
/// m = beta1 * m + (1 - beta1) * g
/// v = beta2 * v + (1 - beta2) * g^2
/// u = (1 - mu_t) / (1 - P) * g + mu_(t+1) / (1 - P * mu_(t+1)) * m
/// param -= lr * u / (sqrt(v / (1 - beta2^t)) + eps)                       t counts steps from 1
/// ```
///
/// The root of the correction is taken once a step, and multiplied where the formula divides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NAdam {
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    momentum_decay: f64,
    decoupled: bool,
    cautious: bool,
}

impl Rule<10, 3> for NAdam {
    const NAME: &'static str = "nadam";
    const COEFFS: [&'static str; 10] =
        ["lr", "beta1", "beta1_rest", "beta2", "beta2_rest", "unbias", "eps", "decay", "grad_share", "mean_share"];
    const ORIGINS: [Origin; 10] = [
        Value("lr"),
        Value("betas[0]"),
        Value("betas[0]"),
        Value("betas[1]"),
        Value("betas[1]"),
        Root("betas[1]"),
        Value("eps"),
        Value("weight_decay"),
        Value("momentum_decay"),
        Value("momentum_decay"),
    ];
    const SLOTS: [&'static str; 3] = ["mu_product", "exp_avg", "exp_avg_sq"];
    const SCALARS: [bool; 3] = [true, false, false];
    const COUNTED: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        let [beta1, beta2] = options.pair("betas")?;
        Ok(Self {
            beta1,
            beta2,
            eps: options.number("eps")?,
            weight_decay: options.number("weight_decay")?,
            momentum_decay: options.number("momentum_decay")?,
            decoupled: options.flag("decoupled_weight_decay")?,
            cautious: options.extra("cautious_weight_decay")?,
        })
    }

    /// With `mu_t` and `mu_(t+1)` in the places of the shares, which [`advance`](Self::advance) makes of them.
    fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; 10] {
        let one = N::lit(1.0);
        let (beta1, beta2, weight_decay) = (N::lit(self.beta1), N::lit(self.beta2), N::lit(self.weight_decay));
        let momentum_decay = N::lit(self.momentum_decay);
        let mu = |step: N| beta1 * (one - N::lit(0.5) * N::lit(0.96).pow(step * momentum_decay));
        let unbias = one / (one - beta2.pow(step)).sqrt();
        let decay = if self.decoupled { one - lr * weight_decay } else { weight_decay };
        let (mu, mu_next) = (mu(step), mu(step + one));
        [lr, beta1, one - beta1, beta2, one - beta2, unbias, N::lit(self.eps), decay, mu, mu_next]
    }

    fn advance<N: Number>(&self, mut coeffs: [N; 10], [product, none, _]: [N; 3], single: bool) -> ([N; 10], [N; 3]) {
        let (one, mu, mu_next) = (N::lit(1.0), coeffs[8], coeffs[9]);
        // torch multiplies the tensor in place, and goes on with what that holds.
        let kept = |number: N| if single { to_single(number) } else { number };
        let product = kept(product * kept(mu));
        coeffs[8] = (one - mu) / (one - product);
        coeffs[9] = mu_next / (one - product * mu_next);
        (coeffs, [product, none, none])
    }

    fn live(&self) -> [bool; 3] {
        [false, true, true]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [lr, beta1, rest1, beta2, rest2, unbias, eps, decay, grad_share, mean_share]: [T; 10],
        param: T,
        grad: T,
        [none, mean, square]: [T; 3],
    ) -> (T, [T; 3]) {
        let decays = self.weight_decay != 0.0;
        let grad = coupled_decay(decays && !self.decoupled, decay, param, grad);
        let mean = moving_average(self.beta1, [beta1, rest1], mean, grad);
        let square = moving_average_of_squares([beta2, rest2], square, grad);
        let direction = grad_share.fma(grad, mean_share * mean) / square.sqrt().fma(unbias, eps);
        let param =
            if decays && self.decoupled { decoupled_decay(self.cautious, decay, param, direction) } else { param };
        let param = (-lr).fma(direction, param);
        (param, [none, mean, square])
    }
}
