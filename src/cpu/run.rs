//! A collected step run by the loops of the CPU.
#![allow(unsafe_code)]

use super::isa::Isa;
use super::norm;
use super::sums;
use super::threads::{Threads, in_pieces};
use crate::batch::{Kept, Ready};
use crate::rule::{Rule, SUMS};
use crate::tensor::Device;

impl<R: Rule<C, S>, const C: usize, const S: usize> Ready<'_, R, C, S> {
    /// The 2-norm of all gradients together, unscaled. Its bits do not depend on the number of threads.
    ///
    /// # Panics
    ///
    /// If the step is not one of the CPU.
    pub fn grad_norm(&self, threads: &dyn Threads) -> f64 {
        assert_eq!(self.device, Device::Cpu, "a step of a GPU is run there");
        norm::of_grads(&self.step, Isa::best(), threads)
    }

    /// The sums over all parameters together, as the rule [asks](Rule::OVER_ALL) for them. Their bits do not depend on the
    /// number of threads.
    ///
    /// # Panics
    ///
    /// If the step is not one of the CPU.
    pub fn sums(&self, threads: &dyn Threads) -> [f64; SUMS] {
        assert_eq!(self.device, Device::Cpu, "a step of a GPU is run there");
        sums::over_all(&self.step, Isa::best(), threads)
    }

    /// Runs the step. The bits do not depend on the number of threads.
    ///
    /// # Panics
    ///
    /// If the step is not one of the CPU.
    pub fn run(self, threads: &dyn Threads) -> Kept<R, C, S> {
        self.run_on(Isa::best(), threads)
    }

    /// [`run`](Self::run) with a chosen instruction set, for tests and benchmarks.
    ///
    /// # Panics
    ///
    /// If the step is not one of the CPU.
    pub fn run_on(self, isa: Isa, threads: &dyn Threads) -> Kept<R, C, S> {
        assert_eq!(self.device, Device::Cpu, "a step of a GPU is run there");
        let Self { device, step, .. } = self;
        step.write_counts();
        if step.needs_sums() {
            sums::run(&step, isa, threads);
        } else {
            // SAFETY: pieces do not overlap, so each thread alone has its elements.
            in_pieces(step.total, 1, threads, |piece| unsafe { step.run(isa, piece, None) });
        }
        Kept { device, step }
    }
}
