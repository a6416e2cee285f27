//! What is known of the parameters of a step, and what the step holds of them.

use pyo3::prelude::*;

use super::super::torch;

/// A parameter that takes part in a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Member {
    pub group: u32,
    /// Its place among the parameters of the group.
    pub index: u32,
    /// The address of its object.
    pub object: usize,
    /// Its place in the state, as last found.
    pub place: u32,
    /// The place of its device.
    pub drive: u16,
    /// Which of its state the step has to make: none; all; or slots that an option has brought to life.
    pub lacks: Lacks,
    /// Whether it had no state when the step began.
    pub is_new: bool,
}

/// State that is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lacks {
    /// None.
    Nothing,
    /// All: the parameter is new.
    All,
    /// The slots whose bits are set.
    Slots(u8),
}

/// What was seen of a tensor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The address of its memory.
    pub data: usize,
    /// The number of its layout.
    pub layout: u32,
}

/// References that a step takes where Python code may run in the midst of it.
#[derive(Default)]
pub struct Owned {
    /// Whether the step takes them: it has tensors that are not plain, or torch allows no handles.
    pub is_needed: bool,
    /// All objects.
    pub objects: Vec<Py<PyAny>>,
    /// Parameters and state that are spread over several processes.
    pub spread: Vec<Py<PyAny>>,
    /// Gradients that are.
    pub spread_grads: Vec<Py<PyAny>>,
    /// Tensors that have no object.
    pub tensors: Vec<torch::Owned>,
    /// Whether the step holds all of its tensors for another reason.
    pub has_all: bool,
    /// Whether some tensor could not do without.
    pub was_needed: bool,
}

impl Seen {
    /// No tensor.
    pub const NONE: Self = Self { data: 0, layout: u32::MAX };
}

impl Owned {
    /// Holds nothing any longer. What goes with it may run Python code.
    pub fn clear(&mut self) {
        *self = Self { is_needed: self.is_needed, was_needed: self.was_needed, ..Self::default() };
    }
}
