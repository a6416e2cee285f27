//! Prodigy.

use super::terms::{absolute, coupled_decay, moving_average_of_squares, sign};
use crate::error::Error;
use crate::number::Number;
use crate::rule::Origin::{Quotient, Value};
use crate::rule::{Learned, Options, Origin, Rule, SUMS};

/// Prodigy (Mishchenko and Defazio, 2024, algorithm 4, by Adam), which estimates the distance `d` to the solution, and so
/// the learning rate, from the gradients.
///
/// ```text
/// rate = d * lr * bias                         bias is 1, or sqrt(1 - beta2^k) / (1 - beta1^k); k counts steps from 1
/// m = beta1 * m + d * (1 - beta1) * grad
/// v = beta2 * v + d^2 * (1 - beta2) * grad^2
/// s = beta3 * s + d / d0 * rate * grad                                            (from s = 0)
/// numerator = beta3 * numerator + d / d0 * rate * sum(grad * (p0 - param))        p0 is the parameter at the beginning
/// d_hat = d_coef * numerator / sum(|s|)                                           sums over all parameters
/// d_max = max(d_max, d_hat)
/// d' = min(d_max, d * growth_rate)             d_hat for d_max as long as d = d0 is the larger of the two
/// param -= rate * (weight_decay * param + m / (sqrt(v) + d' * eps))
/// d = d'
/// ```
///
/// Under `safeguard_warmup` `s` grows by `d / d0 * d * grad`. A learning rate of 0 leaves a group out of all of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prodigy {
    beta1: f64,
    beta2: f64,
    beta3: f64,
    eps: f64,
    weight_decay: f64,
    decouple: bool,
    cautious: bool,
    use_bias_correction: bool,
    safeguard_warmup: bool,
    d0: f64,
    d_coef: f64,
    growth_rate: f64,
    k: f64,
    d: f64,
    d_max: f64,
    numerator: f64,
    /// What the sums of the step under way make of it.
    next: Option<Estimate>,
}

/// The distance as a step leaves it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Estimate {
    d: f64,
    d_max: f64,
    d_hat: f64,
    numerator: f64,
    denominator: f64,
}

impl Rule<11, 4> for Prodigy {
    const NAME: &'static str = "prodigy";
    const COEFFS: [&'static str; 11] =
        ["rate", "beta1", "beta1_rest", "beta2", "beta2_rest", "beta3", "s_rate", "eps", "decay", "gain", "counts"];
    const ORIGINS: [Origin; 11] = [
        Quotient("betas[0]"),
        Value("betas[0]"),
        Value("d"),
        Value("betas[1]"),
        Value("d"),
        Value("beta3"),
        Quotient("d0"),
        Value("eps"),
        Value("weight_decay"),
        Quotient("d0"),
        Value("lr"),
    ];
    const SLOTS: [&'static str; 4] = ["s", "p0", "exp_avg", "exp_avg_sq"];
    const AS_PARAM: [bool; 4] = [false, true, false, false];
    const COUNTED: bool = false;
    const OVER_ALL: bool = true;

    fn read(options: &dyn Options) -> Result<Self, Error> {
        let [beta1, beta2] = options.pair("betas")?;
        Ok(Self {
            beta1,
            beta2,
            beta3: options.optional("beta3")?.unwrap_or(beta2.sqrt()),
            eps: options.number("eps")?,
            weight_decay: options.number("weight_decay")?,
            decouple: options.flag("decouple")?,
            cautious: options.extra("cautious_weight_decay")?,
            use_bias_correction: options.flag("use_bias_correction")?,
            safeguard_warmup: options.flag("safeguard_warmup")?,
            d0: options.number("d0")?,
            d_coef: options.number("d_coef")?,
            growth_rate: options.number("growth_rate")?,
            k: options.number("k")?,
            d: options.number("d")?,
            d_max: options.number("d_max")?,
            numerator: options.number("d_numerator")?,
            next: None,
        })
    }

    fn coeffs<N: Number>(&self, lr: N, _step: N) -> [N; 11] {
        let [zero, one] = [0.0, 1.0].map(N::lit);
        let (d, steps) = (self.d, self.k + 1.0);
        let bias = if self.use_bias_correction {
            (1.0 - self.beta2.powf(steps)).sqrt() / (1.0 - self.beta1.powf(steps))
        } else {
            1.0
        };
        let rate = N::lit(d * bias) * lr;
        let share = N::lit(d / self.d0);
        let s_rate = if self.safeguard_warmup { share * N::lit(d) } else { share * rate };
        // Nothing happens in a group without a rate, nor where nothing is known of the distance.
        let stays = self.next.is_some_and(|next| next.denominator == 0.0);
        let moved = if stays { zero } else { rate };
        let weight_decay = N::lit(self.weight_decay);
        let decay = if self.decouple { moved * weight_decay } else { weight_decay };
        let eps = N::lit(self.next.map_or(d, |next| next.d) * self.eps);
        let of_group = |frozen: f64, value: N| N::if_equal(lr, zero, N::lit(frozen), value);
        [
            moved,
            of_group(1.0, N::lit(self.beta1)),
            of_group(0.0, N::lit(d * (1.0 - self.beta1))),
            of_group(1.0, N::lit(self.beta2)),
            of_group(0.0, N::lit(d * d * (1.0 - self.beta2))),
            of_group(1.0, N::lit(self.beta3)),
            of_group(0.0, s_rate),
            eps,
            decay,
            share * rate,
            of_group(0.0, one),
        ]
    }

    #[inline(always)]
    fn summands<T: Number>(&self, coeffs: [T; 11], param: T, grad: T, slots: [T; 4]) -> [[T; 2]; SUMS] {
        let [.., beta3, s_rate, _, decay, gain, counts] = coeffs;
        let grad = self.decayed(decay, param, grad);
        let sum = s_rate.fma(grad, beta3 * slots[0]);
        [[gain * grad, slots[1] - param], [counts, absolute(sum)]]
    }

    fn learn(&mut self, [gained, denominator]: [f64; SUMS]) {
        let Self { d, d0, d_max, .. } = *self;
        let numerator = self.beta3 * self.numerator + gained;
        let d_hat = self.d_coef * numerator / denominator;
        self.next = Some(if denominator == 0.0 || !d_hat.is_finite() {
            // Of gradients that are 0, infinite or NaN nothing is learnt.
            Estimate { d, d_max, d_hat: d, numerator: self.numerator, denominator }
        } else {
            let d = if d == d0 { d.max(d_hat) } else { d };
            let d_max = d_max.max(d_hat);
            Estimate { d: d_max.min(d * self.growth_rate), d_max, d_hat, numerator, denominator }
        });
    }

    fn learned(&self) -> Learned {
        let Some(next) = self.next else { return Vec::new() };
        let k = if next.denominator == 0.0 { self.k } else { self.k + 1.0 };
        let Estimate { d, d_max, d_hat, numerator, denominator } = next;
        let denominator = ("d_denom", denominator);
        vec![("d", d), ("d_max", d_max), ("d_hat", d_hat), ("d_numerator", numerator), denominator, ("k", k)]
    }

    fn shared(&self) -> Learned {
        let flag = |value: bool| f64::from(u8::from(value));
        vec![
            ("betas[0]", self.beta1),
            ("betas[1]", self.beta2),
            ("beta3", self.beta3),
            ("use_bias_correction", flag(self.use_bias_correction)),
            ("safeguard_warmup", flag(self.safeguard_warmup)),
            ("d0", self.d0),
            ("d_coef", self.d_coef),
            ("growth_rate", self.growth_rate),
            ("d", self.d),
            ("d_max", self.d_max),
            ("d_numerator", self.numerator),
            ("k", self.k),
        ]
    }

    fn live(&self) -> [bool; 4] {
        [true, true, self.beta1 != 0.0, true]
    }

    #[inline(always)]
    fn update<T: Number>(&self, coeffs: [T; 11], param: T, grad: T, slots: [T; 4]) -> (T, [T; 4]) {
        let [rate, beta1, rest1, beta2, rest2, beta3, s_rate, eps, decay, ..] = coeffs;
        let [sum, first, mean, square] = slots;
        let grad = self.decayed(decay, param, grad);
        let mean = rest1.fma(grad, beta1 * mean);
        let square = moving_average_of_squares([beta2, rest2], square, grad);
        let sum = s_rate.fma(grad, beta3 * sum);
        let direction = mean / (square.sqrt() + eps);
        let [zero, change] = [T::lit(0.0), rate * direction];
        let decayed = decay.fma(param, change);
        // In one with the update, and not as a factor: beside 1 the rates of the first steps would be lost.
        let change = match (self.decouple && self.weight_decay != 0.0, self.cautious) {
            (false, _) => change,
            (true, false) => decayed,
            (true, true) => T::if_less(sign(param) * direction, zero, change, decayed),
        };
        (param - change, [sum, first, mean, square])
    }
}

impl Prodigy {
    /// The gradient with coupled decay.
    #[inline(always)]
    fn decayed<T: Number>(&self, decay: T, param: T, grad: T) -> T {
        coupled_decay(!self.decouple && self.weight_decay != 0.0, decay, param, grad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Prodigy = Prodigy {
        beta1: 0.9,
        beta2: 0.999,
        beta3: 0.5,
        eps: 1e-8,
        weight_decay: 0.0,
        decouple: true,
        cautious: false,
        use_bias_correction: false,
        safeguard_warmup: false,
        d0: 1e-2,
        d_coef: 2.0,
        growth_rate: f64::INFINITY,
        k: 3.0,
        d: 1e-2,
        d_max: 1e-2,
        numerator: 4.0,
        next: None,
    };

    fn learned(mut rule: Prodigy, sums: [f64; SUMS]) -> Vec<f64> {
        rule.learn(sums);
        rule.learned().into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn the_distance_grows_to_the_estimate() {
        // 2 * (0.5 * 4 + 6) / 32
        assert_eq!(learned(PLAIN, [6.0, 32.0]), [0.5, 0.5, 0.5, 8.0, 32.0, 4.0]);
        // No longer the first, which jumps; it grows by what it may.
        let later = Prodigy { d: 0.25, d_max: 0.75, growth_rate: 2.0, ..PLAIN };
        assert_eq!(learned(later, [6.0, 32.0]), [0.5, 0.75, 0.5, 8.0, 32.0, 4.0]);
        assert_eq!(learned(Prodigy { growth_rate: 1.5, ..later }, [6.0, 32.0])[0], 0.375);
        // And never shrinks.
        assert_eq!(learned(later, [-6.0, 32.0])[..2], [0.5, 0.75]);
    }

    #[test]
    fn of_no_gradients_nothing_is_learnt() {
        assert_eq!(learned(PLAIN, [0.0, 0.0]), [1e-2, 1e-2, 1e-2, 4.0, 0.0, 3.0]);
        let found = learned(PLAIN, [f64::NAN, f64::INFINITY]);
        assert_eq!(found[..4], [1e-2, 1e-2, 1e-2, 4.0]);
        let mut rule = PLAIN;
        rule.learn([0.0, 0.0]);
        assert_eq!(rule.coeffs(1.0, 1.0)[0], 0.0);
    }

    #[test]
    fn a_group_without_a_rate_stays() {
        let rule = Prodigy { weight_decay: 0.5, ..PLAIN };
        let (coeffs, slots) = (rule.coeffs(0.0, 2.0), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(rule.update(coeffs, 5.0, 6.0, slots), (5.0, slots));
        assert_eq!(rule.summands(coeffs, 5.0, 6.0, slots).map(|[left, right]| left * right), [0.0, 0.0]);
    }
}
