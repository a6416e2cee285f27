//! Schedule-free gradient descent.

use super::schedule_free::{Averaging, averaged};
use super::terms::coupled_decay;
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::Value;
use crate::rule::{Options, Origin, Rule};

/// Schedule-free gradient descent (Defazio et al., The road less scheduled, 2024).
///
/// ```text
/// u = grad + weight_decay * y                 (y is the parameter)
/// lr_t = lr * min(1, t / warmup_steps)        t counts steps from 1
/// lr_max = max(lr_max, lr_t)                  (from lr_max = 0)
/// w = t^r * lr_max^weight_lr_power
/// weight_sum += w                             (from weight_sum = 0)
/// c = w / weight_sum                          (0 where that is 0)
/// y = y + c * (z - y) + lr_t * (momentum * (1 - c) - 1) * u
/// z = z - lr_t * u                            (from z = y)
/// ```
///
/// The average of all `z`, which is the result, is `x = y + (1 - 1 / momentum) * (z - y)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleFreeSgd {
    averaging: Averaging,
    weight_decay: f64,
}

impl Rule<5, 3> for ScheduleFreeSgd {
    const NAME: &'static str = "schedule_free_sgd";
    const COEFFS: [&'static str; 5] = ["lr", "share", "y_rate", "momentum", "decay"];
    const ORIGINS: [Origin; 5] =
        [Value("warmup_steps"), Value("weight_lr_power"), Value("r"), Value("momentum"), Value("weight_decay")];
    const SLOTS: [&'static str; 3] = ["weight_sum", "lr_max", "z"];
    const AS_PARAM: [bool; 3] = [false, false, true];
    const SCALARS: [bool; 3] = [true, true, false];
    const COUNTED: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        let averaging = Averaging::read(options.number("momentum")?, options)?;
        Ok(Self { averaging, weight_decay: options.number("weight_decay")? })
    }

    /// With the momentum, which [`advance`](Self::advance) has from the options, to be checked.
    fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; 5] {
        let [lr, power, factor] = self.averaging.coeffs(lr, step);
        [lr, power, factor, N::lit(self.averaging.beta), N::lit(self.weight_decay)]
    }

    fn advance<N: Number>(
        &self,
        [lr, power, factor, momentum, decay]: [N; 5],
        [sum, largest, none]: [N; 3],
        _single: bool,
    ) -> ([N; 5], [N; 3]) {
        let ([lr, share, y_rate], [sum, largest]) = self.averaging.advance([lr, power, factor], [sum, largest]);
        ([lr, share, y_rate, momentum, decay], [sum, largest, none])
    }

    fn live(&self) -> [bool; 3] {
        [false, false, true]
    }

    #[inline(always)]
    fn update<T: Number>(
        &self,
        [lr, share, y_rate, _, decay]: [T; 5],
        param: T,
        grad: T,
        [none, _, z]: [T; 3],
    ) -> (T, [T; 3]) {
        let direction = coupled_decay(self.weight_decay != 0.0, decay, param, grad);
        let [param, z] = averaged([lr, share, y_rate], param, z, direction);
        (param, [none, none, z])
    }
}
