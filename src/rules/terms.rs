//! Formulae that several rules share.

use crate::number::Number;
use crate::rule::SUMS;

/// Coupled (L2) weight decay: the gradient of the loss with `weight_decay / 2 * param^2` added.
///
/// Without decay the gradient passes untouched: `0 * param` would make a NaN of an infinite parameter.
#[inline(always)]
pub fn coupled_decay<T: Number>(decays: bool, weight_decay: T, param: T, grad: T) -> T {
    if decays { weight_decay.fma(param, grad) } else { grad }
}

/// Decoupled weight decay, ahead of `param -= lr * direction`. The cautious one (Chen et al., 2025) decays only where that
/// moves the parameter towards 0 as well, or not at all.
#[inline(always)]
pub fn decoupled_decay<T: Number>(cautious: bool, decay: T, param: T, direction: T) -> T {
    let decayed = param * decay;
    // Of the sign, as the product of two small numbers is 0.
    if cautious { T::if_less(sign(param) * direction, T::lit(0.0), param, decayed) } else { decayed }
}

/// The cautious update (Liang et al., 2024) of a direction: nothing where it and the gradient, or what stands for that,
/// are not of one sign.
#[inline(always)]
pub fn agreeing<T: Number>(cautious: bool, direction: T, grad: T) -> T {
    let zero = T::lit(0.0);
    // Of the sign, as the product of two small numbers is 0.
    if cautious { T::if_less(zero, sign(grad) * direction, direction, zero) } else { direction }
}

/// What [`agreeing`] elements are counted by: 1 for each of them.
#[inline(always)]
pub fn count_agreeing<T: Number>(direction: T, grad: T) -> [[T; 2]; SUMS] {
    let [zero, one] = [0.0, 1.0].map(T::lit);
    let agrees = T::if_less(zero, sign(grad) * direction, one, zero);
    [[agrees, agrees], [zero, zero]]
}

/// The rate of what is left of an update, of which `agreeing` of `len` elements are: larger by as much as it is rarer, up
/// to 1,000 times.
#[inline(always)]
pub fn rate_of_agreeing<N: Number>(rate: N, agreeing: N, len: N) -> N {
    rate / (agreeing / len).max(N::lit(1e-3))
}

/// The moving average `decay * average + (1 - decay) * value`, measured from the nearer end, as `torch.lerp`: exact
/// where an end is reached, and without the drift that two rounded weights with a sum beside 1 would give.
#[inline(always)]
pub fn moving_average<T: Number>(host_decay: f64, [decay, rest]: [T; 2], average: T, value: T) -> T {
    let way = value - average;
    if host_decay > 0.5 { way.fma(rest, average) } else { way.fma(-decay, value) }
}

/// The moving average of squares, `decay * average + (1 - decay) * value^2`. Summed and not interpolated, so that an
/// average which once overflowed stays infinite, as in torch, and does not become NaN.
#[inline(always)]
pub fn moving_average_of_squares<T: Number>([decay, rest]: [T; 2], average: T, value: T) -> T {
    (rest * value).fma(value, decay * average)
}

/// The root of a second moment, kept from zero by `eps`: `sqrt(square) + eps`, or `sqrt(square + eps)` if `inside`.
#[inline(always)]
pub fn root_with_eps<T: Number>(inside: bool, square: T, eps: T) -> T {
    if inside { (square + eps).sqrt() } else { square.sqrt() + eps }
}

/// The absolute value.
#[inline(always)]
pub fn absolute<T: Number>(value: T) -> T {
    value.max(-value)
}

/// The sign, -1, 0 or 1; 0 of NaN, as `torch.sign`.
#[inline(always)]
pub fn sign<T: Number>(value: T) -> T {
    let [zero, one] = [0.0, 1.0].map(T::lit);
    T::if_less(zero, value, one, T::if_less(value, zero, -one, zero))
}

/// The nearest number that is not below `least` and not above `most`; `most` if there is none, and NaN stays.
#[inline(always)]
pub fn clamp<T: Number>(value: T, least: T, most: T) -> T {
    // The smaller of two is the negative of the larger of their negatives.
    -(-value.max(least)).max(-most)
}

/// Of an `f64` the nearest number that has the 24 bits of an `f32` (Veltkamp's splitting).
pub fn to_single<N: Number>(number: N) -> N {
    let scaled = number * N::lit(f64::from((1 << 29) + 1));
    scaled - (scaled - number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn to_single_rounds_as_a_cast(number in 1.0_f64..2.0, exponent in -120_i32..120) {
            let number = number * 2.0_f64.powi(exponent);
            prop_assert_eq!(to_single(number), f64::from(number as f32));
        }

        #[test]
        fn to_single_of_shares(number in 0.0_f64..1.0) {
            prop_assert_eq!(to_single(number), f64::from(number as f32));
        }
    }

    #[test]
    fn no_decay_keeps_the_gradient_beside_an_infinite_parameter() {
        assert_eq!(coupled_decay(false, 0.0_f32, f32::INFINITY, 2.0), 2.0);
        assert_eq!(coupled_decay(true, 0.5_f32, 4.0, 2.0), 4.0);
    }

    #[test]
    fn cautious_decay_looks_at_both_signs() {
        let decayed = |param, direction| decoupled_decay(true, 0.5_f32, param, direction);
        assert_eq!([decayed(2.0, 1.0), decayed(-2.0, -1.0), decayed(2.0, 0.0)], [1.0, -1.0, 1.0]);
        assert_eq!([decayed(2.0, -1.0), decayed(-2.0, 1.0)], [2.0, -2.0]);
        assert_eq!(decayed(1e-30, -1e-30), 1e-30);
        assert_eq!(decoupled_decay(false, 0.5_f32, 2.0, -1.0), 1.0);
    }

    #[test]
    fn an_average_without_memory_is_the_value() {
        assert_eq!(moving_average(0.0, [0.0_f32, 1.0], 1e8, 0.1), 0.1);
        assert_eq!(moving_average(1.0, [1.0_f32, 0.0], 0.1, 1e8), 0.1);
    }

    #[test]
    fn signs_and_absolute_values() {
        for (value, expected) in [(2.0_f32, 1.0), (-1e-45, -1.0), (0.0, 0.0), (-0.0, 0.0), (f32::NAN, 0.0)] {
            assert_eq!(sign(value), expected);
        }
        assert_eq!([2.0_f32, -2.0, 0.0, -0.0].map(absolute), [2.0, 2.0, 0.0, 0.0]);
        assert_eq!(absolute(f32::NEG_INFINITY), f32::INFINITY);
        assert!(absolute(f32::NAN).is_nan());
    }

    #[test]
    fn clamped_numbers() {
        assert_eq!([0.5_f32, 1.5, 2.5].map(|value| clamp(value, 1.0, 2.0)), [1.0, 1.5, 2.0]);
        assert_eq!(clamp(0.5_f32, 2.0, 1.0), 1.0);
        assert!(clamp(f32::NAN, 1.0, 2.0).is_nan());
    }

    #[test]
    fn an_overflowed_average_of_squares_stays_infinite() {
        assert_eq!(moving_average_of_squares([0.999_f32, 0.001], f32::INFINITY, 1.0), f32::INFINITY);
    }
}
