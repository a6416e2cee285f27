//! The instruction sets that the loops are compiled for, and the choice among them.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use super::pack::{Lanes, Vector};

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

/// How an instruction set holds 16 and 32 numbers.
pub(super) trait Registers {
    type F32x16: Vector<f32, 16>;
    type F32x32: Vector<f32, 32>;
    type F64x16: Vector<f64, 16>;
    type F64x32: Vector<f64, 32>;
}

/// What the crate is compiled for.
struct Baseline;

impl Registers for Baseline {
    type F32x16 = Lanes<f32, 16>;
    type F32x32 = Lanes<f32, 32>;
    type F64x16 = Lanes<f64, 16>;
    type F64x32 = Lanes<f64, 32>;
}

#[cfg(target_arch = "x86_64")]
pub(super) struct Avx2;

#[cfg(target_arch = "x86_64")]
pub(super) struct Avx512;

/// Code to be compiled for each instruction set: all that it calls must be inlined into it.
pub(super) trait Kernel {
    /// Does the work.
    ///
    /// # Safety
    ///
    /// The memory that it reads and writes must be there, and be written to by nobody else meanwhile; and it must be
    /// compiled for an instruction set that has these registers.
    unsafe fn run<G: Registers>(self);
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

    /// Runs `kernel` under this instruction set.
    ///
    /// # Safety
    ///
    /// As for [`Kernel::run`], its instruction set apart.
    pub(super) unsafe fn run(self, kernel: impl Kernel) {
        // SAFETY: the caller's promise; and an `Isa` is made in `available` alone, where its features were detected.
        unsafe {
            match self.0 {
                Set::Baseline => kernel.run::<Baseline>(),
                #[cfg(target_arch = "x86_64")]
                Set::Avx2 => avx2(kernel),
                #[cfg(target_arch = "x86_64")]
                Set::Avx512 => avx512(kernel),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! compiled_for {
    ($name:ident, $registers:ident, $features:literal) => {
        /// # Safety
        ///
        /// As for [`Kernel::run`], its instruction set apart.
        #[target_feature(enable = $features)]
        unsafe fn $name(kernel: impl Kernel) {
            // SAFETY: the caller's promise.
            unsafe { kernel.run::<$registers>() }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled_for!(avx2, Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled_for!(avx512, Avx512, "avx512f,avx512vl,avx2,fma");
