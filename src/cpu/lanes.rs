//! A few elements at a time between memory and the numbers computed with.
#![allow(unsafe_code)]

use super::element::{Element, Float};
use super::pack::Vector;

/// `L` zeros.
#[inline(always)]
pub(super) fn zeros<T: Float, const L: usize>() -> [T; L] {
    [T::lit(0.0); L]
}

/// The `count <= L` elements at `from`, filled up with zeros.
///
/// # Safety
///
/// `from` must be readable for `count` elements. It may be unaligned.
#[inline(always)]
pub(super) unsafe fn load<E: Element, const L: usize>(from: *const E, count: usize) -> [E::Compute; L] {
    let mut raw = [E::ZERO; L];
    // SAFETY: the caller's promise.
    unsafe { copy(from, raw.as_mut_ptr(), count, L) };
    let mut lanes = zeros();
    for lane in 0..L {
        lanes[lane] = raw[lane].widen();
    }
    lanes
}

/// [`load`] into registers; all `L` in the order of [`Element::load_all`], which is the same for all tensors of a type.
///
/// # Safety
///
/// As for that.
#[inline(always)]
pub(super) unsafe fn load_vector<E: Element, V: Vector<E::Compute, L>, const L: usize>(
    from: *const E,
    count: usize,
) -> V {
    // SAFETY: the caller's promise; a vector is its numbers in memory.
    unsafe {
        if count != L {
            V::from_lanes(load(from, count))
        } else if E::AS_COMPUTED {
            from.cast::<V>().read_unaligned()
        } else {
            V::from_lanes(E::load_all(from))
        }
    }
}

/// [`store`] from registers.
///
/// # Safety
///
/// As for that.
#[inline(always)]
pub(super) unsafe fn store_vector<E: Element, V: Vector<E::Compute, L>, const L: usize>(
    to: *mut E,
    vector: V,
    count: usize,
) {
    // SAFETY: the caller's promise; a vector is its numbers in memory.
    unsafe {
        if count != L {
            store(to, &vector.lanes(), count);
        } else if E::AS_COMPUTED {
            to.cast::<V>().write_unaligned(vector);
        } else {
            E::store_all(to, &vector.lanes());
        }
    }
}

/// Writes the first `count <= L` of `lanes` to `to`.
///
/// # Safety
///
/// `to` must be writable for `count` elements. It may be unaligned.
#[inline(always)]
pub(super) unsafe fn store<E: Element, const L: usize>(to: *mut E, lanes: &[E::Compute; L], count: usize) {
    let mut raw = [E::ZERO; L];
    for lane in 0..L {
        raw[lane] = E::narrow(lanes[lane]);
    }
    // SAFETY: the caller's promise.
    unsafe { copy(raw.as_ptr(), to, count, L) };
}

/// Copies `count <= most` elements, of which `most`, at most 32, is known to the compiler. In powers of two: a call of
/// memcpy would take longer than the arithmetic.
///
/// # Safety
///
/// `from` must be readable and `to` writable for `count` elements, and they must not overlap. They may be unaligned.
#[inline(always)]
unsafe fn copy<E: Element>(from: *const E, to: *mut E, count: usize, most: usize) {
    /// # Safety
    ///
    /// As for [`copy`], for the `N` elements from `at`.
    #[inline(always)]
    unsafe fn some<E: Element, const N: usize>(from: *const E, to: *mut E, at: usize) {
        // SAFETY: the caller's promise.
        unsafe { to.add(at).cast::<[E; N]>().write_unaligned(from.add(at).cast::<[E; N]>().read_unaligned()) };
    }
    // SAFETY: the caller's promise: each part lies below `count`, which is the sum of the powers.
    unsafe {
        if count == most && most == 32 {
            return some::<E, 32>(from, to, 0);
        }
        if most >= 16 && count & 16 != 0 {
            some::<E, 16>(from, to, 0);
        }
        if count & 8 != 0 {
            some::<E, 8>(from, to, count & 16);
        }
        if count & 4 != 0 {
            some::<E, 4>(from, to, count & 24);
        }
        if count & 2 != 0 {
            some::<E, 2>(from, to, count & 28);
        }
        if count & 1 != 0 {
            some::<E, 1>(from, to, count & 30);
        }
    }
}
