//! Numbers in the vector registers of x86-64.
//!
//! Spelt out, because what the compiler makes of loops over arrays is a matter of luck here: one build of a rule was
//! slower by a fifth than the next, which differed in its debugging information alone.
#![allow(unsafe_code)]

use core::arch::x86_64::*;
use core::ops::{Add, Div, Mul, Neg, Sub};

use super::isa::{Avx2, Avx512, Registers};
use super::pack::{Lanes, Pair, Vector};
use crate::number::Number;

/// A register of numbers; exists where the loop is compiled for an instruction set that has it, and nowhere else.
macro_rules! register {
    (
        $name:ident($register:ty) of $lane:ty, $count:literal:
        $add:ident $sub:ident $mul:ident $div:ident $sqrt:ident $fma:ident $splat:ident,
        neg: |$of:ident| $neg:expr, max: |$left:ident, $right:ident| $max:expr,
        choose: |$on:ident, $then:ident, $otherwise:ident| $choose:expr, $compare:ident
    ) => {
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub(super) struct $name($register);

        register!(@operators $name Add add $add, Sub sub $sub, Mul mul $mul, Div div $div);

        impl Neg for $name {
            type Output = Self;

            #[inline(always)]
            fn neg(self) -> Self {
                let $of = self.0;
                // SAFETY: the register is there, so its instructions are.
                Self(unsafe { $neg })
            }
        }

        impl Number for $name {
            #[inline(always)]
            fn lit(value: f64) -> Self {
                // SAFETY: as above.
                Self(unsafe { $splat(value as $lane) })
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                // SAFETY: as above.
                Self(unsafe { $sqrt(self.0) })
            }

            #[inline(always)]
            fn fma(self, factor: Self, addend: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { $fma(self.0, factor.0, addend.0) })
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                let ($left, $right) = (self.0, other.0);
                // SAFETY: as above.
                Self(unsafe { $max })
            }

            #[inline(always)]
            fn pow(self, exponent: Self) -> Self {
                Self::from_lanes(Lanes(self.lanes()).pow(Lanes(exponent.lanes())).0)
            }

            #[inline(always)]
            fn if_equal(left: Self, right: Self, then: Self, otherwise: Self) -> Self {
                let ($then, $otherwise) = (then.0, otherwise.0);
                // SAFETY: as above.
                Self(unsafe {
                    let $on = $compare::<_CMP_EQ_OQ>(left.0, right.0);
                    $choose
                })
            }

            #[inline(always)]
            fn if_less(left: Self, right: Self, then: Self, otherwise: Self) -> Self {
                let ($then, $otherwise) = (then.0, otherwise.0);
                // SAFETY: as above.
                Self(unsafe {
                    let $on = $compare::<_CMP_LT_OQ>(left.0, right.0);
                    $choose
                })
            }
        }

        // SAFETY: a register is these numbers, in this order.
        unsafe impl Vector<$lane, $count> for $name {
            #[inline(always)]
            fn splat(lane: $lane) -> Self {
                // SAFETY: as above.
                Self(unsafe { $splat(lane) })
            }
        }
    };
    (@operators $name:ident $($trait:ident $method:ident $instruction:ident),+) => {
        $(
            impl $trait for $name {
                type Output = Self;

                #[inline(always)]
                fn $method(self, other: Self) -> Self {
                    // SAFETY: the register is there, so its instructions are.
                    Self(unsafe { $instruction(self.0, other.0) })
                }
            }
        )+
    };
}

// The largest of two is NaN if the right one is, as it comes out of the instruction, or if the left one is, put in.

register! {
    F32x16(__m512) of f32, 16:
    _mm512_add_ps _mm512_sub_ps _mm512_mul_ps _mm512_div_ps _mm512_sqrt_ps _mm512_fmadd_ps _mm512_set1_ps,
    neg: |all| _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(all), _mm512_set1_epi32(i32::MIN))),
    max: |a, b| _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), a),
    choose: |on, then, otherwise| _mm512_mask_mov_ps(otherwise, on, then), _mm512_cmp_ps_mask
}

register! {
    F64x8(__m512d) of f64, 8:
    _mm512_add_pd _mm512_sub_pd _mm512_mul_pd _mm512_div_pd _mm512_sqrt_pd _mm512_fmadd_pd _mm512_set1_pd,
    neg: |all| _mm512_castsi512_pd(_mm512_xor_si512(_mm512_castpd_si512(all), _mm512_set1_epi64(i64::MIN))),
    max: |a, b| _mm512_mask_mov_pd(_mm512_max_pd(a, b), _mm512_cmp_pd_mask::<_CMP_UNORD_Q>(a, a), a),
    choose: |on, then, otherwise| _mm512_mask_mov_pd(otherwise, on, then), _mm512_cmp_pd_mask
}

register! {
    F32x8(__m256) of f32, 8:
    _mm256_add_ps _mm256_sub_ps _mm256_mul_ps _mm256_div_ps _mm256_sqrt_ps _mm256_fmadd_ps _mm256_set1_ps,
    neg: |all| _mm256_xor_ps(all, _mm256_set1_ps(-0.0)),
    max: |a, b| _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a)),
    choose: |on, then, otherwise| _mm256_blendv_ps(otherwise, then, on), _mm256_cmp_ps
}

register! {
    F64x4(__m256d) of f64, 4:
    _mm256_add_pd _mm256_sub_pd _mm256_mul_pd _mm256_div_pd _mm256_sqrt_pd _mm256_fmadd_pd _mm256_set1_pd,
    neg: |all| _mm256_xor_pd(all, _mm256_set1_pd(-0.0)),
    max: |a, b| _mm256_blendv_pd(_mm256_max_pd(a, b), a, _mm256_cmp_pd::<_CMP_UNORD_Q>(a, a)),
    choose: |on, then, otherwise| _mm256_blendv_pd(otherwise, then, on), _mm256_cmp_pd
}

impl Registers for Avx512 {
    type F32x16 = F32x16;
    type F32x32 = Pair<F32x16>;
    type F64x16 = Pair<F64x8>;
    type F64x32 = Pair<Pair<F64x8>>;
}

impl Registers for Avx2 {
    type F32x16 = Pair<F32x8>;
    type F32x32 = Pair<Pair<F32x8>>;
    type F64x16 = Pair<Pair<F64x4>>;
    type F64x32 = Pair<Pair<Pair<F64x4>>>;
}
