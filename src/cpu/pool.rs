//! Threads of a framework's own, behind a C function: sharing them spares the cores a second pool to fight with.
#![allow(unsafe_code)]

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

use super::threads::{Spawned, Threads};

/// Work on the pieces from the first number to before the second; the last argument is handed through.
pub type Piece = unsafe extern "C" fn(i64, i64, *mut c_void);

/// torch's `torch_parallel_for(begin, end, grain, work, argument)`: returns when all is done.
pub type ParallelFor = unsafe extern "C" fn(i64, i64, i64, Piece, *mut c_void) -> i32;

/// A pool of threads.
#[derive(Debug)]
pub struct Pool {
    parallel_for: ParallelFor,
    /// The process it belongs to: OpenMP's threads do not survive a fork, and waiting for them has no end.
    process: u32,
}

/// The threads of a step: a pool's, or if there is none or it was left behind by a fork, our own.
#[derive(Debug)]
pub struct PoolThreads<'a> {
    pool: Option<&'a Pool>,
    count: usize,
}

impl Pool {
    /// The pool behind a function.
    ///
    /// # Safety
    ///
    /// The function must stay loaded, and do what [`ParallelFor`] says.
    pub unsafe fn new(parallel_for: ParallelFor) -> Self {
        Self { parallel_for, process: std::process::id() }
    }
}

impl<'a> PoolThreads<'a> {
    /// At most `count` threads.
    pub fn new(pool: Option<&'a Pool>, count: usize) -> Self {
        Self { pool: pool.filter(|pool| pool.process == std::process::id()), count }
    }
}

/// What each thread of the pool is handed.
struct Job<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    done: Vec<AtomicBool>,
}

impl Job<'_> {
    fn run(&self, piece: usize) {
        if !self.done[piece].swap(true, Ordering::Relaxed) {
            (self.work)(piece);
        }
    }
}

/// # Safety
///
/// `job` must point to a [`Job`] with at least `end` pieces.
unsafe extern "C" fn run_pieces(begin: i64, end: i64, job: *mut c_void) {
    // SAFETY: the caller's promise.
    let job = unsafe { &*job.cast::<Job<'_>>() };
    (begin as usize..end as usize).for_each(|piece| job.run(piece));
}

impl Threads for PoolThreads<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn least(&self) -> usize {
        // torch's own grain.
        self.pool.map_or_else(|| Spawned(self.count).least(), |_| 1 << 15)
    }

    fn each(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        let Some(pool) = self.pool else { return Spawned(self.count).each(pieces, work) };
        let job = Job { work, done: (0..pieces).map(|_| AtomicBool::new(false)).collect() };
        // SAFETY: `job` outlives the call, which returns when all pieces are done; `run_pieces` takes it as it is.
        unsafe { (pool.parallel_for)(0, pieces as i64, 1, run_pieces, (&raw const job).cast_mut().cast()) };
        // Whatever an error in torch has left undone.
        (0..pieces).for_each(|piece| job.run(piece));
    }
}
