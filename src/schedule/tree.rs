//! The one list of all curves, and a checked curve: the schedule.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::change::{Above, Clamp, Rebase, Repeat, Reverse, Scale, Shift};
use super::compose::{Product, Sequence, Sum};
use super::*;
use crate::error::Error;

/// How deep schedules may be nested: what recursion over them, and over their JSON, bears without a thought.
pub const MAX_DEPTH: usize = 32;

/// Of how many parts a schedule may be made, counted as often as they appear.
pub const MAX_SIZE: usize = 1 << 20;

macro_rules! list {
    ($($curve:ident),+ $(,)?) => {
        /// Any curve.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Node {
            $(
                #[doc = concat!("[`", stringify!($curve), "`]")]
                $curve($curve),
            )+
        }

        $(
            impl From<$curve> for Node {
                fn from(curve: $curve) -> Self {
                    Node::$curve(curve)
                }
            }
        )+

        /// Does something with the curve, of whichever type.
        macro_rules! each {
            ($node:expr, $bound:ident => $result:expr) => {
                match $node {
                    $(Node::$curve($bound) => $result,)+
                }
            };
        }
    };
}

list![
    Constant,
    Linear,
    Polynomial,
    Cosine,
    Exponential,
    Step,
    MultiStep,
    Piecewise,
    InverseSqrt,
    InverseTime,
    Noam,
    OneCycle,
    Cyclic,
    WarmRestarts,
    Warmup,
    WarmupStableDecay,
    Plateau,
    Function,
    Sequence,
    Product,
    Sum,
    Clamp,
    Repeat,
    Scale,
    Shift,
    Reverse,
    Above,
    Rebase,
];

/// A curve whose arguments are in their ranges. Clones share it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Node", into = "Node")]
pub struct Schedule(Arc<Tree>);

struct Tree {
    node: Node,
    depth: usize,
    size: usize,
    plateaus: usize,
    functions: usize,
}

impl Schedule {
    /// Checks the arguments of a curve, whose parts are checked already.
    pub fn new(curve: impl Into<Node>) -> Result<Self, Error> {
        let node = curve.into();
        let parts = each!(&node, curve => {
            curve.check()?;
            curve.parts()
        });
        let sum = |count: fn(&Tree) -> usize| parts.iter().map(|part| count(&part.0)).fold(0, usize::saturating_add);
        let depth = 1 + parts.iter().map(|part| part.0.depth).max().unwrap_or(0);
        let size = sum(|tree| tree.size).saturating_add(1);
        let plateaus = sum(|tree| tree.plateaus) + usize::from(matches!(node, Node::Plateau(_)));
        let functions = sum(|tree| tree.functions) + usize::from(matches!(node, Node::Function(_)));
        for (what, found, limit) in [("levels deep", depth, MAX_DEPTH), ("parts large", size, MAX_SIZE)] {
            if found > limit {
                return Err(Error::ScheduleTooLarge { what, found, limit });
            }
        }
        Ok(Self(Arc::new(Tree { node, depth, size, plateaus, functions })))
    }

    /// The curve.
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// The schedules that this one is made of.
    pub fn parts(&self) -> &[Schedule] {
        each!(self.node(), curve => curve.parts())
    }

    /// The rate at a step, where no plateau has seen a metric. A step before 0, or NaN, counts as 0.
    pub fn lr(&self, base: f64, step: f64) -> f64 {
        self.lr_scaled(base, step, &[])
    }

    /// The rate at a step, where the plateaus in the order of [`plateaus`](Self::plateaus) have come to these scales; 1 for
    /// those that are missing.
    pub fn lr_scaled(&self, base: f64, step: f64, scales: &[f64]) -> f64 {
        let step = step.max(0.0);
        each!(self.node(), curve => curve.lr_scaled(base, step, scales))
    }

    /// The step from which on the rate no longer changes, if there is one.
    pub fn length(&self) -> Option<f64> {
        each!(self.node(), curve => curve.length())
    }

    /// How many plateaus are inside, each counted as often as it appears.
    pub fn plateau_count(&self) -> usize {
        self.0.plateaus
    }

    /// How many functions are inside, each counted as often as it appears.
    pub fn function_count(&self) -> usize {
        self.0.functions
    }

    /// The plateaus inside, in the order of writing.
    pub fn plateaus(&self) -> Vec<&Plateau> {
        let mut found = Vec::new();
        self.visit(&mut |node| {
            if let Node::Plateau(plateau) = node {
                found.push(plateau);
            }
        });
        found
    }

    /// The functions inside, in the order of writing.
    pub fn functions(&self) -> Vec<&Function> {
        let mut found = Vec::new();
        self.visit(&mut |node| {
            if let Node::Function(function) = node {
                found.push(function);
            }
        });
        found
    }

    /// Which of the plateaus the rate at a step depends on.
    pub fn active(&self, step: f64) -> Vec<usize> {
        let mut found = Vec::new();
        self.find_active(step.max(0.0), 0, &mut found);
        found
    }

    fn find_active(&self, step: f64, first: usize, found: &mut Vec<usize>) {
        if self.0.plateaus == 0 {
            return;
        }
        if let Node::Plateau(_) = self.node() {
            found.push(first);
        }
        for (part, step) in each!(self.node(), curve => curve.reach(step)) {
            let before: usize = self.parts().iter().take(part).map(Self::plateau_count).sum();
            if let Some(part) = self.parts().get(part) {
                part.find_active(step.max(0.0), first + before, found);
            }
        }
    }

    fn visit<'a>(&'a self, seen: &mut dyn FnMut(&'a Node)) {
        seen(self.node());
        for part in self.parts() {
            part.visit(seen);
        }
    }

    /// The functions that nobody but this schedule holds.
    pub fn visit_own_functions(&self, seen: &mut dyn FnMut(&dyn Call)) {
        if self.0.functions == 0 || Arc::strong_count(&self.0) > 1 {
            return;
        }
        if let Node::Function(function) = self.node() {
            function.here().filter(|call| Arc::strong_count(call) == 1).into_iter().for_each(|call| seen(&**call));
        }
        self.parts().iter().for_each(|part| part.visit_own_functions(seen));
    }

    /// The same schedule with each function put in another's place.
    pub fn map_functions(&self, new: &mut dyn FnMut(&Function) -> Result<Function, Error>) -> Result<Self, Error> {
        if self.0.functions == 0 {
            return Ok(self.clone());
        }
        let mut node = self.node().clone();
        match &mut node {
            Node::Function(function) => *function = new(function)?,
            Node::Sequence(Sequence { parts, .. }) | Node::Product(Product { parts }) | Node::Sum(Sum { parts }) => {
                for part in parts {
                    *part = part.map_functions(new)?;
                }
            }
            Node::Clamp(Clamp { schedule, .. })
            | Node::Repeat(Repeat { schedule, .. })
            | Node::Scale(Scale { schedule, .. })
            | Node::Shift(Shift { schedule, .. })
            | Node::Reverse(Reverse { schedule, .. })
            | Node::Above(Above { schedule, .. })
            | Node::Rebase(Rebase { schedule, .. }) => *schedule = schedule.map_functions(new)?,
            _ => {}
        }
        Self::new(node)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.node() == other.node()
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        each!(self.node(), curve => fmt::Display::fmt(curve, out))
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl TryFrom<Node> for Schedule {
    type Error = Error;

    fn try_from(node: Node) -> Result<Self, Error> {
        Self::new(node)
    }
}

impl From<Schedule> for Node {
    fn from(schedule: Schedule) -> Self {
        schedule.0.node.clone()
    }
}
