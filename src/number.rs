//! The arithmetic that a rule may use.

use core::ops::{Add, Div, Mul, Neg, Sub};

/// A number that a [rule](crate::rule::Rule) computes with: `f32` in the CPU loop, `f64` for `f64` tensors and for a
/// step's coefficients.
///
/// Every operation rounds once and in the same way on every instruction set, so a result does not depend on the
/// machine, the number of threads or an element's place in a block.
pub trait Number:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// The nearest number to `value`.
    fn lit(value: f64) -> Self;
    /// The square root; NaN below zero.
    fn sqrt(self) -> Self;
    /// `self * factor + addend`, rounded once.
    fn fma(self, factor: Self, addend: Self) -> Self;
    /// The larger; NaN if either is (as `torch.maximum`, unlike [`f32::max`]).
    fn max(self, other: Self) -> Self;
    /// `self` to the power `exponent`.
    fn pow(self, exponent: Self) -> Self;
    /// `then` if `left == right`, else `otherwise`.
    fn if_equal(left: Self, right: Self, then: Self, otherwise: Self) -> Self;
    /// `then` if `left < right`, else `otherwise`; NaN is below nothing, and nothing below NaN.
    fn if_less(left: Self, right: Self, then: Self, otherwise: Self) -> Self;
}

macro_rules! float {
    ($float:ty) => {
        impl Number for $float {
            #[inline(always)]
            fn lit(value: f64) -> Self {
                value as $float
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                <$float>::sqrt(self)
            }

            #[inline(always)]
            fn fma(self, factor: Self, addend: Self) -> Self {
                self.mul_add(factor, addend)
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if self > other || self.is_nan() { self } else { other }
            }

            #[inline(always)]
            fn pow(self, exponent: Self) -> Self {
                self.powf(exponent)
            }

            #[inline(always)]
            fn if_equal(left: Self, right: Self, then: Self, otherwise: Self) -> Self {
                if left == right { then } else { otherwise }
            }

            #[inline(always)]
            fn if_less(left: Self, right: Self, then: Self, otherwise: Self) -> Self {
                if left < right { then } else { otherwise }
            }
        }
    };
}

float!(f32);
float!(f64);

#[cfg(test)]
mod tests {
    use super::Number;

    #[test]
    fn max_carries_nan_from_either_side() {
        for (left, right) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::NAN, f32::INFINITY)] {
            assert!(Number::max(left, right).is_nan());
        }
        assert_eq!(Number::max(1.0_f32, 2.0), 2.0);
        assert_eq!(Number::max(2.0_f64, 1.0), 2.0);
        assert_eq!(Number::max(f64::NEG_INFINITY, -1.0), -1.0);
    }

    #[test]
    fn fma_rounds_once() {
        let nearly_one = 1.0_f32 + f32::EPSILON;
        assert_eq!(nearly_one.fma(nearly_one, -1.0), 2.0 * f32::EPSILON + f32::EPSILON * f32::EPSILON);
    }

    #[test]
    fn if_equal_chooses() {
        assert_eq!(f64::if_equal(1.0, 1.0, 3.0, 4.0), 3.0);
        assert_eq!(f64::if_equal(1.0, 2.0, 3.0, 4.0), 4.0);
    }

    #[test]
    fn if_less_chooses() {
        for (left, right, less) in [(1.0, 2.0, true), (2.0, 2.0, false), (-0.0, 0.0, false), (3.0, 2.0, false)] {
            assert_eq!(f32::if_less(left, right, 3.0, 4.0) == 3.0, less);
        }
        for (left, right) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::NAN, f64::INFINITY)] {
            assert_eq!(f64::if_less(left, right, 3.0, 4.0), 4.0);
        }
    }
}
