//! A GPU for tests, whose memory is the host's.

#[path = "../../../tests/cuda/device.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, unsafe_code, clippy::unwrap_used, clippy::panic)]
mod device;
#[path = "../../../tests/cuda/host.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod host;

use crate::cuda::gpu::Gpu;
use crate::error::Error;
use crate::tensor::Device;

/// Where a tensor of the CPU counts as being: on the GPU; numbers, and so step counts, only if the environment says so.
pub fn device_of(ndim: usize) -> Device {
    if ndim > 0 || is_set("TORCHPACE_SIMULATED_NUMBERS") { Device::Cuda(0) } else { Device::Cpu }
}

/// The GPU.
pub fn open() -> Result<Gpu, Error> {
    if is_set("TORCHPACE_SIMULATED_MISSING") {
        return Err(Error::NoCudaDriver { reason: "as the test asked".to_owned() });
    }
    let failing = if is_set("TORCHPACE_SIMULATED_NO_KERNELS") { usize::MAX } else { 0 };
    Ok(device::gpu_with(device::TextCompiler { failing: failing.into(), ..Default::default() }).1)
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some()
}
