//! Lists of tensors as vectors: inner products and linear combinations, in `f64`.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use super::element::{Bf16, Element, F16, Float};
use super::isa::{Isa, Kernel, Registers};
use super::lanes::{load, store};
use super::nested::{self, LANES, Nested};
use super::pack::Vector;
use super::threads::{Threads, in_pieces};
use crate::batch::Unfit;
use crate::error::Error;
use crate::number::Number;
use crate::tensor::{Device, Dim, Dtype, Operands, Path, Refusal, Span, Territory, View, Walk};

/// Elements are summed in stretches of this many, whatever the threads, and the sums then in order: so the bits of a
/// product do not depend on the threads.
const STRETCH: usize = 1 << 15;

/// Two lists of tensors, `x` and `y`, checked: as many tensors, of the same shapes, on the CPU. Where `WRITES`, `y` may be
/// written to: no two of its elements share memory, with each other or with another of `x`. A tensor of `x` may be the one
/// of `y` at the same place.
///
/// The types of a pair's elements may differ. A complex number counts as two, its parts.
pub struct Pairs<'a, const WRITES: bool> {
    pairs: Vec<Pair>,
    total: usize,
    memory: PhantomData<&'a ()>,
}

/// One tensor of `x` and the one of `y` at its place.
struct Pair {
    way: Way,
    len: usize,
    x: *mut u8,
    y: *mut u8,
    /// The number of elements of the pairs before.
    begin: usize,
}

/// The way through a pair.
enum Way {
    /// Both without gaps, and of this type.
    Plain(Dtype),
    /// Any other; `y` is the walk's parameter, `x` its gradient.
    Walk(Box<Walk<0>>),
}

impl Way {
    fn of(x: &View<'_>, y: &View<'_>) -> Self {
        if x.dtype() == y.dtype() && x.is_contiguous() && y.is_contiguous() {
            return Self::Plain(x.dtype().part());
        }
        Self::Walk(Box::new(Walk::of(&Operands { param: *y, grad: *x, slots: [], step: None, scalars: [] })))
    }
}

// SAFETY: the pointers are those of views whose memory `Pairs` borrows; pairs share no memory that is written, and two
// threads never get the same element of a pair.
unsafe impl Send for Pair {}
// SAFETY: as above.
unsafe impl Sync for Pair {}

impl<'a, const WRITES: bool> Pairs<'a, WRITES> {
    /// The two lists.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn new(x: &[View<'a>], y: &[View<'a>]) -> Result<Self, Unfit> {
        if x.len() != y.len() {
            return Err(Unfit::Wrong(Error::Count { name: "x", found: x.len(), expected: y.len() }));
        }
        let (mut pairs, mut total) = (Vec::with_capacity(x.len()), 0);
        for (k, (x, y)) in x.iter().zip(y).enumerate() {
            check::<WRITES>(x, y, || format!("tensors[{k}]"))?;
            let len = y.len() * y.dtype().parts();
            pairs.push(Pair { way: Way::of(x, y), len, x: x.data(), y: y.data(), begin: total });
            total += len;
        }
        if WRITES && !are_apart(x, y) {
            return Err(Unfit::Wrong(Error::SharedMemory { name: "y" }));
        }
        Ok(Self { pairs, total, memory: PhantomData })
    }

    /// The number of elements.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The pairs that have elements in `piece` of all elements, with their own part of it.
    #[inline(always)]
    fn parts_in(&self, piece: &Range<usize>) -> impl Iterator<Item = (&Pair, Range<usize>)> {
        let begin = self.pairs.partition_point(|pair| pair.begin + pair.len <= piece.start);
        let count = self.pairs[begin..].partition_point(|pair| pair.begin < piece.end);
        self.pairs[begin..begin + count].iter().filter(|pair| pair.len > 0).map(|pair| {
            let own = |at: usize| at.saturating_sub(pair.begin).min(pair.len);
            (pair, own(piece.start)..own(piece.end))
        })
    }
}

impl Pairs<'_, false> {
    /// The sum of `x * y` over all elements. Its bits do not depend on the number of threads.
    pub fn dot(&self, threads: &dyn Threads) -> f64 {
        self.dot_on(Isa::best(), threads)
    }

    /// [`dot`](Self::dot) with a chosen instruction set, for tests.
    pub fn dot_on(&self, isa: Isa, threads: &dyn Threads) -> f64 {
        // The bits of each stretch's sum.
        let sums: Vec<_> = (0..self.total.div_ceil(STRETCH)).map(|_| AtomicU64::new(0)).collect();
        in_pieces(self.total, STRETCH, threads, |piece| {
            for begin in piece.clone().step_by(STRETCH) {
                let mut lanes = [0.0; LANES];
                for (pair, part) in self.parts_in(&(begin..piece.end.min(begin + STRETCH))) {
                    // SAFETY: the part lies within the pair.
                    unsafe { pair.run(isa, part, Product(&mut lanes)) };
                }
                let sum: f64 = lanes.iter().sum();
                sums[begin / STRETCH].store(sum.to_bits(), Ordering::Relaxed);
            }
        });
        sums.iter().map(|sum| f64::from_bits(sum.load(Ordering::Relaxed))).sum()
    }
}

impl Pairs<'_, true> {
    /// `y = a * x + y`, in `f64`, then rounded to the type of `y`.
    pub fn axpy(&self, a: f64, threads: &dyn Threads) {
        self.axpy_on(Isa::best(), a, threads);
    }

    /// [`axpy`](Self::axpy) with a chosen instruction set, for tests.
    pub fn axpy_on(&self, isa: Isa, a: f64, threads: &dyn Threads) {
        in_pieces(self.total, 1, threads, |piece| {
            for (pair, part) in self.parts_in(&piece) {
                // SAFETY: the part lies within the pair; pieces do not overlap, so each thread alone has its elements.
                unsafe { pair.run(isa, part, Sum(a)) };
            }
        });
    }

    /// `y = a * x`.
    pub fn scale(&self, a: f64, threads: &dyn Threads) {
        self.scale_on(Isa::best(), a, threads);
    }

    /// [`scale`](Self::scale) with a chosen instruction set, for tests.
    pub fn scale_on(&self, isa: Isa, a: f64, threads: &dyn Threads) {
        in_pieces(self.total, 1, threads, |piece| {
            for (pair, part) in self.parts_in(&piece) {
                // SAFETY: as above.
                unsafe { pair.run(isa, part, Multiple(a)) };
            }
        });
    }
}

fn check<const WRITES: bool>(x: &View<'_>, y: &View<'_>, place: impl Fn() -> String) -> Result<(), Unfit> {
    if x.shape() != y.shape() {
        let (found, expected) = (x.shape().to_vec(), y.shape().to_vec());
        return Err(Unfit::Wrong(Error::Shape { place: place(), name: "x", found, expected }));
    }
    if x.device() != y.device() {
        let (found, expected) = (x.device().to_string(), y.device().to_string());
        return Err(Unfit::Wrong(Error::Device { place: place(), name: "x", found, expected }));
    }
    for (name, view) in [("x", x), ("y", y)] {
        let refusal = match view.device() {
            Device::Cpu if !view.has_memory() => Refusal::Memory,
            Device::Cpu if view.dtype().size().is_none() => Refusal::Dtype(view.dtype()),
            Device::Cpu => continue,
            device => Refusal::Device(device),
        };
        return Err(Unfit::Refused(name, refusal));
    }
    if x.dtype().parts() != y.dtype().parts() {
        let (found, expected) = (x.dtype().to_string(), y.dtype().to_string());
        return Err(Unfit::Wrong(Error::Dtype { place: place(), name: "x", found, expected }));
    }
    if WRITES && y.overlaps_itself() {
        let (shape, strides) = (y.shape().to_vec(), y.strides().to_vec());
        return Err(Unfit::Wrong(Error::SelfOverlap { place: place(), name: "y", shape, strides }));
    }
    Ok(())
}

/// Whether `y` shares no memory with itself or with `x`, but for tensors that are the same at the same place.
fn are_apart(x: &[View<'_>], y: &[View<'_>]) -> bool {
    let same =
        |x: &View<'_>, y: &View<'_>| x.data() == y.data() && x.strides() == y.strides() && x.dtype() == y.dtype();
    let written: Vec<Span> = y.iter().filter_map(View::span).collect();
    let read: Vec<Span> = x.iter().zip(y).filter(|(x, y)| !same(x, y)).filter_map(|(x, _)| x.span()).collect();
    Territory::default().is_disjoint(&written, &read)
}

/// What is done with an element of `x` and that of `y`.
trait Work {
    /// Whether `y` becomes what comes back.
    const WRITES: bool;
    /// Whether it is often done with a tensor and itself, which then is read once.
    const ONE: bool;

    fn on<V: Vector<f64, LANES>>(&mut self, x: V, y: V) -> V;
}

/// The products, to be added to lanes.
struct Product<'a>(&'a mut [f64; LANES]);

/// `a * x + y`.
struct Sum(f64);

/// `a * x`.
struct Multiple(f64);

impl Work for Product<'_> {
    const WRITES: bool = false;
    const ONE: bool = true;

    #[inline(always)]
    fn on<V: Vector<f64, LANES>>(&mut self, x: V, y: V) -> V {
        *self.0 = x.fma(y, V::from_lanes(*self.0)).lanes();
        y
    }
}

impl Work for Sum {
    const WRITES: bool = true;
    const ONE: bool = false;

    #[inline(always)]
    fn on<V: Vector<f64, LANES>>(&mut self, x: V, y: V) -> V {
        V::splat(self.0).fma(x, y)
    }
}

impl Work for Multiple {
    const WRITES: bool = true;
    const ONE: bool = false;

    #[inline(always)]
    fn on<V: Vector<f64, LANES>>(&mut self, x: V, _: V) -> V {
        V::splat(self.0) * x
    }
}

impl Pair {
    /// Does `work` on the elements `part`.
    ///
    /// # Safety
    ///
    /// `part` must lie within the pair, and nobody else may touch what is written there.
    #[inline(always)]
    unsafe fn run<W: Work>(&self, isa: Isa, part: Range<usize>, work: W) {
        let dtype = match &self.way {
            Way::Plain(dtype) => *dtype,
            Way::Walk(walk) => match walk.path() {
                Path::Dense => walk.dtypes().param,
                // SAFETY: the caller's promise, and that of the views behind the pointers.
                Path::Nested(dims) => return unsafe { isa.run(Gaps { pair: self, walk, dims, part, work }) },
            },
        };
        // SAFETY: as above.
        unsafe {
            match dtype {
                Dtype::F32 => isa.run(self.dense::<f32, W>(part, work)),
                Dtype::F64 => isa.run(self.dense::<f64, W>(part, work)),
                Dtype::F16 => isa.run(self.dense::<F16, W>(part, work)),
                Dtype::Bf16 => isa.run(self.dense::<Bf16, W>(part, work)),
                // Types of parts alone, and those that `check` let pass.
                Dtype::C64 | Dtype::C128 | Dtype::OtherFloat | Dtype::NoFloat => {}
            }
        }
    }

    fn dense<E: Element, W: Work>(&self, part: Range<usize>, work: W) -> Dense<E, W> {
        Dense { x: self.x.cast(), y: self.y.cast(), part, work }
    }
}

/// Elements without gaps, of one type.
struct Dense<E, W> {
    x: *const E,
    y: *mut E,
    part: Range<usize>,
    work: W,
}

impl<E: Element, W: Work> Kernel for Dense<E, W> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let Self { x, y, part, mut work } = self;
        let whole = part.start + part.len() / LANES * LANES;
        // SAFETY: the caller's promise.
        unsafe {
            // Whole blocks by themselves: so their length is known to the compiler, which unrolls them.
            for at in (part.start..whole).step_by(LANES) {
                block::<E, W, G::F64x16>(x.add(at), y.add(at), LANES, &mut work);
            }
            if whole < part.end {
                block::<E, W, G::F64x16>(x.add(whole), y.add(whole), part.end - whole, &mut work);
            }
        }
    }
}

/// Does `work` on `count <= LANES` elements.
///
/// # Safety
///
/// They must be readable at `x`, and at `y` writable too if the work writes. They may be unaligned.
#[inline(always)]
unsafe fn block<E: Element, W: Work, V: Vector<f64, LANES>>(x: *const E, y: *mut E, count: usize, work: &mut W) {
    // SAFETY: the caller's promise.
    unsafe {
        let here: V = wide(load(x, count));
        let result = work.on(here, if W::ONE && core::ptr::eq(x, y) { here } else { wide(load(y, count)) });
        if W::WRITES {
            let result = result.lanes();
            let mut narrow = [E::Compute::lit(0.0); LANES];
            for lane in 0..LANES {
                narrow[lane] = E::Compute::lit(result[lane]);
            }
            store(y, &narrow, count);
        }
    }
}

#[inline(always)]
fn wide<T: Float, V: Vector<f64, LANES>>(lanes: [T; LANES]) -> V {
    let mut wide = [0.0; LANES];
    for lane in 0..LANES {
        wide[lane] = lanes[lane].to_f64();
    }
    V::from_lanes(wide)
}

/// Elements along `dims`.
struct Gaps<'a, W> {
    pair: &'a Pair,
    walk: &'a Walk<0>,
    dims: &'a [Dim<0>],
    part: Range<usize>,
    work: W,
}

impl<W: Work> Kernel for Gaps<'_, W> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        let Self { pair, walk, dims, part, mut work } = self;
        let dtypes = *walk.dtypes();
        let nested = Nested { param: pair.y, grad: pair.x, slots: [], dtypes, dims };
        // SAFETY: the caller's promise.
        unsafe {
            nested::pairs(&nested, part, |y, x| {
                let result = work.on(G::F64x16::from_lanes(x), G::F64x16::from_lanes(y));
                W::WRITES.then_some(result.lanes())
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Spawned;
    use proptest::prelude::*;

    fn view<'a, T>(data: *mut T, shape: &'a [i64], strides: &'a [i64], dtype: Dtype) -> View<'a> {
        // SAFETY: the tests' shapes and strides stay within the data, which they keep.
        unsafe { View::new(data.cast(), shape, strides, dtype, Device::Cpu) }
    }

    fn numbers(len: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    proptest! {
        #[test]
        fn as_the_naive_loop_on_every_instruction_set(
            lens in prop::collection::vec(0_usize..100, 1..6),
            big in prop::sample::select(vec![0_usize, 70_001]),
            a in -3.0_f64..3.0,
            threads in 1_usize..4,
        ) {
            let lens: Vec<_> = lens.into_iter().chain([big]).collect();
            let shapes: Vec<_> = lens.iter().map(|&len| [len as i64]).collect();
            // Strides 2 in x, so that every second pair of lists is walked with gaps.
            for stride in [1_i64, 2] {
                let mut xs: Vec<Vec<f32>> = lens.iter().enumerate()
                    .map(|(k, len)| numbers(len * 2, k as u64).iter().map(|&v| v as f32).collect()).collect();
                let mut ys: Vec<_> = lens.iter().enumerate().map(|(k, len)| numbers(*len, 99 + k as u64)).collect();
                let at = |xs: &Vec<Vec<f32>>, k: usize, i: usize| f64::from(xs[k][i * stride as usize]);
                let each = || lens.iter().enumerate().flat_map(|(k, &len)| (0..len).map(move |i| (k, i)));
                let dot: f64 = each().map(|(k, i)| at(&xs, k, i) * ys[k][i]).sum();
                let size: f64 = each().map(|(k, i)| (at(&xs, k, i) * ys[k][i]).abs()).sum();
                let sum: Vec<_> = each().map(|(k, i)| a.mul_add(at(&xs, k, i), ys[k][i])).collect();
                let multiple: Vec<_> = each().map(|(k, i)| a * at(&xs, k, i)).collect();
                let strides = [stride];
                let before = ys.clone();
                let mut bits = None;
                for isa in Isa::available() {
                    ys.clone_from(&before);
                    let x: Vec<_> = xs.iter_mut().zip(&shapes)
                        .map(|(x, shape)| view(x.as_mut_ptr(), shape, &strides, Dtype::F32)).collect();
                    let y: Vec<_> = ys.iter_mut().zip(&shapes).map(|(y, shape)| view(y.as_mut_ptr(), shape, &[1], Dtype::F64)).collect();
                    let read = Pairs::<false>::new(&x, &y).ok().unwrap();
                    let found = read.dot_on(isa, &Spawned(threads));
                    prop_assert!((found - dot).abs() <= 1e-12 * size);
                    prop_assert_eq!(*bits.get_or_insert(found.to_bits()), found.to_bits());
                    prop_assert_eq!(read.dot_on(isa, &Spawned(1)).to_bits(), found.to_bits());
                    let write = Pairs::<true>::new(&x, &y).ok().unwrap();
                    write.axpy_on(isa, a, &Spawned(threads));
                    prop_assert_eq!(&ys.concat(), &sum);
                    let y: Vec<_> = ys.iter_mut().zip(&shapes).map(|(y, shape)| view(y.as_mut_ptr(), shape, &[1], Dtype::F64)).collect();
                    Pairs::<true>::new(&x, &y).ok().unwrap().scale_on(isa, a, &Spawned(threads));
                    prop_assert_eq!(&ys.concat(), &multiple);
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let wrong = |x: &[View<'_>], y: &[View<'_>]| match Pairs::<true>::new(x, y) {
            Err(Unfit::Wrong(error)) => error.to_string(),
            _ => "nothing wrong".to_owned(),
        };
        let mut data = numbers(40, 1);
        let low = data.as_mut_ptr();
        let high = low.wrapping_add(20);
        let (x, y) = (view(low, &[20], &[1], Dtype::F64), view(high, &[20], &[1], Dtype::F64));
        assert_eq!(wrong(&[x], &[y]), "nothing wrong");
        assert_eq!(wrong(&[y], &[y]), "nothing wrong");
        assert_eq!(wrong(&[x, x], &[y]), "x has 2 tensors, expected 1");
        let short = view(low, &[19], &[1], Dtype::F64);
        assert_eq!(wrong(&[short], &[y]), "tensors[0]: x has shape [19], expected [20]");
        let still = view(high, &[20], &[0], Dtype::F64);
        assert!(wrong(&[x], &[still]).starts_with("tensors[0]: y of shape [20] and strides [0]"));
        assert!(wrong(&[x, y], &[y, x]).starts_with("the tensors of y"));
        assert!(wrong(&[x, x], &[y, y]).starts_with("the tensors of y"));
        let parts = view(high, &[20], &[1], Dtype::C64);
        assert_eq!(wrong(&[x], &[parts]), "tensors[0]: x is float64, expected complex64 or another type of its kind");
        let whole = view(high, &[20], &[1], Dtype::NoFloat);
        assert!(matches!(Pairs::<false>::new(&[x], &[whole]), Err(Unfit::Refused("y", Refusal::Dtype(_)))));
    }
}
