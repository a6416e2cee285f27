//! A tensor seen as memory.

use core::fmt;
use core::marker::PhantomData;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 64-bit floating point.
    F64,
    /// 32-bit floating point.
    F32,
    /// A type that no driver here computes with, by its name.
    Other(&'static str),
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F64 => "float64",
            Dtype::F32 => "float32",
            Dtype::Other(name) => name,
        })
    }
}

/// Where a tensor's memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Device {
    /// Memory of the host.
    Cpu,
    /// Memory that no driver here reaches, by DLPack's device type.
    Other(i32),
}

/// A tensor's memory, borrowed for `'a`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    data: *mut u8,
    shape: &'a [i64],
    strides: &'a [i64],
    dtype: Dtype,
    device: Device,
    memory: PhantomData<&'a ()>,
}

impl<'a> View<'a> {
    /// A view of memory that somebody else owns. Strides count elements.
    ///
    /// # Safety
    ///
    /// Until `'a` ends, every element that `shape` and `strides` reach from `data` must lie in one live allocation on
    /// `device`, initialised with values of `dtype`, and be writable if the view is written through. It may be
    /// unaligned. While a driver runs on the view, nobody else may write there, nor read what the driver writes.
    #[allow(unsafe_code)]
    pub unsafe fn new(data: *mut u8, shape: &'a [i64], strides: &'a [i64], dtype: Dtype, device: Device) -> Self {
        Self { data, shape, strides, dtype, device, memory: PhantomData }
    }

    /// The first element.
    pub fn data(&self) -> *mut u8 {
        self.data
    }

    /// The size of each dimension.
    pub fn shape(&self) -> &'a [i64] {
        self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The device.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        if self.is_empty() { 0 } else { self.shape.iter().map(|&size| size as usize).product() }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.iter().any(|&size| size <= 0)
    }

    /// Whether the elements, if any, have memory on the host. A freed storage and a lazy zero are described by address 0,
    /// a view of one by the view's offset; no system gives memory that low.
    pub fn has_memory(&self) -> bool {
        self.is_empty() || self.data.addr() >= 4 << 20
    }

    /// Whether the elements fill a stretch of memory from `data` on, each once, in whatever order of dimensions.
    pub fn is_dense(&self) -> bool {
        if self.is_empty() {
            return true;
        }
        // Dimensions of size 1 are never walked along, so their strides mean nothing.
        let walked = || self.shape.iter().zip(self.strides).filter(|&(&size, _)| size != 1);
        // The others, taken by growing stride, must each begin where the ones before end.
        let mut filled = 1;
        walked().all(|_| match walked().find(|&(_, &stride)| stride == filled) {
            Some((&size, _)) => {
                filled *= size;
                true
            }
            None => false,
        })
    }

    /// Whether `other` has the same shape and lies in memory in the same order, so that the n-th elements of both in
    /// memory belong together.
    pub fn walks_like(&self, other: &View<'_>) -> bool {
        self.shape == other.shape
            && (self.strides == other.strides
                || self.is_empty()
                || self
                    .shape
                    .iter()
                    .zip(self.strides.iter().zip(other.strides))
                    .all(|(&size, (left, right))| size == 1 || left == right))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A view of nothing, for arithmetic that never follows the pointer.
    #[allow(unsafe_code)]
    pub(crate) fn view<'a>(shape: &'a [i64], strides: &'a [i64]) -> View<'a> {
        // SAFETY: the tests that use it never read through the pointer.
        unsafe { View::new(core::ptr::without_provenance_mut(64), shape, strides, Dtype::F32, Device::Cpu) }
    }

    /// The offsets of all elements, the naive way.
    fn offsets(shape: &[i64], strides: &[i64]) -> Vec<i64> {
        let mut all = vec![0];
        for (&size, &stride) in shape.iter().zip(strides) {
            all = all.iter().flat_map(|&at| (0..size).map(move |i| at + i * stride)).collect();
        }
        all
    }

    #[test]
    fn density_of_the_usual_layouts() {
        for (shape, strides, dense) in [
            (&[][..], &[][..], true),
            (&[5], &[1], true),
            (&[5], &[2], false),
            (&[5], &[0], false),
            (&[2, 3], &[3, 1], true),
            (&[2, 3], &[1, 2], true),
            (&[2, 3], &[4, 1], false),
            (&[3, 3], &[1, 1], false),
            (&[1, 3], &[99, 1], true),
            (&[1], &[7], true),
            (&[2, 4, 5, 3], &[60, 1, 12, 4], true),
            (&[2, 0], &[5, 5], true),
            (&[i64::MAX, i64::MAX, 0], &[1, 1, 1], true),
            (&[2, 2], &[-2, 1], false),
        ] {
            assert_eq!(view(shape, strides).is_dense(), dense, "{shape:?} {strides:?}");
        }
    }

    proptest! {
        #[test]
        fn dense_means_each_place_of_a_stretch_once(
            dims in prop::collection::vec((0_i64..4, 0_i64..13), 0..4),
        ) {
            let (shape, strides): (Vec<_>, Vec<_>) = dims.into_iter().unzip();
            let mut places = offsets(&shape, &strides);
            places.sort_unstable();
            let naive = places.iter().enumerate().all(|(i, &place)| place == i as i64);
            prop_assert_eq!(view(&shape, &strides).is_dense(), naive);
        }

        #[test]
        fn walking_alike_means_the_same_offsets(
            dims in prop::collection::vec((0_i64..4, 0_i64..5, 0_i64..5), 0..4),
        ) {
            let shape: Vec<_> = dims.iter().map(|d| d.0).collect();
            let left: Vec<_> = dims.iter().map(|d| d.1).collect();
            let right: Vec<_> = dims.iter().map(|d| d.2).collect();
            let naive = offsets(&shape, &left) == offsets(&shape, &right);
            prop_assert_eq!(view(&shape, &left).walks_like(&view(&shape, &right)), naive);
        }
    }
}
