//! How numbers are kept in memory, and what they are computed in.
#![allow(unsafe_code)]

use super::isa::Registers;
use super::pack::Vector;
use crate::number::Number;

/// A number that the loop computes in.
pub(super) trait Float: Number {
    type In16<G: Registers>: Vector<Self, 16>;
    type In32<G: Registers>: Vector<Self, 32>;

    /// The same value in `f64`.
    fn to_f64(self) -> f64;
}

/// A number as it lies in memory.
pub(super) trait Element: Copy {
    /// What it is computed in: the narrowest that holds all its values.
    type Compute: Float;
    /// Zero.
    const ZERO: Self;
    /// Whether it lies in memory as it is computed in.
    const AS_COMPUTED: bool;
    fn widen(self) -> Self::Compute;
    /// The nearest element, ties to even.
    fn narrow(value: Self::Compute) -> Self;

    /// `L` elements, in an order of its own that [`store_all`](Element::store_all) undoes.
    ///
    /// # Safety
    ///
    /// `from` must be readable for `L` elements. It may be unaligned.
    #[inline(always)]
    unsafe fn load_all<const L: usize>(from: *const Self) -> [Self::Compute; L] {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[Self; L]>().read_unaligned() }.map(Self::widen)
    }

    /// Writes `L` elements in the order of [`load_all`](Element::load_all).
    ///
    /// # Safety
    ///
    /// `to` must be writable for `L` elements. It may be unaligned.
    #[inline(always)]
    unsafe fn store_all<const L: usize>(to: *mut Self, lanes: &[Self::Compute; L]) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[Self; L]>().write_unaligned(lanes.map(Self::narrow)) };
    }
}

/// A 16-bit floating-point number of IEEE 754.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct F16(u16);

/// The upper half of an `f32`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Bf16(u16);

macro_rules! as_it_is {
    ($float:ty, $in16:ident, $in32:ident) => {
        impl Float for $float {
            type In16<G: Registers> = G::$in16;
            type In32<G: Registers> = G::$in32;

            #[inline(always)]
            fn to_f64(self) -> f64 {
                self.into()
            }
        }

        impl Element for $float {
            type Compute = $float;
            const ZERO: Self = 0.0;
            const AS_COMPUTED: bool = true;

            #[inline(always)]
            fn widen(self) -> $float {
                self
            }

            #[inline(always)]
            fn narrow(value: $float) -> $float {
                value
            }
        }
    };
}

as_it_is!(f32, F32x16, F32x32);
as_it_is!(f64, F64x16, F64x32);

/// Elements of 16 bits by pairs: the first ones of all, then the second ones. Each then lies in a word of its own as it
/// comes from memory, and none has to be moved to another.
macro_rules! by_pairs {
    () => {
        #[inline(always)]
        unsafe fn load_all<const L: usize>(from: *const Self) -> [f32; L] {
            let mut lanes = [0.0; L];
            for k in 0..L / 2 {
                // SAFETY: the caller's promise, for the elements 2k and 2k + 1.
                let pair = unsafe { from.cast::<u32>().add(k).read_unaligned() };
                lanes[k] = Self(pair as u16).widen();
                lanes[L / 2 + k] = Self((pair >> 16) as u16).widen();
            }
            lanes
        }

        #[inline(always)]
        unsafe fn store_all<const L: usize>(to: *mut Self, lanes: &[f32; L]) {
            for k in 0..L / 2 {
                let (first, second) = (Self::narrow(lanes[k]).0, Self::narrow(lanes[L / 2 + k]).0);
                let pair = u32::from(first) | u32::from(second) << 16;
                // SAFETY: the caller's promise, for the elements 2k and 2k + 1.
                unsafe { to.cast::<u32>().add(k).write_unaligned(pair) };
            }
        }
    };
}

// Both conversions compute every case and choose, without a branch: so they vectorise, which those of the crate `half`
// do not. Its tests below are exhaustive.

impl Element for Bf16 {
    type Compute = f32;
    const ZERO: Self = Self(0);
    const AS_COMPUTED: bool = false;

    by_pairs!();

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let nan = bits >> 16 | 0x40;
        Self(if value.is_nan() { nan } else { nearest } as u16)
    }
}

impl Element for F16 {
    type Compute = f32;
    const ZERO: Self = Self(0);
    const AS_COMPUTED: bool = false;

    by_pairs!();

    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.0);
        let (sign, rest) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
        // The exponents' biases differ by 112; that of infinity and NaN goes to the top; a subnormal is a normal f32
        // less the leading bit that it lacks.
        let normal = rest + (112 << 23);
        let special = rest + (224 << 23);
        let subnormal = (f32::from_bits(rest + (113 << 23)) - f32::from_bits(113 << 23)).to_bits();
        let magnitude = if rest < 1 << 23 {
            subnormal
        } else if rest < 31 << 23 {
            normal
        } else {
            special
        };
        f32::from_bits(sign | magnitude)
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let (sign, rest) = (bits >> 16 & 0x8000, bits & 0x7fff_ffff);
        // Added to 0.5, a subnormal's last place is that of the sum, which rounds it.
        let subnormal = (f32::from_bits(rest) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
        let normal = rest.wrapping_sub(112 << 23).wrapping_add(0xfff + (rest >> 13 & 1)) >> 13;
        let magnitude = if rest > 0x7f80_0000 {
            0x7e00
        } else if rest >= 143 << 23 {
            0x7c00
        } else if rest < 113 << 23 {
            subnormal
        } else {
            normal
        };
        Self((sign | magnitude) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_widen_to_what_they_mean() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (F16(bits).widen(), half::f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:x}");
            let (ours, theirs) = (Bf16(bits).widen(), half::bf16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:x}");
        }
    }

    #[test]
    fn every_f32_narrows_to_the_nearest() {
        // All exponents and signs with all upper mantissa bits, and the lower ones that decide a tie.
        for upper in 0..=u32::from(u16::MAX) {
            for middle in 0..16 {
                for lower in [0, 1, 0x7ff, 0x800, 0x801, 0xfff] {
                    let value = f32::from_bits(upper << 16 | middle << 12 | lower);
                    let (ours, theirs) = (F16::narrow(value), half::f16::from_f32(value));
                    assert!(ours.0 == theirs.to_bits() || value.is_nan() && ours.widen().is_nan(), "{value:e}");
                    let (ours, theirs) = (Bf16::narrow(value), half::bf16::from_f32(value));
                    assert!(ours.0 == theirs.to_bits() || value.is_nan() && ours.widen().is_nan(), "{value:e}");
                }
            }
        }
    }
}
