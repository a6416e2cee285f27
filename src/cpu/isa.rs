//! The instruction sets that the sweep is compiled for, and the choice among them.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use super::sweep::{Run, sweep};
use crate::number::Number;
use crate::rule::Rule;

/// An instruction set that this machine has. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// All that this machine has, the slowest first. The first is what the crate was compiled for; on x86-64 that has
    /// no fused multiply-add, and the same bits are then computed in software, slowly.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut)]
        let mut all = vec![Isa(Set::Baseline)];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 {
                all.push(Isa(Set::Avx2));
            }
            if avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                all.push(Isa(Set::Avx512));
            }
        }
        all
    }

    /// The fastest that this machine has; found once.
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::available().into_iter().next_back().unwrap_or(Isa(Set::Baseline)))
    }

    /// [`sweep`] under this instruction set.
    ///
    /// # Safety
    ///
    /// As for [`sweep`].
    pub(super) unsafe fn sweep<T: Number, R: Rule<C, S>, const C: usize, const S: usize>(
        self,
        rule: &R,
        coeffs: [T; C],
        sign: T,
        run: Run<T, S>,
    ) {
        // SAFETY: the caller's promise; and an `Isa` is made in `available` alone, where its features were detected.
        unsafe {
            match self.0 {
                Set::Baseline => sweep(rule, coeffs, sign, run),
                #[cfg(target_arch = "x86_64")]
                Set::Avx2 => avx2(rule, coeffs, sign, run),
                #[cfg(target_arch = "x86_64")]
                Set::Avx512 => avx512(rule, coeffs, sign, run),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! compiled_for {
    ($name:ident, $features:literal) => {
        /// # Safety
        ///
        /// As for [`sweep`].
        #[target_feature(enable = $features)]
        unsafe fn $name<T: Number, R: Rule<C, S>, const C: usize, const S: usize>(
            rule: &R,
            coeffs: [T; C],
            sign: T,
            run: Run<T, S>,
        ) {
            // SAFETY: the caller's promise.
            unsafe { sweep(rule, coeffs, sign, run) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled_for!(avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled_for!(avx512, "avx512f,avx512vl,avx2,fma");
