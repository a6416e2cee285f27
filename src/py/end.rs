//! How a step can end.

use pyo3::prelude::*;

use crate::error::Error;

/// Which way a step went.
pub enum Path {
    /// All is done; with the norm of the gradients, if it is a number in a GPU's memory.
    Fused(Option<Py<PyAny>>),
    /// Nothing is done, for this reason.
    Skipped(String),
    /// Nothing is done: a gradient is spread over several processes, and the norm of all must be given.
    NormWanted,
    /// Nothing is done, and nothing in the way but parameters that only torch can step on, for this reason.
    Left(String, Vec<(usize, usize)>),
}

/// Why a step is not taken here: an error, or a reason to leave it to torch.
pub enum Stop {
    /// It must not be taken.
    Error(PyErr),
    /// torch's own code takes it.
    Torch(String),
    /// torch's own code takes one parameter.
    One(String),
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Stop::Error(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error.into())
    }
}
