//! The CUDA driver: the recorded rule becomes the text of a kernel, which NVRTC compiles at run time.
//!
//! Nothing of CUDA is needed to build it, and nothing is looked for before it is asked for.

pub mod layout;
mod print;
mod record;
pub mod source;
