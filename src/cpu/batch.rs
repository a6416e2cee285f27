//! A step of one optimizer over all its parameters.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ops::Range;

use super::isa::Isa;
use super::sweep::Run;
use super::threads::{Threads, in_pieces};
use crate::number::Number;
use crate::rule::Rule;
use crate::tensor::{Access, Dtype, Operands, Refusal, overlapping};

/// The parameters of a step, collected and checked one by one; then it is [`Ready`].
pub struct Batch<'a, R, const C: usize, const S: usize> {
    tasks: Vec<Task<R, C, S>>,
    accesses: Vec<Access>,
    memory: PhantomData<&'a ()>,
}

/// What the parameters of one group share in a step.
pub struct Group<R, const C: usize> {
    rule: R,
    lr: f64,
    sign: f64,
    /// The last step count seen and its coefficients: parameters of a group mostly share them, and powers are dear.
    last: Option<(f64, [f64; C])>,
}

impl<R, const C: usize> Group<R, C> {
    /// A group that steps by `rule` at the learning rate `lr`, uphill if `maximize`.
    pub fn new(rule: R, lr: f64, maximize: bool) -> Self {
        Self { rule, lr, sign: if maximize { -1.0 } else { 1.0 }, last: None }
    }

    fn coeffs<const S: usize>(&mut self, step: f64) -> [f64; C]
    where
        R: Rule<C, S>,
    {
        match self.last {
            Some((last, coeffs)) if last == step => coeffs,
            _ => self.last.insert((step, self.rule.coeffs(self.lr, step))).1,
        }
    }
}

/// A step that can run: all its tensors were checked, each alone and against each other.
pub struct Ready<'a, R, const C: usize, const S: usize> {
    tasks: Vec<Task<R, C, S>>,
    memory: PhantomData<&'a ()>,
}

/// What the step does to one parameter.
struct Task<R, const C: usize, const S: usize> {
    rule: R,
    coeffs: [f64; C],
    sign: f64,
    dtype: Dtype,
    param: *mut u8,
    grad: *const u8,
    slots: [Option<*mut u8>; S],
    len: usize,
    count: Option<Count>,
}

/// Where a parameter's step count is, and what it becomes.
struct Count {
    at: *mut u8,
    dtype: Dtype,
    value: f64,
}

// SAFETY: the pointers are those of views whose memory `Ready` borrows; tasks share no memory that is written, and two
// threads never get the same element of a task.
unsafe impl<R: Send, const C: usize, const S: usize> Send for Task<R, C, S> {}
// SAFETY: as above.
unsafe impl<R: Sync, const C: usize, const S: usize> Sync for Task<R, C, S> {}

impl<'a, R: Rule<C, S>, const C: usize, const S: usize> Batch<'a, R, C, S> {
    /// A step over nothing yet.
    pub fn new() -> Self {
        Self { tasks: Vec::new(), accesses: Vec::new(), memory: PhantomData }
    }

    /// Adds a parameter of `group`. `fresh` says, where the rule keeps no count, that the slots are new.
    ///
    /// # Errors
    ///
    /// The tensor that this driver cannot walk, and why.
    pub fn push(
        &mut self,
        group: &mut Group<R, C>,
        fresh: bool,
        operands: &Operands<'a, S>,
    ) -> Result<(), (&'static str, Refusal)> {
        if let Some(refusal) = operands.refusal() {
            return Err(refusal);
        }
        let count = operands.step.map(|step| {
            // SAFETY: the view's promise; `refusal` let one number of this type pass.
            let before = unsafe {
                match step.dtype() {
                    Dtype::F64 => step.data().cast::<f64>().read_unaligned(),
                    _ => f64::from(step.data().cast::<f32>().read_unaligned()),
                }
            };
            Count { at: step.data(), dtype: step.dtype(), value: before + 1.0 }
        });
        let step = match &count {
            Some(count) => count.value,
            None if fresh => 1.0,
            None => 2.0,
        };
        self.tasks.push(Task {
            rule: group.rule,
            coeffs: group.coeffs(step),
            sign: group.sign,
            dtype: operands.param.dtype(),
            param: operands.param.data(),
            grad: operands.grad.data(),
            slots: operands.slots.map(|slot| slot.view.map(|view| view.data())),
            len: operands.param.len(),
            count,
        });
        self.accesses.extend(operands.accesses());
        Ok(())
    }

    /// The step, ready to run; `None` if two of its tensors share memory that it writes.
    pub fn ready(mut self) -> Option<Ready<'a, R, C, S>> {
        (!overlapping(&mut self.accesses)).then_some(Ready { tasks: self.tasks, memory: PhantomData })
    }
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Default for Batch<'_, R, C, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Ready<'_, R, C, S> {
    /// Runs the step. The bits do not depend on the number of threads.
    pub fn run(self, threads: &dyn Threads) {
        self.run_on(Isa::best(), threads);
    }

    /// [`run`](Self::run) with a chosen instruction set, for tests and benchmarks.
    pub fn run_on(self, isa: Isa, threads: &dyn Threads) {
        let tasks = &self.tasks;
        for count in tasks.iter().filter_map(|task| task.count.as_ref()) {
            // SAFETY: the view's promise; the count shares no memory with anything else of the step.
            unsafe {
                match count.dtype {
                    Dtype::F64 => count.at.cast::<f64>().write_unaligned(count.value),
                    _ => count.at.cast::<f32>().write_unaligned(count.value as f32),
                }
            }
        }
        let total = tasks.iter().map(|task| task.len).sum();
        in_pieces(total, threads, |piece| {
            let mut begin = 0;
            for task in tasks {
                let end = begin + task.len;
                let (from, to) = (piece.start.clamp(begin, end), piece.end.clamp(begin, end));
                // SAFETY: pieces do not overlap, so this thread alone has these elements.
                unsafe { task.run(isa, from - begin..to - begin) };
                begin = end;
            }
        });
    }
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Task<R, C, S> {
    /// Steps on the elements `part`, counted in memory order.
    ///
    /// # Safety
    ///
    /// `part` must lie within `0..len`, and no other thread may touch those elements meanwhile.
    unsafe fn run(&self, isa: Isa, part: Range<usize>) {
        if part.is_empty() {
            return;
        }
        // SAFETY: the caller's promise, and that of the views behind the pointers.
        unsafe {
            match self.dtype {
                Dtype::F64 => self.run_as::<f64>(isa, part),
                _ => self.run_as::<f32>(isa, part),
            }
        }
    }

    /// [`run`](Self::run) for elements of type `T`.
    ///
    /// # Safety
    ///
    /// As for [`run`](Self::run), and the elements must be of type `T`.
    unsafe fn run_as<T: Number>(&self, isa: Isa, part: Range<usize>) {
        let offset = part.start;
        // SAFETY: the caller's promise: `part` lies within the memory of each view.
        unsafe {
            let run = Run {
                param: self.param.cast::<T>().add(offset),
                grad: self.grad.cast::<T>().add(offset),
                slots: self.slots.map(|slot| slot.map(|slot| slot.cast::<T>().add(offset))),
                len: part.len(),
            };
            isa.sweep(&self.rule, self.coeffs.map(T::lit), T::lit(self.sign), run);
        }
    }
}
