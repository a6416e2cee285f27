//! Several numbers computed with at once.
#![allow(unsafe_code)]

use core::ops::{Add, Div, Mul, Neg, Sub};

use crate::number::Number;

/// `L` numbers of type `T`; every operation is one on each of them.
///
/// # Safety
///
/// In memory it must be those numbers, in their order, and nothing else.
pub(super) unsafe trait Vector<T: Copy, const L: usize>: Number {
    /// `lane` everywhere.
    fn splat(lane: T) -> Self;

    #[inline(always)]
    fn from_lanes(lanes: [T; L]) -> Self {
        const { assert!(size_of::<Self>() == size_of::<[T; L]>()) };
        // SAFETY: the trait's promise.
        unsafe { core::mem::transmute_copy(&lanes) }
    }

    #[inline(always)]
    fn lanes(self) -> [T; L] {
        const { assert!(size_of::<Self>() == size_of::<[T; L]>()) };
        // SAFETY: the trait's promise.
        unsafe { core::mem::transmute_copy(&self) }
    }
}

/// Numbers in an array. The compiler makes vector instructions of these short loops, or not, as it likes: for machines
/// whose [registers](super::registers) are not spelt out.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Lanes<T, const L: usize>(pub [T; L]);

impl<T: Number, const L: usize> Lanes<T, L> {
    #[inline(always)]
    fn map(self, f: impl Fn(T) -> T) -> Self {
        let mut all = self;
        for value in &mut all.0 {
            *value = f(*value);
        }
        all
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(T, T) -> T) -> Self {
        let mut all = self;
        for (value, other) in all.0.iter_mut().zip(other.0) {
            *value = f(*value, other);
        }
        all
    }
}

/// Two registers, or two pairs of them.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Pair<V>(V, V);

macro_rules! operators {
    ($($name:ident $method:ident),+) => {
        $(
            impl<T: Number, const L: usize> $name for Lanes<T, L> {
                type Output = Self;

                #[inline(always)]
                fn $method(self, other: Self) -> Self {
                    self.zip(other, |left, right| left.$method(right))
                }
            }

            impl<V: Number> $name for Pair<V> {
                type Output = Self;

                #[inline(always)]
                fn $method(self, other: Self) -> Self {
                    Self(self.0.$method(other.0), self.1.$method(other.1))
                }
            }
        )+
    };
}

operators!(Add add, Sub sub, Mul mul, Div div);

impl<T: Number, const L: usize> Neg for Lanes<T, L> {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        self.map(|value| -value)
    }
}

impl<V: Number> Neg for Pair<V> {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Self(-self.0, -self.1)
    }
}

impl<T: Number, const L: usize> Number for Lanes<T, L> {
    #[inline(always)]
    fn lit(value: f64) -> Self {
        Self([T::lit(value); L])
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.map(T::sqrt)
    }

    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        let mut all = self;
        for lane in 0..L {
            all.0[lane] = self.0[lane].fma(factor.0[lane], addend.0[lane]);
        }
        all
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, T::max)
    }

    #[inline(always)]
    fn pow(self, exponent: Self) -> Self {
        self.zip(exponent, T::pow)
    }

    #[inline(always)]
    fn if_equal(left: Self, right: Self, then: Self, otherwise: Self) -> Self {
        let mut all = then;
        for lane in 0..L {
            all.0[lane] = T::if_equal(left.0[lane], right.0[lane], then.0[lane], otherwise.0[lane]);
        }
        all
    }

    #[inline(always)]
    fn if_less(left: Self, right: Self, then: Self, otherwise: Self) -> Self {
        let mut all = then;
        for lane in 0..L {
            all.0[lane] = T::if_less(left.0[lane], right.0[lane], then.0[lane], otherwise.0[lane]);
        }
        all
    }
}

impl<V: Number> Number for Pair<V> {
    #[inline(always)]
    fn lit(value: f64) -> Self {
        Self(V::lit(value), V::lit(value))
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.sqrt(), self.1.sqrt())
    }

    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        Self(self.0.fma(factor.0, addend.0), self.1.fma(factor.1, addend.1))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0), self.1.max(other.1))
    }

    #[inline(always)]
    fn pow(self, exponent: Self) -> Self {
        Self(self.0.pow(exponent.0), self.1.pow(exponent.1))
    }

    #[inline(always)]
    fn if_equal(left: Self, right: Self, then: Self, otherwise: Self) -> Self {
        Self(V::if_equal(left.0, right.0, then.0, otherwise.0), V::if_equal(left.1, right.1, then.1, otherwise.1))
    }

    #[inline(always)]
    fn if_less(left: Self, right: Self, then: Self, otherwise: Self) -> Self {
        Self(V::if_less(left.0, right.0, then.0, otherwise.0), V::if_less(left.1, right.1, then.1, otherwise.1))
    }
}

// SAFETY: an array of `L` numbers.
unsafe impl<T: Number, const L: usize> Vector<T, L> for Lanes<T, L> {
    #[inline(always)]
    fn splat(lane: T) -> Self {
        Self([lane; L])
    }
}

macro_rules! pairs {
    ($($half:literal $whole:literal),+) => {
        $(
            // SAFETY: two times half of the numbers, one after the other.
            unsafe impl<T: Copy, V: Vector<T, $half>> Vector<T, $whole> for Pair<V> {
                #[inline(always)]
                fn splat(lane: T) -> Self {
                    Self(V::splat(lane), V::splat(lane))
                }
            }
        )+
    };
}

pairs!(4 8, 8 16, 16 32);
