//! The loop over tensors with gaps, laid out unlike each other or of several types.
#![allow(unsafe_code)]

use core::ops::Range;

use super::element::{Bf16, Element, F16, Float};
use super::isa::{Kernel, Registers};
use super::lanes::zeros;
use super::pack::Vector;
use super::sweep::{Treatment, update};
use crate::batch::Task;
use crate::number::Number;
use crate::rule::Rule;
use crate::tensor::{Dim, Dtype, Dtypes, Strides};

/// How many elements are computed together.
pub(super) const LANES: usize = 16;

/// The memory of one parameter, and the way through it.
pub(super) struct Nested<'a, const S: usize> {
    pub param: *mut u8,
    /// Written to only by an [unscaling](Treatment::unscale) step.
    pub grad: *mut u8,
    /// Null for a slot that is not live.
    pub slots: [*mut u8; S],
    pub dtypes: Dtypes<S>,
    pub dims: &'a [Dim<S>],
}

/// Where the lanes of a block are, in bytes from each tensor's first element.
enum Places<const S: usize> {
    /// Along one row: the first, and the way to the next.
    Row(Strides<S>, Strides<S>),
    /// Here and there.
    Table([Strides<S>; LANES]),
}

impl<const S: usize> Places<S> {
    /// The places in one of the tensors.
    #[inline(always)]
    fn of(&self, tensor: impl Fn(&Strides<S>) -> isize) -> [isize; LANES] {
        match self {
            Places::Row(start, step) => core::array::from_fn(|lane| tensor(start) + tensor(step) * lane as isize),
            Places::Table(places) => core::array::from_fn(|lane| tensor(&places[lane])),
        }
    }
}

/// A step on the elements `part`, counted along the dims, computing in `T`.
pub(super) struct NestedSweep<'a, T, R, const C: usize, const S: usize> {
    pub rule: &'a R,
    pub coeffs: [T; C],
    pub treatment: Treatment<T>,
    /// Every element that its dims reach from the pointers must be valid and of its type, for writing as for
    /// [`Sweep`](super::sweep::Sweep).
    pub nested: Nested<'a, S>,
    pub part: Range<usize>,
}

impl<T: Float, R: Rule<C, S>, const C: usize, const S: usize> Kernel for NestedSweep<'_, T, R, C, S> {
    #[inline(always)]
    unsafe fn run<G: Registers>(self) {
        // SAFETY: the caller's promise.
        unsafe { sweep::<T, T::In16<G>, R, C, S>(self.rule, self.coeffs, self.treatment, &self.nested, self.part) };
    }
}

/// [`NestedSweep`].
///
/// # Safety
///
/// As for that.
#[inline(always)]
unsafe fn sweep<T: Float, V: Vector<T, LANES>, R: Rule<C, S>, const C: usize, const S: usize>(
    rule: &R,
    coeffs: [T; C],
    treatment: Treatment<T>,
    nested: &Nested<'_, S>,
    part: Range<usize>,
) {
    let mut cursor = Cursor::new(nested.dims, part.start);
    let mut left = part.len();
    while left > 0 {
        let (places, count) = cursor.block(left);
        left -= count;
        let (param_at, grad_at) = (places.of(|at| at.param), places.of(|at| at.grad));
        let slots_at: [_; S] = core::array::from_fn(|k| places.of(|at| at.slots[k]));
        // SAFETY: the places of the block's elements, by the caller's promise.
        unsafe {
            let param = V::from_lanes(gather(nested.param, nested.dtypes.param, &param_at[..count]));
            let mut grad = V::from_lanes(gather(nested.grad, nested.dtypes.grad, &grad_at[..count]));
            let mut slots = [V::lit(0.0); S];
            for (k, slot) in slots.iter_mut().enumerate() {
                if let Some(dtype) = nested.dtypes.slots[k] {
                    *slot = V::from_lanes(gather(nested.slots[k], dtype, &slots_at[k][..count]));
                }
            }
            if let Some(scale) = treatment.unscale {
                grad = grad * V::splat(scale);
                scatter(&grad.lanes(), nested.grad, nested.dtypes.grad, &grad_at[..count]);
            }
            let (param, slots) = update(rule, coeffs, treatment, param, grad, slots);
            scatter(&param.lanes(), nested.param, nested.dtypes.param, &param_at[..count]);
            for (k, slot) in slots.into_iter().enumerate() {
                if let Some(dtype) = nested.dtypes.slots[k] {
                    scatter(&slot.lanes(), nested.slots[k], dtype, &slots_at[k][..count]);
                }
            }
        }
    }
}

/// Calls `visit` with blocks of the elements `part`: parameter, gradient and slots, filled up with zeros, and how many
/// there are.
///
/// # Safety
///
/// As for [`sweep`]; nothing is written.
#[inline(always)]
pub(super) unsafe fn elements<T: Float, V: Vector<T, LANES>, const S: usize>(
    nested: &Nested<'_, S>,
    part: Range<usize>,
    mut visit: impl FnMut(V, V, [V; S], usize),
) {
    let mut cursor = Cursor::new(nested.dims, part.start);
    let mut left = part.len();
    while left > 0 {
        let (places, count) = cursor.block(left);
        left -= count;
        // SAFETY: the places of the block's elements, by the caller's promise.
        unsafe {
            let all = |base, dtype, at: [isize; LANES]| V::from_lanes(gather(base, dtype, &at[..count]));
            let param = all(nested.param, nested.dtypes.param, places.of(|at| at.param));
            let grad = all(nested.grad, nested.dtypes.grad, places.of(|at| at.grad));
            let mut slots = [V::lit(0.0); S];
            for (k, slot) in slots.iter_mut().enumerate() {
                if let Some(dtype) = nested.dtypes.slots[k] {
                    *slot = all(nested.slots[k], dtype, places.of(|at| at.slots[k]));
                }
            }
            visit(param, grad, slots, count);
        }
    }
}

/// Calls `visit` with blocks of the gradients `part`, filled up with zeros.
///
/// # Safety
///
/// As for [`sweep`]; nothing is written.
#[inline(always)]
pub(super) unsafe fn grads<T: Float, const S: usize>(
    nested: &Nested<'_, S>,
    part: Range<usize>,
    mut visit: impl FnMut([T; LANES]),
) {
    let mut cursor = Cursor::new(nested.dims, part.start);
    let mut left = part.len();
    while left > 0 {
        let (places, count) = cursor.block(left);
        left -= count;
        // SAFETY: the places of the block's elements, by the caller's promise.
        visit(unsafe { gather(nested.grad, nested.dtypes.grad, &places.of(|at| at.grad)[..count]) });
    }
}

/// Calls `visit` with blocks of the elements `part` of a parameter and its gradient, filled up with zeros, and writes what
/// it gives back, if anything, to the parameter.
///
/// # Safety
///
/// As for [`sweep`].
#[inline(always)]
pub(super) unsafe fn pairs(
    nested: &Nested<'_, 0>,
    part: Range<usize>,
    mut visit: impl FnMut([f64; LANES], [f64; LANES]) -> Option<[f64; LANES]>,
) {
    let mut cursor = Cursor::new(nested.dims, part.start);
    let mut left = part.len();
    while left > 0 {
        let (places, count) = cursor.block(left);
        left -= count;
        let (param_at, grad_at) = (places.of(|at| at.param), places.of(|at| at.grad));
        // SAFETY: the places of the block's elements, by the caller's promise.
        unsafe {
            let param = gather(nested.param, nested.dtypes.param, &param_at[..count]);
            let grad = gather(nested.grad, nested.dtypes.grad, &grad_at[..count]);
            if let Some(result) = visit(param, grad) {
                scatter(&result, nested.param, nested.dtypes.param, &param_at[..count]);
            }
        }
    }
}

/// A place on the way.
struct Cursor<'a, const S: usize> {
    dims: &'a [Dim<S>],
    index: Vec<usize>,
    at: Strides<S>,
}

impl<'a, const S: usize> Cursor<'a, S> {
    /// At the `element`th element.
    fn new(dims: &'a [Dim<S>], mut element: usize) -> Self {
        let mut cursor = Self { dims, index: vec![0; dims.len()], at: Strides::ZERO };
        for (dim, index) in dims.iter().zip(&mut cursor.index).rev() {
            *index = element % dim.count;
            element /= dim.count;
            cursor.at = cursor.at.after(&dim.strides, *index as isize);
        }
        cursor
    }

    /// The next block, at most `left` elements, and goes behind it.
    #[inline(always)]
    fn block(&mut self, left: usize) -> (Places<S>, usize) {
        let count = left.min(LANES);
        let (Some(dim), Some(&index)) = (self.dims.last(), self.index.last()) else {
            return (Places::Row(Strides::ZERO, Strides::ZERO), count);
        };
        if dim.count - index >= count {
            let places = Places::Row(self.at, dim.strides);
            self.advance(count);
            return (places, count);
        }
        let mut table = [Strides::ZERO; LANES];
        for place in &mut table[..count] {
            *place = self.at;
            self.advance(1);
        }
        (Places::Table(table), count)
    }

    /// Goes `count` elements on, at most to the end of the row.
    #[inline(always)]
    fn advance(&mut self, count: usize) {
        let mut step = count;
        for (dim, index) in self.dims.iter().zip(&mut self.index).rev() {
            *index += step;
            self.at = self.at.after(&dim.strides, step as isize);
            if *index < dim.count {
                return;
            }
            self.at = self.at.after(&dim.strides, -(dim.count as isize));
            *index = 0;
            step = 1;
        }
    }
}

/// The elements of type `dtype` at these offsets from `base`, filled up with zeros.
///
/// # Safety
///
/// There must be elements of that type at those offsets. They may be unaligned.
unsafe fn gather<T: Float>(base: *const u8, dtype: Dtype, offsets: &[isize]) -> [T; LANES] {
    /// # Safety
    ///
    /// As for [`gather`].
    unsafe fn of<E: Element, T: Float>(base: *const u8, offsets: &[isize]) -> [T; LANES] {
        let mut lanes = zeros();
        for (value, &offset) in lanes.iter_mut().zip(offsets) {
            // SAFETY: the caller's promise.
            let element = unsafe { base.offset(offset).cast::<E>().read_unaligned() };
            *value = T::lit(element.widen().to_f64());
        }
        lanes
    }
    // SAFETY: the caller's promise.
    unsafe {
        match dtype {
            Dtype::F64 => of::<f64, T>(base, offsets),
            Dtype::F32 => of::<f32, T>(base, offsets),
            Dtype::F16 => of::<F16, T>(base, offsets),
            Dtype::Bf16 => of::<Bf16, T>(base, offsets),
            // A walk knows parts alone, and of the types above.
            Dtype::C64 | Dtype::C128 | Dtype::OtherFloat | Dtype::NoFloat => zeros(),
        }
    }
}

/// Writes lanes as elements of type `dtype` to these offsets from `base`.
///
/// # Safety
///
/// There must be room for elements of that type at those offsets. They may be unaligned.
unsafe fn scatter<T: Float>(lanes: &[T; LANES], base: *mut u8, dtype: Dtype, offsets: &[isize]) {
    /// # Safety
    ///
    /// As for [`scatter`].
    unsafe fn of<E: Element, T: Float>(lanes: &[T; LANES], base: *mut u8, offsets: &[isize]) {
        for (value, &offset) in lanes.iter().zip(offsets) {
            let element = E::narrow(Number::lit(value.to_f64()));
            // SAFETY: the caller's promise.
            unsafe { base.offset(offset).cast::<E>().write_unaligned(element) };
        }
    }
    // SAFETY: the caller's promise.
    unsafe {
        match dtype {
            Dtype::F64 => of::<f64, T>(lanes, base, offsets),
            Dtype::F32 => of::<f32, T>(lanes, base, offsets),
            Dtype::F16 => of::<F16, T>(lanes, base, offsets),
            Dtype::Bf16 => of::<Bf16, T>(lanes, base, offsets),
            Dtype::C64 | Dtype::C128 | Dtype::OtherFloat | Dtype::NoFloat => {}
        }
    }
}

/// A task's memory along `dims`.
#[inline(always)]
pub(super) fn memory_of<'b, const S: usize>(task: &Task<S>, dims: &'b [Dim<S>]) -> Nested<'b, S> {
    let slots = task.slots.map(|slot| slot.unwrap_or(core::ptr::null_mut()));
    Nested { param: task.param, grad: task.grad, slots, dtypes: *task.walk.dtypes(), dims }
}
