//! Schedule-free AdamW.

use super::schedule_free::{Averaging, averaged};
use super::terms::{coupled_decay, moving_average_of_squares};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::{Root, Value};
use crate::rule::{Options, Origin, Rule};

/// Schedule-free AdamW (Defazio et al., The road less scheduled, 2024, algorithm 1).
///
/// ```text
/// v = beta2 * v + (1 - beta2) * grad^2
/// u = grad / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * y      (y is the parameter)
/// lr_t = lr * min(1, t / warmup_steps)                               t counts steps from 1
/// lr_max = max(lr_max, lr_t)                                         (from lr_max = 0)
/// w = t^r * lr_max^weight_lr_power
/// weight_sum += w                                                    (from weight_sum = 0)
/// c = w / weight_sum                                                 (0 where that is 0)
/// y = y + c * (z - y) + lr_t * (beta1 * (1 - c) - 1) * u
/// z = z - lr_t * u                                                   (from z = y)
/// ```
///
/// The average of all `z`, which is the result, is `x = y + (1 - 1 / beta1) * (z - y)`. The root of the correction is
/// taken once a step, and multiplied where the formula divides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleFreeAdamW {
    averaging: Averaging,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
}

impl Rule<9, 4> for ScheduleFreeAdamW {
    const NAME: &'static str = "schedule_free_adamw";
    const COEFFS: [&'static str; 9] =
        ["lr", "share", "y_rate", "beta1", "beta2", "beta2_rest", "unbias", "eps", "decay"];
    const ORIGINS: [Origin; 9] = [
        Value("warmup_steps"),
        Value("weight_lr_power"),
        Value("r"),
        Value("betas[0]"),
        Value("betas[1]"),
        Value("betas[1]"),
        Root("betas[1]"),
        Value("eps"),
        Value("weight_decay"),
    ];
    const SLOTS: [&'static str; 4] = ["weight_sum", "lr_max", "z", "exp_avg_sq"];
    const AS_PARAM: [bool; 4] = [false, false, true, false];
    const SCALARS: [bool; 4] = [true, true, false, false];
    const COUNTED: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        let [beta1, beta2] = options.pair("betas")?;
        Ok(Self {
            averaging: Averaging::read(beta1, options)?,
            beta2,
            eps: options.number("eps")?,
            weight_decay: options.number("weight_decay")?,
        })
    }

    /// With `beta1`, which [`advance`](Self::advance) has from the options, to be checked.
    fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; 9] {
        let (one, beta2) = (N::lit(1.0), N::lit(self.beta2));
        let [lr, power, factor] = self.averaging.coeffs(lr, step);
        let unbias = one / (one - beta2.pow(step)).sqrt();
        let [beta1, eps, decay] = [self.averaging.beta, self.eps, self.weight_decay].map(N::lit);
        [lr, power, factor, beta1, beta2, one - beta2, unbias, eps, decay]
    }

    fn advance<N: Number>(
        &self,
        mut coeffs: [N; 9],
        [sum, largest, none, _]: [N; 4],
        _single: bool,
    ) -> ([N; 9], [N; 4]) {
        let [lr, power, factor, ..] = coeffs;
        let (averaging, [sum, largest]) = self.averaging.advance([lr, power, factor], [sum, largest]);
        [coeffs[0], coeffs[1], coeffs[2]] = averaging;
        (coeffs, [sum, largest, none, none])
    }

    fn live(&self) -> [bool; 4] {
        [false, false, true, true]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [lr, share, y_rate, _, beta2, rest2, unbias, eps, decay]: [T; 9],
        param: T,
        grad: T,
        [none, _, z, square]: [T; 4],
    ) -> (T, [T; 4]) {
        let square = moving_average_of_squares([beta2, rest2], square, grad);
        let direction = grad / square.sqrt().fma(unbias, eps);
        let direction = coupled_decay(self.weight_decay != 0.0, decay, param, direction);
        let [param, z] = averaged([lr, share, y_rate], param, z, direction);
        (param, [none, none, z, square])
    }
}
