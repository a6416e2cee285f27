//! A GPU for tests, whose memory is the host's.

#[path = "../../tests/cuda/device.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, unsafe_code, clippy::unwrap_used, clippy::panic)]
mod device;
#[path = "../../tests/cuda/host.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod host;

use crate::cuda::gpu::Gpu;
use crate::error::Error;

/// Whether a tensor of the CPU counts as one of the GPU: numbers, and so step counts, only if the environment says so.
pub fn is_on_gpu(ndim: i32) -> bool {
    ndim > 0 || std::env::var_os("TORCHPACE_SIMULATED_NUMBERS").is_some()
}

/// The GPU.
pub fn open() -> Result<Gpu, Error> {
    Ok(device::gpu().1)
}
