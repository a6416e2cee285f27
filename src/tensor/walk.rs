//! How to visit the elements of tensors that belong together.

use super::operands::Operands;
use super::overlap::Span;
use super::view::{Device, Dtype, View, is_memory};

/// The way through one parameter's tensors: in the parameter's order in memory, the elements of the others alongside.
///
/// It depends on shapes, strides and types alone, so it holds as long as those [match](Walk::matches), wherever the
/// memory is. A complex number counts as two elements, its parts.
#[derive(Debug, Clone)]
pub struct Walk<const S: usize> {
    /// The shape, then the strides of each tensor, slots that are not live left out.
    dims: Box<[i64]>,
    ndim: usize,
    device: Device,
    whole: Dtypes<S>,
    /// The same of the parts, where elements are complex.
    dtypes: Dtypes<S>,
    /// The bytes before and from the first element on, of each tensor.
    reach: Reach<S>,
    len: usize,
    path: Path<S>,
}

#[derive(Debug, Clone, Copy)]
struct Reach<const S: usize> {
    param: (usize, usize),
    grad: (usize, usize),
    slots: [(usize, usize); S],
}

/// The element types of a parameter's tensors; `None` for a slot that is not live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dtypes<const S: usize> {
    /// The parameter's.
    pub param: Dtype,
    /// The gradient's.
    pub grad: Dtype,
    /// The slots'.
    pub slots: [Option<Dtype>; S],
}

/// The order of the elements.
#[derive(Debug, Clone, PartialEq)]
pub enum Path<const S: usize> {
    /// All tensors are of one type and lie in memory without gaps and in the same order.
    Dense,
    /// One dimension within another, the outermost first.
    Nested(Vec<Dim<S>>),
}

/// One dimension of a nested path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dim<const S: usize> {
    /// The number of elements along it.
    pub count: usize,
    /// The distance of neighbours in bytes, in each tensor.
    pub strides: Strides<S>,
}

/// A distance in bytes, in each tensor of a parameter; 0 in a slot that is not live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strides<const S: usize> {
    /// In the parameter.
    pub param: isize,
    /// In the gradient.
    pub grad: isize,
    /// In the slots.
    pub slots: [isize; S],
}

impl<const S: usize> Strides<S> {
    /// Nowhere.
    pub const ZERO: Self = Self { param: 0, grad: 0, slots: [0; S] };

    /// The distance after `times` more such steps.
    pub fn after(self, step: &Self, times: isize) -> Self {
        Self {
            param: self.param + step.param * times,
            grad: self.grad + step.grad * times,
            slots: core::array::from_fn(|k| self.slots[k] + step.slots[k] * times),
        }
    }
}

impl<const S: usize> Walk<S> {
    /// The way through tensors of one shape, each of a known type.
    pub fn of(operands: &Operands<'_, S>) -> Self {
        let views = || views(operands);
        let shape = operands.param.shape();
        let whole = Dtypes {
            param: operands.param.dtype(),
            grad: operands.grad.dtype(),
            slots: operands.slots.map(|slot| slot.map(|view| view.dtype())),
        };
        let dtypes = Dtypes {
            param: whole.param.part(),
            grad: whole.grad.part(),
            slots: whole.slots.map(|slot| slot.map(Dtype::part)),
        };
        let reach = Reach {
            param: operands.param.reach().unwrap_or_default(),
            grad: operands.grad.reach().unwrap_or_default(),
            slots: operands.slots.map(|slot| slot.and_then(|view| view.reach()).unwrap_or_default()),
        };
        let len = operands.param.len() * whole.param.parts();
        let dims = shape.iter().copied().chain(views().flat_map(|view| view.strides().to_vec())).collect();
        let device = operands.param.device();
        Self { dims, ndim: shape.len(), device, whole, dtypes, reach, len, path: path(operands, &whole) }
    }

    /// Whether it is the way through these tensors, and their memory can be reached.
    #[inline]
    pub fn matches(&self, operands: &Operands<'_, S>) -> bool {
        self.is_param(&operands.param)
            && self.is_grad(&operands.grad)
            && operands.slots.iter().enumerate().all(|(slot, view)| match view {
                Some(view) => self.is_slot(slot, view),
                None => self.whole.slots[slot].is_none(),
            })
    }

    /// Whether the parameter may be this one.
    #[inline]
    pub fn is_param(&self, view: &View<'_>) -> bool {
        self.is(0, self.whole.param, view)
    }

    /// Whether the gradient may be this one.
    #[inline]
    pub fn is_grad(&self, view: &View<'_>) -> bool {
        self.is(1, self.whole.grad, view)
    }

    /// Whether the slot may be this one.
    #[inline]
    pub fn is_slot(&self, slot: usize, view: &View<'_>) -> bool {
        let before = self.whole.slots[..slot].iter().flatten().count();
        self.whole.slots[slot].is_some_and(|dtype| self.is(2 + before, dtype, view))
    }

    #[inline]
    fn is(&self, tensor: usize, dtype: Dtype, view: &View<'_>) -> bool {
        let ndim = self.ndim;
        let begin = (1 + tensor) * ndim;
        view.dtype() == dtype
            && view.device() == self.device
            && view.has_memory()
            && same_dims(view.shape(), &self.dims[..ndim])
            && same_dims(view.strides(), &self.dims[begin..begin + ndim])
    }

    /// The memory that a step on these tensors writes, the gradient's too or not.
    #[inline]
    pub fn written(&self, operands: &Operands<'_, S>, with_grad: bool, mut to: impl FnMut(Span)) {
        if self.is_empty() {
            return;
        }
        to(span(&operands.param, self.reach.param));
        for (slot, &reach) in operands.slots.iter().zip(&self.reach.slots) {
            if let Some(view) = slot {
                to(span(view, reach));
            }
        }
        if with_grad {
            to(span(&operands.grad, self.reach.grad));
        }
    }

    /// The memory that a step on this gradient reads.
    #[inline]
    pub fn read(&self, grad: &View<'_>) -> Option<Span> {
        self.read_at(grad.data())
    }

    /// The same for a gradient whose first element is here.
    #[inline]
    pub fn read_at(&self, data: *const u8) -> Option<Span> {
        let (below, above) = self.reach.grad;
        (!self.is_empty()).then(|| Span { from: data.addr() - below, to: data.addr() + above })
    }

    /// Whether a gradient whose first element is here has memory.
    #[inline]
    pub fn is_there(&self, data: *const u8) -> bool {
        self.is_empty() || is_memory(data)
    }

    /// The number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element types; of the parts, where elements are complex.
    #[inline]
    pub fn dtypes(&self) -> &Dtypes<S> {
        &self.dtypes
    }

    /// Whether the elements of each tensor lie without gaps and in the same order, whatever their types.
    pub fn is_packed(&self) -> bool {
        let Dtypes { param, grad, slots } = self.dtypes;
        let unit = Strides { param: bytes(param), grad: bytes(grad), slots: slots.map(|slot| slot.map_or(0, bytes)) };
        match &self.path {
            Path::Dense => true,
            Path::Nested(dims) => matches!(dims[..], [only] if only.strides == unit || only.count == 1),
        }
    }

    /// The order of the elements.
    #[inline]
    pub fn path(&self) -> &Path<S> {
        &self.path
    }
}

fn bytes(dtype: Dtype) -> isize {
    dtype.size().unwrap_or(0) as isize
}

fn views<'a, const S: usize>(operands: &Operands<'a, S>) -> impl Iterator<Item = View<'a>> {
    [operands.param, operands.grad].into_iter().chain(operands.slots.into_iter().flatten())
}

#[inline]
fn span(view: &View<'_>, (below, above): (usize, usize)) -> Span {
    let at = view.data().addr();
    Span { from: at - below, to: at + above }
}

#[inline(always)]
fn same_dims(left: &[i64], right: &[i64]) -> bool {
    // Shorter than a call of memcmp for the few numbers there are.
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left == right)
}

fn path<const S: usize>(operands: &Operands<'_, S>, dtypes: &Dtypes<S>) -> Path<S> {
    let size = |view: &View<'_>| bytes(view.dtype());
    let along = |view: &View<'_>, k: usize| view.strides()[k] as isize * size(view);
    let slot = |f: &dyn Fn(&View<'_>) -> isize| operands.slots.map(|slot| slot.map_or(0, |view| f(&view)));
    let part = |view: &View<'_>| size(view) / view.dtype().parts() as isize;
    let unit = Strides { param: part(&operands.param), grad: part(&operands.grad), slots: slot(&part) };
    let uniform = dtypes.grad == dtypes.param && dtypes.slots.iter().flatten().all(|&slot| slot == dtypes.param);
    let mut dims: Vec<Dim<S>> = (0..operands.param.shape().len())
        .filter(|&k| operands.param.shape()[k] != 1)
        .map(|k| Dim {
            count: operands.param.shape()[k] as usize,
            strides: Strides {
                param: along(&operands.param, k),
                grad: along(&operands.grad, k),
                slots: slot(&|view| along(view, k)),
            },
        })
        .collect();
    // Largest stride outermost, so that the walk follows the parameter through memory.
    dims.sort_by_key(|dim| core::cmp::Reverse((dim.strides.param.abs(), dim.strides.grad.abs())));
    if operands.param.dtype().parts() == 2 {
        dims.push(Dim { count: 2, strides: unit });
    }
    let mut merged: Vec<Dim<S>> = Vec::new();
    for dim in dims {
        match merged.last_mut() {
            // A row that begins where the one before ends is one long row with it.
            Some(outer) if Strides::ZERO.after(&dim.strides, dim.count as isize) == outer.strides => {
                *outer = Dim { count: outer.count * dim.count, strides: dim.strides };
            }
            _ => merged.push(dim),
        }
    }
    match merged[..] {
        [] if uniform => Path::Dense,
        [only] if only.strides == unit && uniform => Path::Dense,
        [] => Path::Nested(vec![Dim { count: 1, strides: unit }]),
        _ => Path::Nested(merged),
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::tests::view;
    use super::*;
    use proptest::prelude::*;

    fn operands<'a>(shape: &'a [i64], strides: [&'a [i64]; 3]) -> Operands<'a, 1> {
        let [param, grad, slot] = strides.map(|strides| view(shape, strides));
        Operands { param, grad, slots: [Some(slot)], step: None, scalars: [None] }
    }

    /// The byte offsets that a walk visits, in its order.
    fn visited(walk: &Walk<1>) -> Vec<(isize, isize, isize)> {
        let dims = match walk.path() {
            Path::Dense => vec![Dim { count: walk.len(), strides: Strides { param: 4, grad: 4, slots: [4] } }],
            Path::Nested(dims) => dims.clone(),
        };
        let mut all = vec![Strides::ZERO];
        for dim in dims {
            all = all.iter().flat_map(|at| (0..dim.count).map(|i| at.after(&dim.strides, i as isize))).collect();
        }
        all.iter().map(|at| (at.param, at.grad, at.slots[0])).collect()
    }

    /// The same by counting indices up, in no particular order.
    fn naive(shape: &[i64], strides: [&[i64]; 3]) -> Vec<(isize, isize, isize)> {
        let mut all = vec![[0; 3]];
        for (k, &count) in shape.iter().enumerate() {
            let next = |at: &[i64; 3], i: i64| core::array::from_fn(|t| at[t] + 4 * i * strides[t][k]);
            all = all.iter().flat_map(|at| (0..count).map(|i| next(at, i)).collect::<Vec<_>>()).collect();
        }
        all.iter().map(|at| (at[0] as isize, at[1] as isize, at[2] as isize)).collect()
    }

    #[test]
    fn usual_layouts() {
        for (shape, strides, dense) in [
            (&[][..], [&[][..]; 3], true),
            (&[5], [&[1]; 3], true),
            (&[5], [&[2]; 3], false),
            (&[2, 3], [&[3, 1]; 3], true),
            (&[2, 3], [&[1, 2]; 3], true),
            (&[2, 3], [&[3, 1], &[1, 2], &[3, 1]], false),
            (&[2, 3], [&[3, 1], &[0, 0], &[3, 1]], false),
            (&[1, 3], [&[99, 1], &[3, 1], &[7, 1]], true),
            (&[2, 4, 5, 3], [&[60, 1, 12, 4]; 3], true),
            (&[0], [&[1]; 3], true),
        ] {
            let walk = Walk::of(&operands(shape, strides));
            assert_eq!(*walk.path() == Path::Dense, dense, "{shape:?} {strides:?}");
        }
    }

    proptest! {
        #[test]
        fn every_element_is_visited_once_with_its_companions(
            dims in prop::collection::vec((0_i64..4, -3_i64..13, -3_i64..13, 0_i64..13), 0..4),
        ) {
            let shape: Vec<_> = dims.iter().map(|d| d.0).collect();
            let strides = [0, 1, 2].map(|t| dims.iter().map(|d| [d.1, d.2, d.3][t]).collect::<Vec<_>>());
            let strides = [&strides[0][..], &strides[1], &strides[2]];
            let operands = operands(&shape, strides);
            let walk = Walk::of(&operands);
            prop_assert!(walk.matches(&operands));
            let (mut visited, mut naive) = (visited(&walk), naive(&shape, strides));
            visited.sort_unstable();
            naive.sort_unstable();
            prop_assert_eq!(visited, naive);
        }

        #[test]
        fn a_walk_matches_what_it_was_made_for_alone(
            left in prop::collection::vec((0_i64..3, 0_i64..3, 0_i64..3, 0_i64..3), 0..3),
            right in prop::collection::vec((0_i64..3, 0_i64..3, 0_i64..3, 0_i64..3), 0..3),
        ) {
            let split = |dims: &[(i64, i64, i64, i64)]| {
                [0, 1, 2, 3].map(|t| dims.iter().map(|d| [d.0, d.1, d.2, d.3][t]).collect::<Vec<_>>())
            };
            let (l, r) = (split(&left), split(&right));
            let walk = Walk::of(&operands(&l[0], [&l[1], &l[2], &l[3]]));
            prop_assert_eq!(walk.matches(&operands(&r[0], [&r[1], &r[2], &r[3]])), left == right);
        }
    }
}
