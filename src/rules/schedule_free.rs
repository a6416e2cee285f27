//! What the schedule-free rules share: the average of the parameters that takes the place of a schedule.

use crate::error::Error;
use crate::number::Number;
use crate::rule::Options;

/// How the points `z`, where plain steps lead, are averaged to `x`, which is the result. The parameter is between them
/// while it trains, at `y = (1 - beta) * z + beta * x`, and gradients are taken there.
///
/// ```text
/// lr_t = lr * min(1, t / warmup_steps)        t counts steps from 1
/// lr_max = max(lr_max, lr_t)                  (from lr_max = 0)
/// w = t^r * lr_max^weight_lr_power
/// weight_sum += w                             (from weight_sum = 0)
/// c = w / weight_sum                          (0 where that is 0)
/// y = y + c * (z - y) + lr_t * (beta * (1 - c) - 1) * u
/// z = z - lr_t * u                            (from z = y)
/// ```
///
/// So `x`, which is kept nowhere, becomes `(1 - c) * x + c * z`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Averaging {
    pub beta: f64,
    warmup_steps: f64,
    r: f64,
    weight_lr_power: f64,
}

impl Averaging {
    /// By the options of a group, with the share of `x` in `y`.
    pub fn read(beta: f64, options: &dyn Options) -> Result<Self, Error> {
        Ok(Self {
            beta,
            warmup_steps: options.number("warmup_steps")?,
            r: options.number("r")?,
            weight_lr_power: options.number("weight_lr_power")?,
        })
    }

    /// `lr_t`, and in the places of `c` and of the rate of `y` what [`advance`](Self::advance) makes them of.
    pub fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; 3] {
        // A NaN stays, to be refused.
        let longer = (N::lit(self.warmup_steps) / step).max(N::lit(1.0));
        [lr / longer, N::lit(self.weight_lr_power), step.pow(N::lit(self.r))]
    }

    /// `lr_t`, `c` and the rate of `y`; `weight_sum` and `lr_max`.
    pub fn advance<N: Number>(&self, [lr, power, factor]: [N; 3], [sum, largest]: [N; 2]) -> ([N; 3], [N; 2]) {
        let [zero, one] = [0.0, 1.0].map(N::lit);
        let largest = largest.max(lr);
        let weight = factor * largest.pow(power);
        let sum = sum + weight;
        let share = N::if_equal(sum, zero, zero, weight / sum);
        ([lr, share, lr * (N::lit(self.beta) * (one - share) - one)], [sum, largest])
    }
}

/// `y` and `z` after a step against `direction`.
#[inline(always)]
pub fn averaged<T: Number>([lr, share, y_rate]: [T; 3], y: T, z: T, direction: T) -> [T; 2] {
    // In this order the first step, which begins at z = y and has c = 1, leads both to the same point.
    [y_rate.fma(direction, share.fma(z - y, y)), (-lr).fma(direction, z)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(averaging: Averaging, lr: f64, steps: u32) -> Vec<f64> {
        let mut scalars = [0.0; 2];
        let mut share = |step| {
            let ([_, share, _], new) = averaging.advance(averaging.coeffs(lr, f64::from(step)), scalars);
            scalars = new;
            share
        };
        (1..=steps).map(&mut share).collect()
    }

    const PLAIN: Averaging = Averaging { beta: 0.9, warmup_steps: 0.0, r: 0.0, weight_lr_power: 2.0 };

    #[test]
    fn a_plain_mean() {
        let expected: Vec<f64> = (1..=50).map(|step| 1.0 / f64::from(step)).collect();
        for (found, expected) in shares(PLAIN, 0.25, 50).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn a_warmup_has_little_weight() {
        // 1/16, 4/16, 9/16, 1, 1 of the weight of later steps.
        let found = shares(Averaging { warmup_steps: 4.0, ..PLAIN }, 0.5, 5);
        for (found, expected) in found.into_iter().zip([1.0, 4.0 / 5.0, 9.0 / 14.0, 16.0 / 30.0, 16.0 / 46.0]) {
            assert!((found - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn later_steps_weigh_more_by_r() {
        for (found, expected) in shares(Averaging { r: 1.0, ..PLAIN }, 0.5, 3).into_iter().zip([1.0, 2.0 / 3.0, 0.5]) {
            assert!((found - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn a_rate_of_zero_weighs_nothing() {
        assert_eq!(shares(PLAIN, 0.0, 3), [0.0; 3]);
        assert_eq!(shares(Averaging { weight_lr_power: 0.0, ..PLAIN }, 0.0, 2), [1.0, 0.5]);
    }

    #[test]
    fn the_first_step_is_plain() {
        let (coeffs, _) = PLAIN.advance(PLAIN.coeffs(0.1, 1.0), [0.0; 2]);
        let [y, z] = averaged(coeffs.map(|coeff| coeff as f32), 0.3, 0.3, 1.7);
        assert_eq!((y, z), (z, (-0.1_f32).mul_add(1.7, 0.3)));
    }
}
