//! What is known of an optimizer from one step to the next: flat arrays, some 20 bytes a tensor, and nothing that a step
//! depends on. Between two steps of a training everything leaves the processor's caches, so what is looked at is little
//! and lies together.

pub mod drive;
pub mod groups;
pub mod layouts;
pub mod left;
pub mod members;
pub mod parts;
pub mod state;

use std::collections::HashMap;
use std::sync::Arc;

use self::drive::Drive;
use self::groups::KnownGroup;
use self::layouts::Layouts;
use self::left::Left;
use self::members::{Member, Owned, Seen};
use self::parts::Parts;
use self::state::Table;
use super::torch::Spot;
use crate::tensor::Walk;

/// What is known, and where a step puts what it finds.
pub struct Known<R, const C: usize, const S: usize> {
    /// By number; None for one that never had anything to do.
    pub groups: Vec<Option<KnownGroup<R>>>,
    /// Whether the options of each were read in this step.
    pub is_read: Vec<bool>,
    /// The parameters with a gradient, in order.
    pub members: Vec<Member>,
    /// Where their tensors are as objects, in this step alone.
    pub spots: Vec<Parts<Spot, S>>,
    /// What was seen of their tensors.
    pub seen: Vec<Parts<Seen, S>>,
    /// Whether all of it is as in the step before, which can then be run again, the gradients' places aside.
    pub is_same: bool,
    /// Where gradients were found in the step before, for the processor to fetch.
    pub grad_seats: Vec<usize>,
    pub layouts: Layouts,
    /// The ways through tensors of these layouts.
    pub walks: HashMap<Parts<u32, S>, Arc<Walk<S>>>,
    pub table: Table,
    /// The devices of the parameters.
    pub drives: Vec<Drive<R, C, S>>,
    /// What keeps the objects of this step alive while Python code may run.
    pub owned: Owned,
    /// The parameters that are left to torch.
    pub left: Left,
}

impl<R, const C: usize, const S: usize> Known<R, C, S> {
    /// Nothing.
    pub fn new() -> Self {
        Self {
            groups: Vec::new(),
            is_read: Vec::new(),
            is_same: false,
            members: Vec::new(),
            spots: Vec::new(),
            seen: Vec::new(),
            grad_seats: Vec::new(),
            layouts: Layouts::default(),
            walks: HashMap::new(),
            table: Table::default(),
            drives: Vec::new(),
            owned: Owned::default(),
            left: Left::default(),
        }
    }

    /// Forgets all layouts, and so what was seen.
    pub fn forget_layouts(&mut self) {
        self.layouts = Layouts::default();
        self.walks.clear();
        self.seen.fill(Parts::all(Seen::NONE));
        self.is_same = false;
    }

    /// Leaves so many parameters to this step.
    pub fn leave(&mut self, count: usize) {
        if count < self.members.len() {
            self.members.truncate(count);
            self.seen.truncate(count);
            self.is_same = false;
        }
    }
}
