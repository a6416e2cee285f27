//! What lies in the memory that kernels read, byte for byte as their text has it.

/// Threads in a block, for every kernel. Their texts ask for at least one block on a processor: unasked, ptxas spills a
/// few registers where that lets one block more run.
pub const THREADS: u32 = 256;

/// The most settings that come with a launch.
pub const SETTINGS: usize = 32;

/// The most groups of a [`begin`](super::source::begin) launch.
pub const GROUPS: usize = 16;

/// The most words of a [`write`](super::source::write) launch.
pub const WORDS: usize = 480;

/// The most dimensions of a `Layout`.
pub const DIMS: usize = crate::batch::DIMS;

/// The most elements of a chunk. The sums of the norm are by chunks, so their size is one for all.
pub const CHUNK: usize = 1 << 14;

/// A part of a task, which is one parameter and all that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Chunk {
    /// The task's place in the rows of pointers.
    pub task: u32,
    /// The number of elements.
    pub len: u32,
    /// The first element.
    pub begin: u64,
}

/// The chunks of tasks of these lengths, in order.
pub fn chunks(lengths: impl IntoIterator<Item = usize>) -> Vec<Chunk> {
    let mut all = Vec::new();
    for (task, len) in (0..).zip(lengths) {
        let parts = (0..len).step_by(CHUNK);
        all.extend(parts.map(|begin| Chunk { task, len: CHUNK.min(len - begin) as u32, begin: begin as u64 }));
    }
    all
}

/// What [`fold`](super::source::fold) finds.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct Clip {
    /// The norm of all gradients.
    pub norm: f64,
    /// What multiplies them.
    pub factor: f64,
    /// Not 0 if the step is left out.
    pub skip: u32,
}

/// The number of words of a `Layout` of this many tensors: the way through those of a task.
pub fn way_words(tensors: usize) -> usize {
    1 + DIMS * (1 + tensors)
}

/// Fills in the words of a `Layout`: of each dimension, the outermost first and at most [`DIMS`], the number of elements
/// and, for each tensor, the bytes between neighbours. All of them have less than 2^32 elements.
pub fn fill_way(tensors: usize, dims: &[(u32, Vec<isize>)], into: &mut [u64]) {
    into[0] = dims.len() as u64;
    for (dim, (count, strides)) in into[1..].chunks_mut(1 + tensors).zip(dims) {
        dim[0] = u64::from(*count);
        dim[1..].iter_mut().zip(strides).for_each(|(word, &stride)| *word = stride as u64);
    }
}

/// The bytes of a `Setting`: its coefficients, what multiplies the gradient (its sign, for one) and the limit of its
/// elements, in `f64` if `wide`.
pub fn setting(coeffs: &[f64], factor: f64, limit: Option<f64>, wide: bool) -> Vec<u8> {
    let numbers = coeffs.iter().copied().chain([factor, limit.unwrap_or(f64::INFINITY)]);
    if wide {
        numbers.flat_map(f64::to_ne_bytes).collect()
    } else {
        numbers.flat_map(|x| (x as f32).to_ne_bytes()).collect()
    }
}

/// The settings that come with a launch, filled up to their number; `None` if they are too many.
pub fn settings(all: &[Vec<u8>]) -> Option<Vec<u8>> {
    filled(all, SETTINGS)
}

/// The bytes of a `Group`: where its learning rate is, as `f32` or `f64` (0 for nowhere), or what it is, what multiplies
/// its gradients, and the [constants](super::source::constants) of its rule.
pub fn group(lr_at: [u64; 2], lr: f64, factor: f64, limit: Option<f64>, constants: &[f64]) -> Vec<u8> {
    let numbers = [lr, factor, limit.unwrap_or(f64::INFINITY)].into_iter().chain(constants.iter().copied());
    lr_at.into_iter().flat_map(u64::to_ne_bytes).chain(numbers.flat_map(f64::to_ne_bytes)).collect()
}

/// The groups of a launch, filled up to their number; `None` if they are too many.
pub fn groups(all: &[Vec<u8>]) -> Option<Vec<u8>> {
    filled(all, GROUPS)
}

fn filled(all: &[Vec<u8>], count: usize) -> Option<Vec<u8>> {
    let mut bytes = all.concat();
    bytes.resize(all.first().map_or(0, Vec::len) * count, 0);
    (all.len() <= count).then_some(bytes)
}

/// The bytes of the words that come with a launch, filled up to their number.
pub fn words(words: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.resize(8 * WORDS, 0);
    bytes
}
