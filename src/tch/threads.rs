//! torch's own threads.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::sync::OnceLock;

use crate::cpu::{Piece, Pool, PoolThreads};

unsafe extern "C" {
    fn torch_parallel_for(begin: i64, end: i64, grain: i64, work: Piece, argument: *mut c_void) -> i32;
}

/// As many of them as [`tch::set_num_threads`](::tch::set_num_threads) says.
pub fn threads() -> PoolThreads<'static> {
    static POOL: OnceLock<Pool> = OnceLock::new();
    // SAFETY: of the library this is linked with.
    let pool = POOL.get_or_init(|| unsafe { Pool::new(torch_parallel_for) });
    // SAFETY: no argument, no error.
    let count = unsafe { torch_sys::at_get_num_threads() };
    PoolThreads::new(Some(pool), usize::try_from(count).unwrap_or(1))
}
