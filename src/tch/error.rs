//! What can be wrong with a call of the Rust face: one enum of fields, on top of the drivers' own.

use std::path::PathBuf;

/// An error of an [`Optimizer`](super::Optimizer), found before anything was written.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use torchpace::tch::{Error, Group, Sgd};
///
/// let weight = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
/// let error = Sgd::build_groups(vec![Group::new([("weight", weight)], -0.1, Sgd::default())]).expect_err("a learning rate below 0");
/// assert!(matches!(error, Error::Option { group: 0, .. }));
/// assert_eq!(error.to_string(), "group 0: lr is -0.1, expected a number >= 0");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option of a group is out of its range.
    #[error("group {group}: {name} is {found}, expected {expected}")]
    Option {
        /// The group's number.
        group: usize,
        /// The option's name.
        name: String,
        /// What it is.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },

    /// A step of a schedule-free rule whose parameters are averages.
    #[error("group {group} is in eval mode, its parameters are averages: call train() before the loss and the step")]
    EvalMode {
        /// The group's number.
        group: usize,
    },

    /// A group has no such option.
    #[error("group {group}: there is no option {name:?} that is a number, expected one of {expected:?}")]
    UnknownOption {
        /// The group's number.
        group: usize,
        /// The option asked for.
        name: String,
        /// The options there are.
        expected: Vec<String>,
    },

    /// There is no such group.
    #[error("group is {found}, expected a number below {count}")]
    UnknownGroup {
        /// The group asked for.
        found: usize,
        /// The number of groups.
        count: usize,
    },

    /// A variable of a store is in a group whose number is too large.
    #[error("parameter {name:?}: the number of its group is {found}, expected one below {limit}")]
    GroupNumber {
        /// The parameter's name.
        name: String,
        /// The group's number.
        found: usize,
        /// The least number that is too large.
        limit: usize,
    },

    /// There is nothing to optimize.
    #[error("there are no {what}, expected at least one")]
    Empty {
        /// What there is none of.
        what: &'static str,
    },

    /// Two parameters are one, or have one name.
    #[error("parameter {name:?} is there twice: its {what} is that of {other:?}")]
    Duplicate {
        /// The second one's name.
        name: String,
        /// What they share: name or tensor.
        what: &'static str,
        /// The first one's name.
        other: String,
    },

    /// A tensor is not one that can be stepped on.
    #[error("parameter {name:?}: {tensor} is {found}, expected {expected}")]
    Tensor {
        /// The parameter's name.
        name: String,
        /// `param`, `grad` or the state entry's name.
        tensor: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        expected: &'static str,
    },

    /// Memory that a step writes belongs to two of its tensors.
    #[error("two tensors of the step share memory that it writes; clone one of them")]
    SharedMemory,

    /// A tensor, an option or the gradients' norm is not in order, as the drivers have it.
    #[error(transparent)]
    Step(#[from] crate::error::Error),

    /// A step of a schedule is out of its range.
    #[error("step is {found}, expected a finite number >= 0")]
    StepRange {
        /// The step.
        found: f64,
    },

    /// A schedule needs a metric to go on.
    #[error("group {group}: the schedule of {name} follows a metric at step {step}; call advance_with(metric)")]
    MetricMissing {
        /// The group's number.
        group: usize,
        /// The option's name.
        name: String,
        /// The step.
        step: f64,
    },

    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },

    /// A file is not the state of this optimizer.
    #[error("{}: {name} is {found}, expected {expected}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What in it is wrong.
        name: String,
        /// What it is.
        found: String,
        /// What it has to be.
        expected: String,
    },

    /// torch refuses.
    #[error("torch: {message}")]
    Torch {
        /// The first line of its message.
        message: String,
    },
}

impl From<::tch::TchError> for Error {
    fn from(error: ::tch::TchError) -> Self {
        Self::Torch { message: first_line(&error.to_string()) }
    }
}

/// A message without the stack of calls that torch puts below it.
pub(super) fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

impl Error {
    /// A tensor of a parameter is no plain memory.
    pub(super) fn not_plain(param: &str, tensor: &'static str, found: String) -> Self {
        Self::Tensor { name: param.to_owned(), tensor, found, expected: "a dense tensor of the CPU or a CUDA device" }
    }
}

/// A parameter in a message of the drivers.
pub(super) fn place(param: &str) -> String {
    format!("parameter {param:?}")
}
