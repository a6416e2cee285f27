//! torch's own C++ libraries, which are loaded already.
#![allow(unsafe_code)]

use libloading::Library;
use pyo3::prelude::*;

use crate::cpu::{ParallelFor, Pool};

/// One of torch's libraries (`"torch_cpu"`), if it can be found.
pub fn open(torch: &Bound<'_, PyModule>, name: &str) -> Option<Library> {
    let folder: String = torch.getattr("__path__").ok()?.get_item(0).ok()?.extract().ok()?;
    let path = std::path::Path::new(&folder).join("lib").join(libloading::library_filename(name));
    // SAFETY: torch has loaded this library already, so nothing is initialised here.
    unsafe { Library::new(path) }.ok()
}

/// torch's pool of threads, which follows `torch.set_num_threads`, if its library exports one.
pub fn pool(torch: &Bound<'_, PyModule>) -> Option<Pool> {
    let library = open(torch, "torch_cpu")?;
    // SAFETY: the type is that of torch's stable C interface, from 2.10 on.
    let parallel_for = *unsafe { library.get::<ParallelFor>(b"torch_parallel_for\0") }.ok()?;
    // Stays loaded, as torch itself does.
    core::mem::forget(library);
    // SAFETY: as said.
    Some(unsafe { Pool::new(parallel_for) })
}
