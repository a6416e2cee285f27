//! What can be wrong with a call: one enum of fields; every message names the place, what was found and what was expected.

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
}
