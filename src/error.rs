//! What can be wrong with a call: one enum of fields; every message names the place, what was found and what was expected.

use std::path::PathBuf;

/// An error of a step, found before anything was written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No rule has this name.
    #[error("no update rule is named {found:?}, expected one of {expected:?}")]
    UnknownRule {
        /// The name asked for.
        found: String,
        /// The names there are.
        expected: Vec<&'static str>,
    },

    /// An option of a parameter group is missing.
    #[error("{place}: option {name:?} is missing")]
    MissingOption {
        /// The group.
        place: String,
        /// The option's name.
        name: &'static str,
    },

    /// An option of a parameter group is not of its type.
    #[error("{place}: option {name:?} is {found}, expected {expected}")]
    OptionType {
        /// The group.
        place: String,
        /// The option's name.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        expected: &'static str,
    },

    /// A parameter has part of its state, and one entry is missing.
    #[error("{place}: state has no {name:?}, found only {found:?}")]
    MissingState {
        /// The parameter.
        place: String,
        /// The state entry's name.
        name: &'static str,
        /// The entries that are there, of those expected.
        found: Vec<&'static str>,
    },

    /// A state entry is not of its type.
    #[error("{place}: state {name:?} is {found}, expected {expected}")]
    StateType {
        /// The parameter.
        place: String,
        /// The state entry's name.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        expected: &'static str,
    },

    /// A tensor's memory was freed.
    #[error("{place}: {name} has {expected} elements and its storage is empty")]
    FreedStorage {
        /// The parameter.
        place: String,
        /// `param`, `grad` or the state entry's name.
        name: &'static str,
        /// The number of elements.
        expected: usize,
    },

    /// A gradient or a state entry is not of the parameter's shape.
    #[error("{place}: {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The parameter.
        place: String,
        /// `grad` or the state entry's name.
        name: &'static str,
        /// Its shape.
        found: Vec<i64>,
        /// The parameter's shape.
        expected: Vec<i64>,
    },

    /// A gradient or a state entry is on another device than the parameter.
    #[error("{place}: {name} is on device {found}, expected {expected}")]
    Device {
        /// The parameter.
        place: String,
        /// `grad` or the state entry's name.
        name: &'static str,
        /// Its device.
        found: String,
        /// The parameter's device.
        expected: String,
    },

    /// A gradient or a state entry is of a type that cannot go with the parameter's.
    #[error("{place}: {name} is {found}, expected {expected} or another type of its kind")]
    Dtype {
        /// The parameter.
        place: String,
        /// `grad` or the state entry's name.
        name: &'static str,
        /// Its type.
        found: String,
        /// The parameter's type.
        expected: String,
    },

    /// A tensor that is written has two elements in one place.
    #[error(
        "{place}: {name} of shape {shape:?} and strides {strides:?} has more than one element in one place; clone it"
    )]
    SelfOverlap {
        /// The parameter.
        place: String,
        /// `param` or the state entry's name.
        name: &'static str,
        /// Its shape.
        shape: Vec<i64>,
        /// Its strides.
        strides: Vec<i64>,
    },

    /// A state entry of a parameter that is plain memory is not.
    #[error("{place}: {name} is not plain memory ({found}), expected a dense tensor on the parameter's device")]
    NotPlain {
        /// The parameter.
        place: String,
        /// The state entry's name.
        name: &'static str,
        /// What it is.
        found: String,
    },

    /// An option that is one for all groups differs between two.
    #[error("{place}: option {name:?} is {found}, expected {expected} as in the groups before: there is one for all")]
    GroupsDiffer {
        /// The group.
        place: String,
        /// The option's name.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it is in an earlier group.
        expected: String,
    },

    /// A coefficient of a step is infinite or NaN.
    #[error("{place}: option {option:?} makes {coeff:?} {found} in step {step}, expected a finite number")]
    Coefficient {
        /// The parameter.
        place: String,
        /// The option that it comes of.
        option: &'static str,
        /// The coefficient's name.
        coeff: &'static str,
        /// What it is.
        found: f64,
        /// The parameter's step, counted from 1.
        step: f64,
        /// How that comes.
        fault: Fault,
    },

    /// A scalar of a parameter's state is infinite or NaN.
    #[error("{place}: state {name:?} is {found} before step {step}, expected a finite number")]
    StateValue {
        /// The parameter.
        place: String,
        /// The state entry's name.
        name: &'static str,
        /// What it is.
        found: f64,
        /// The parameter's step, counted from 1.
        step: f64,
    },

    /// The gradients' norm is infinite or NaN, and the user asked for an error.
    #[error(
        "the total norm of the gradients is {norm}{}; expected a finite norm under nonfinite_norm=\"raise\"",
        if *clips { ", so they cannot be clipped to max_grad_norm" } else { "" }
    )]
    NonFiniteNorm {
        /// The norm.
        norm: f64,
        /// Whether they were to be clipped.
        clips: bool,
    },

    /// Of two lists of tensors one is longer.
    #[error("{name} has {found} tensors, expected {expected}")]
    Count {
        /// The list's name.
        name: &'static str,
        /// Its length.
        found: usize,
        /// The other's length.
        expected: usize,
    },

    /// A tensor in a list that is written lies among the memory of another tensor.
    #[error("the tensors of {name}, which are written, share memory with each other or with those read; clone them")]
    SharedMemory {
        /// The list's name.
        name: &'static str,
    },

    /// The run-time compiler of CUDA is not there.
    #[error(
        "NVRTC, which compiles the CUDA kernels, could not be loaded ({}); expected it in one of {folders:?}, below \
         CUDA_HOME or where the loader looks", tried.join("; ")
    )]
    NoNvrtc {
        /// Where it was to be.
        folders: Vec<PathBuf>,
        /// What was tried, and why it failed.
        tried: Vec<String>,
    },

    /// The run-time compiler of CUDA refuses.
    #[error("{call}: {reason}{}{log}", if log.is_empty() { "" } else { "\n" })]
    Nvrtc {
        /// The function that was called.
        call: &'static str,
        /// The library's name of the error.
        reason: String,
        /// What the compiler said.
        log: String,
    },

    /// The driver of CUDA is not there.
    #[error("the CUDA driver could not be loaded: {reason}")]
    NoCudaDriver {
        /// What the loader said.
        reason: String,
    },

    /// The driver of CUDA refuses.
    #[error("{call}: {reason}")]
    CudaDriver {
        /// The function that was called.
        call: &'static str,
        /// The driver's name of the error, and what it says of it.
        reason: String,
    },

    /// A kernel cannot be made for a GPU.
    #[error("the kernel {name} could not be made: {reason}")]
    NoKernel {
        /// Its name.
        name: String,
        /// What the compiler or the driver said.
        reason: String,
    },

    /// A graph captures what the host has to wait for.
    #[error("a graph captures the step, and {what} cannot be part of it")]
    Captured {
        /// What was to be done.
        what: &'static str,
    },

    /// A step on a GPU was not prepared.
    #[error("the step was not prepared, or for another stream")]
    Unprepared,

    /// A GPU is too old for the run-time compiler of CUDA.
    #[error(
        "the GPU has compute capability {found} (times 10), expected one that NVRTC knows or a later: {expected:?}"
    )]
    OldGpu {
        /// Its compute capability, times 10.
        found: u32,
        /// Those that the compiler knows.
        expected: Vec<u32>,
    },

    /// An argument of a schedule, or of a function of the theory, is out of its range.
    #[error("{schedule}: {name} is {found}, expected {expected}")]
    Argument {
        /// The schedule's or function's name.
        schedule: &'static str,
        /// The argument's name.
        name: &'static str,
        /// Its value.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },

    /// A schedule is made of too many others.
    #[error("the schedule is {found} {what}, expected at most {limit}")]
    ScheduleTooLarge {
        /// Which size: `levels deep` or `parts large`.
        what: &'static str,
        /// The size.
        found: usize,
        /// The greatest one allowed.
        limit: usize,
    },

    /// A schedule has no JSON.
    #[error("the schedule cannot be written: {reason}")]
    WriteJson {
        /// Why.
        reason: String,
    },

    /// JSON is no schedule.
    #[error("the JSON is not a schedule: {reason}")]
    ReadJson {
        /// Why, and where.
        reason: String,
    },

    /// JSON is a schedule of another version.
    #[error("the JSON is a schedule of version {found}, expected version {expected}")]
    JsonVersion {
        /// Its version.
        found: u64,
        /// The version that is known.
        expected: u64,
    },
}

/// How a coefficient of a step comes to be infinite or NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// As the option, or too large.
    Option,
    /// By a division by zero.
    Division,
    /// As the root of a negative number.
    Root,
}
