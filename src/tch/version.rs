//! Tells autograd that a tensor was written to.
#![allow(unsafe_code)]

use ::tch::Tensor;

use super::error::Error;

/// Counts the tensor's version up, so that a backward pass that needs the old elements raises.
#[cfg(unix)]
pub fn bump(tensor: &Tensor) -> Result<(), Error> {
    unsafe extern "C" {
        /// `torch::autograd::impl::bump_version(at::Tensor const&)`, of the one torch that tch links with.
        #[link_name = "_ZN5torch8autograd4impl12bump_versionERKN2at6TensorE"]
        fn bump_version(tensor: *const torch_sys::C_tensor);
    }
    // SAFETY: a live `at::Tensor`, which tch's handle points to. It throws for inference tensors alone, which the
    // optimizer does not take.
    unsafe { bump_version(tensor.as_ptr()) };
    Ok(())
}

/// The same where C++ names functions in another way: about 2 us a tensor.
#[cfg(not(unix))]
pub use by_writing_nothing as bump;

/// Writes to a view without elements, which shares the tensor's version.
#[cfg(any(test, not(unix)))]
pub fn by_writing_nothing(tensor: &Tensor) -> Result<(), Error> {
    let _ = ::tch::no_grad(|| tensor.f_detach()?.f_as_strided([0], [1], None)?.f_zero_())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use ::tch::{Device, Kind, Tensor};

    #[test]
    fn both_ways_count_up_by_one() {
        let tensor = Tensor::ones([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let before = tensor.internal_version();
        super::bump(&tensor).unwrap();
        assert_eq!(tensor.internal_version(), before + 1);
        super::by_writing_nothing(&tensor).unwrap();
        assert_eq!(tensor.internal_version(), before + 2);
        assert_eq!(Vec::<f32>::try_from(tensor.detach()).unwrap(), [1.0; 3]);
    }
}
