//! The CUDA driver without a GPU: its texts, read, run on the host, and compiled.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod caching;
mod cases;
mod compiled;
mod device;
mod driver;
mod golden;
mod gpu;
mod host;
mod launches;
mod norms;
mod steps;
