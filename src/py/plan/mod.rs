//! What is known of an optimizer from one step to the next: flat arrays, some 20 bytes a tensor, and nothing that a step
//! depends on. Between two steps of a training everything leaves the processor's caches, so what is looked at is little
//! and lies together.

pub mod drive;
pub mod groups;
pub mod layouts;
pub mod parts;
pub mod state;

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;

use self::drive::Drive;
use self::groups::KnownGroup;
use self::layouts::Layouts;
use self::parts::Parts;
use self::state::Table;
use super::torch::Spot;
use crate::tensor::Walk;

/// What is known, and where a step puts what it finds.
pub struct Known<R, const C: usize, const S: usize> {
    /// By number; None for one that never had anything to do.
    pub groups: Vec<Option<KnownGroup<R>>>,
    /// The parameters with a gradient, in order.
    pub members: Vec<Member>,
    /// Where their tensors are as objects, in this step alone.
    pub spots: Vec<Parts<Spot, S>>,
    /// What was seen of their tensors.
    pub seen: Vec<Parts<Seen, S>>,
    pub layouts: Layouts,
    /// The ways through tensors of these layouts.
    pub walks: HashMap<Parts<u32, S>, Arc<Walk<S>>>,
    pub table: Table,
    /// The devices of the parameters.
    pub drives: Vec<Drive<R, C, S>>,
    /// What keeps the objects of this step alive while Python code may run.
    pub owned: Owned,
}

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
    /// Tensors that are spread over several processes.
    pub spread: Vec<Py<PyAny>>,
    /// Whether some tensor could not do without.
    pub was_needed: bool,
}

impl Seen {
    /// No tensor.
    pub const NONE: Self = Self { data: 0, layout: u32::MAX };
}

impl<R, const C: usize, const S: usize> Known<R, C, S> {
    /// Nothing.
    pub fn new() -> Self {
        Self {
            groups: Vec::new(),
            members: Vec::new(),
            spots: Vec::new(),
            seen: Vec::new(),
            layouts: Layouts::default(),
            walks: HashMap::new(),
            table: Table::default(),
            drives: Vec::new(),
            owned: Owned::default(),
        }
    }
}
