//! The CUDA driver: the recorded rule becomes the text of a kernel, which NVRTC compiles at run time.
//!
//! Nothing of CUDA is needed to build it, and nothing is looked for before it is asked for.

pub mod cache;
pub mod device;
pub mod driver;
pub mod gpu;
pub mod launch;
pub mod layout;
pub mod nvrtc;
mod plan;
mod print;
mod put;
mod record;
mod search;
pub mod source;
pub mod sums;
