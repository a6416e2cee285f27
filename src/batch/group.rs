//! What parameters share in a step.

use crate::tensor::Dtype;

/// What the parameters of one group share in a step.
#[derive(Debug, Clone)]
pub struct Group<R> {
    /// The rule under the group's options.
    pub rule: R,
    /// The learning rate.
    pub lr: f64,
    /// Where the learning rate is, if a GPU is to read it from its own memory, which goes before `lr`.
    pub lr_at: Option<DeviceNumber>,
    /// Whether to step uphill.
    pub maximize: bool,
    /// A bound on the absolute value of each element of a gradient, after all else.
    pub clip_value: Option<f64>,
}

/// A number in a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNumber {
    /// Its address.
    pub at: u64,
    /// Its type: `F32` or `F64`.
    pub dtype: Dtype,
}

impl<R> Group<R> {
    /// A group that steps by `rule` at the learning rate `lr`, downhill and without clipping.
    pub fn new(rule: R, lr: f64) -> Self {
        Self { rule, lr, lr_at: None, maximize: false, clip_value: None }
    }
}
