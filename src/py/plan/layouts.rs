//! Layouts of tensors, each of which is kept once: a network's many tensors have few.
#![allow(unsafe_code)]

use std::collections::HashMap;

use super::super::torch::look::Look;
use crate::tensor::{Device, Dtype, View};

/// All that a tensor's description says but for where its memory is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    pub dtype: Dtype,
    pub device: Device,
    ndim: usize,
    /// Its shape, then its strides.
    dims: Box<[i64]>,
}

/// Layouts and their numbers.
#[derive(Default)]
pub struct Layouts {
    all: Vec<Layout>,
    numbers: HashMap<Layout, u32>,
}

impl Layout {
    fn of(look: &Look<'_>) -> Self {
        let dims = look.shape().iter().chain(look.strides()).copied().collect();
        Self { dtype: look.dtype, device: look.device, ndim: look.shape().len(), dims }
    }

    /// The size of each dimension.
    #[inline]
    pub fn shape(&self) -> &[i64] {
        &self.dims[..self.ndim]
    }

    /// The distance between neighbours along each dimension, in elements.
    #[inline]
    pub fn strides(&self) -> &[i64] {
        &self.dims[self.ndim..]
    }

    /// Memory of this layout.
    pub fn view(&self, data: usize) -> View<'_> {
        let data = core::ptr::with_exposed_provenance_mut(data);
        // SAFETY: what was seen of a tensor, which stays true until Python code runs; no view is kept for longer.
        unsafe { View::new(data, self.shape(), self.strides(), self.dtype, self.device) }
    }

    #[inline(always)]
    fn is(&self, look: &Look<'_>) -> bool {
        // Shorter than calls of memcmp for the few numbers there are.
        let same = |left: &[i64], right: &[i64]| left.iter().zip(right).all(|(left, right)| left == right);
        self.dtype == look.dtype
            && self.device == look.device
            && self.ndim == look.shape().len()
            && same(self.shape(), look.shape())
            && same(self.strides(), look.strides())
    }
}

impl Layouts {
    /// The layout of this number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&Layout> {
        self.all.get(number as usize)
    }

    /// Whether a tensor has the layout of this number.
    #[inline(always)]
    pub fn is(&self, number: u32, look: &Look<'_>) -> bool {
        self.get(number).is_some_and(|layout| layout.is(look))
    }

    /// The number of a tensor's layout.
    pub fn number(&mut self, look: &Look<'_>) -> u32 {
        let layout = Layout::of(look);
        let next = self.all.len() as u32;
        *self.numbers.entry(layout).or_insert_with_key(|layout| {
            self.all.push(layout.clone());
            next
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }
}
