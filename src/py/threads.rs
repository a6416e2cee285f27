//! torch's own threads: sharing them follows `torch.set_num_threads` and spares the cores a second pool to fight with.
#![allow(unsafe_code)]

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

use libloading::Library;
use pyo3::prelude::*;

use crate::cpu::{Spawned, Threads};

type Piece = unsafe extern "C" fn(i64, i64, *mut c_void);
type ParallelFor = unsafe extern "C" fn(i64, i64, i64, Piece, *mut c_void) -> i32;

/// The pool, out of torch's library.
pub struct Pool {
    parallel_for: ParallelFor,
    /// The process it belongs to: OpenMP's threads do not survive a fork, and waiting for them has no end.
    process: u32,
    /// Keeps the function's library loaded.
    _library: Library,
}

/// The threads of a step: torch's, or if its pool is not to be found or was left behind by a fork, our own.
pub struct TorchThreads<'a> {
    pool: Option<&'a Pool>,
    count: usize,
}

impl Pool {
    /// torch's pool, if its library exports one.
    pub fn find(torch: &Bound<'_, PyModule>) -> Option<Self> {
        let folder: String = torch.getattr("__path__").ok()?.get_item(0).ok()?.extract().ok()?;
        let file = libloading::library_filename("torch_cpu");
        let path = std::path::Path::new(&folder).join("lib").join(file);
        // SAFETY: torch has loaded this library already, so nothing is initialised here.
        let library = unsafe { Library::new(path) }.ok()?;
        // SAFETY: the type is that of torch's stable C interface, from 2.10 on.
        let parallel_for = *unsafe { library.get::<ParallelFor>(b"torch_parallel_for\0") }.ok()?;
        Some(Self { parallel_for, process: std::process::id(), _library: library })
    }
}

impl<'a> TorchThreads<'a> {
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

impl Threads for TorchThreads<'_> {
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
