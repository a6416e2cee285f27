//! A tensor seen as memory.

use core::fmt;
use core::marker::PhantomData;

use super::overlap::Span;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 64-bit floating point.
    F64,
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point of IEEE 754.
    F16,
    /// The upper half of a 32-bit floating-point number.
    Bf16,
    /// Two 64-bit floating-point numbers.
    C128,
    /// Two 32-bit floating-point numbers.
    C64,
    /// Another floating-point type, with which no driver here computes.
    OtherFloat,
    /// A type that is no floating-point type.
    NoFloat,
}

impl Dtype {
    /// The type of a component: of the real and the imaginary part, of the element itself where there is one part.
    pub fn part(self) -> Self {
        match self {
            Dtype::C128 => Dtype::F64,
            Dtype::C64 => Dtype::F32,
            real => real,
        }
    }

    /// The number of components.
    pub fn parts(self) -> usize {
        if matches!(self, Dtype::C128 | Dtype::C64) { 2 } else { 1 }
    }

    /// The size of an element in bytes; `None` for a type that is not known.
    pub fn size(self) -> Option<usize> {
        match self {
            Dtype::C128 => Some(16),
            Dtype::F64 | Dtype::C64 => Some(8),
            Dtype::F32 => Some(4),
            Dtype::F16 | Dtype::Bf16 => Some(2),
            Dtype::OtherFloat | Dtype::NoFloat => None,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F64 => "float64",
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::Bf16 => "bfloat16",
            Dtype::C128 => "complex128",
            Dtype::C64 => "complex64",
            Dtype::OtherFloat => "another floating-point type",
            Dtype::NoFloat => "not of floating-point type",
        })
    }
}

/// Where a tensor's memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Device {
    /// Memory of the host.
    Cpu,
    /// Memory of the CUDA device of this index.
    Cuda(u8),
    /// Memory that no driver here reaches, by DLPack's device type.
    Other(u8),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
            Device::Other(kind) => write!(f, "DLPack {kind}"),
        }
    }
}

/// Whether there can be memory at an address.
#[inline]
pub(crate) fn is_memory(data: *const u8) -> bool {
    data.addr() >= 4 << 20
}

/// A tensor's memory, borrowed for `'a`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    data: *mut u8,
    shape: &'a [i64],
    /// As many as `shape` has: a pointer, for a view is made for every tensor in every step, and costs by its size.
    strides: *const i64,
    dtype: Dtype,
    device: Device,
    memory: PhantomData<&'a [i64]>,
}

impl<'a> View<'a> {
    /// A view of memory that somebody else owns. Strides count elements.
    ///
    /// # Safety
    ///
    /// Until `'a` ends, every element that `shape` and `strides` reach from `data` must lie in one live allocation on
    /// `device`, initialised with values of `dtype`, and be writable if the view is written through. It may be
    /// unaligned. While a driver runs on the view, nobody else may write there, nor read what the driver writes.
    ///
    /// # Panics
    ///
    /// If there are not as many strides as dimensions.
    #[inline]
    #[allow(unsafe_code)]
    pub unsafe fn new(data: *mut u8, shape: &'a [i64], strides: &'a [i64], dtype: Dtype, device: Device) -> Self {
        assert_eq!(shape.len(), strides.len(), "a stride for each dimension");
        Self { data, shape, strides: strides.as_ptr(), dtype, device, memory: PhantomData }
    }

    /// The first element.
    #[inline]
    pub fn data(&self) -> *mut u8 {
        self.data
    }

    /// The size of each dimension.
    #[inline]
    pub fn shape(&self) -> &'a [i64] {
        self.shape
    }

    /// The distance between neighbours along each dimension, in elements.
    #[inline]
    #[allow(unsafe_code)]
    pub fn strides(&self) -> &'a [i64] {
        // SAFETY: `new` took them from a slice of this length.
        unsafe { core::slice::from_raw_parts(self.strides, self.shape.len()) }
    }

    /// The element type.
    #[inline]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The device.
    #[inline]
    pub fn device(&self) -> Device {
        self.device
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        if self.is_empty() { 0 } else { self.shape.iter().map(|&size| size as usize).product() }
    }

    /// Whether there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.shape.iter().any(|&size| size <= 0)
    }

    /// Whether the elements follow each other in the order of their indices: the usual case, known without a walk.
    pub fn is_contiguous(&self) -> bool {
        let mut next = 1;
        for (&size, &stride) in self.shape.iter().zip(self.strides()).rev() {
            if size != 1 && stride != next {
                return false;
            }
            next *= size;
        }
        true
    }

    /// Whether the elements, if any, have memory. A freed storage and a lazy zero are described by address 0,
    /// a view of one by the view's offset; no system gives memory that low.
    #[inline]
    pub fn has_memory(&self) -> bool {
        self.is_empty() || is_memory(self.data)
    }

    /// The memory from the first byte of an element to the last, with what lies between; `None` if there are no
    /// elements or their size is not known.
    pub fn span(&self) -> Option<Span> {
        let (below, above) = self.reach()?;
        Some(Span { from: self.data.addr() - below, to: self.data.addr() + above })
    }

    /// The bytes of the [span](Self::span) before `data` and from it on.
    pub(super) fn reach(&self) -> Option<(usize, usize)> {
        let size = self.dtype.size().filter(|_| !self.is_empty())?;
        let (mut below, mut above) = (0, 0);
        for (&count, &stride) in self.shape.iter().zip(self.strides()) {
            let way = (count - 1) * stride;
            if way < 0 { below -= way } else { above += way }
        }
        Some((below as usize * size, (above as usize + 1) * size))
    }

    /// Whether two elements share memory.
    pub fn overlaps_itself(&self) -> bool {
        if self.is_empty() {
            return false;
        }
        // Dimensions of size 1 are never walked along, so their strides mean nothing.
        let mut dims: Vec<(i64, i64)> = self.shape.iter().copied().zip(self.strides().iter().copied()).collect();
        dims.retain(|dim| dim.0 != 1);
        dims.sort_unstable_by_key(|dim| dim.1.abs());
        // Where each stride passes over all that the smaller ones reach, no two elements can meet.
        let (mut reach, mut nested) = (0, true);
        for &(count, stride) in &dims {
            nested &= stride.abs() > reach;
            reach += (count - 1) * stride.abs();
        }
        !nested && (dims.iter().any(|dim| dim.1 == 0) || self.meets_itself(&dims, reach as usize))
    }

    /// [`overlaps_itself`](Self::overlaps_itself) by marking each place: for strides that interleave, which are rare.
    fn meets_itself(&self, dims: &[(i64, i64)], reach: usize) -> bool {
        if self.len() > reach + 1 {
            return true;
        }
        let mut seen = vec![false; reach + 1];
        let mut index = vec![0; dims.len()];
        loop {
            let at: i64 = dims.iter().zip(&index).map(|(dim, i)| dim.1.abs() * i).sum();
            if core::mem::replace(&mut seen[at as usize], true) {
                return true;
            }
            let Some(turn) = (0..dims.len()).find(|&k| index[k] + 1 < dims[k].0) else { return false };
            index[turn] += 1;
            index[..turn].fill(0);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Where the views of these tests seem to be.
    const BASE: usize = 1 << 30;

    /// A view of nothing, for arithmetic that never follows the pointer.
    #[allow(unsafe_code)]
    pub(crate) fn view<'a>(shape: &'a [i64], strides: &'a [i64]) -> View<'a> {
        // SAFETY: the tests that use it never read through the pointer.
        unsafe { View::new(core::ptr::without_provenance_mut(BASE), shape, strides, Dtype::F32, Device::Cpu) }
    }

    /// The offsets of all elements, the naive way.
    fn offsets(shape: &[i64], strides: &[i64]) -> Vec<i64> {
        let mut all = vec![0];
        for (&size, &stride) in shape.iter().zip(strides) {
            all = all.iter().flat_map(|&at| (0..size).map(move |i| at + i * stride)).collect();
        }
        all
    }

    proptest! {
        #[test]
        fn overlaps_itself_means_some_place_twice(
            dims in prop::collection::vec((0_i64..4, -7_i64..13), 0..4),
        ) {
            let (shape, strides): (Vec<_>, Vec<_>) = dims.into_iter().unzip();
            let mut places = offsets(&shape, &strides);
            places.sort_unstable();
            let naive = places.windows(2).any(|pair| pair[0] == pair[1]);
            prop_assert_eq!(view(&shape, &strides).overlaps_itself(), naive);
        }

        #[test]
        fn span_reaches_from_the_lowest_to_the_highest_place(
            dims in prop::collection::vec((0_i64..4, -7_i64..13), 0..4),
        ) {
            let (shape, strides): (Vec<_>, Vec<_>) = dims.into_iter().unzip();
            let places = offsets(&shape, &strides);
            let at = |place: Option<&i64>| place.map(|&place| (BASE as i64 + 4 * place) as usize);
            let naive = at(places.iter().min()).zip(at(places.iter().max())).map(|(from, last)| (from, last + 4));
            prop_assert_eq!(view(&shape, &strides).span().map(|span| (span.from, span.to)), naive);
        }
    }
}
