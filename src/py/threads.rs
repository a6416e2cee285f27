//! torch's own threads: sharing them follows `torch.set_num_threads`.
#![allow(unsafe_code)]

use libloading::Library;
use pyo3::prelude::*;

use crate::cpu::{ParallelFor, Pool};

/// torch's pool, if its library exports one.
pub fn find(torch: &Bound<'_, PyModule>) -> Option<Pool> {
    let folder: String = torch.getattr("__path__").ok()?.get_item(0).ok()?.extract().ok()?;
    let file = libloading::library_filename("torch_cpu");
    let path = std::path::Path::new(&folder).join("lib").join(file);
    // SAFETY: torch has loaded this library already, so nothing is initialised here.
    let library = unsafe { Library::new(path) }.ok()?;
    // SAFETY: the type is that of torch's stable C interface, from 2.10 on.
    let parallel_for = *unsafe { library.get::<ParallelFor>(b"torch_parallel_for\0") }.ok()?;
    // Stays loaded, as torch itself does.
    core::mem::forget(library);
    // SAFETY: as said.
    Some(unsafe { Pool::new(parallel_for) })
}
