//! The instruction sets that the loops are compiled for, and the choice among them.
#![allow(unsafe_code)]

use std::sync::OnceLock;

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

/// Code to be compiled for each instruction set: all that it calls must be inlined into it. Best one loop each: in a
/// function of several, the compiler vectorises none (measured: Adam 5.6 ns an element, and 0.35 alone).
pub(super) trait Kernel {
    /// Does the work.
    ///
    /// # Safety
    ///
    /// The memory that it reads and writes must be there, and be written to by nobody else meanwhile.
    unsafe fn run(self);
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
    /// As for [`Kernel::run`].
    pub(super) unsafe fn run(self, kernel: impl Kernel) {
        // SAFETY: the caller's promise; and an `Isa` is made in `available` alone, where its features were detected.
        unsafe {
            match self.0 {
                Set::Baseline => kernel.run(),
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
    ($name:ident, $features:literal) => {
        /// # Safety
        ///
        /// As for [`Kernel::run`].
        #[target_feature(enable = $features)]
        unsafe fn $name(kernel: impl Kernel) {
            // SAFETY: the caller's promise.
            unsafe { kernel.run() }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled_for!(avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled_for!(avx512, "avx512f,avx512vl,avx2,fma");
