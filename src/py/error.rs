//! Our errors as Python's exceptions, of the types that torch raises in the same places.

use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyTypeError, PyValueError, PyZeroDivisionError};
use pyo3::prelude::*;

use crate::error::{Error, Fault};

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        let message = error.to_string();
        match error {
            Error::MissingOption { .. } | Error::MissingState { .. } => PyKeyError::new_err(message),
            Error::OptionType { .. } | Error::StateType { .. } => PyTypeError::new_err(message),
            // As in torch's loop, which is Python's arithmetic: there a root of a negative number is complex.
            Error::Coefficient { fault: Fault::Division, .. } => PyZeroDivisionError::new_err(message),
            Error::Coefficient { fault: Fault::Root, .. } => PyRuntimeError::new_err(message),
            Error::UnknownRule { .. }
            | Error::Coefficient { .. }
            | Error::StateValue { .. }
            | Error::GroupsDiffer { .. }
            | Error::Argument { .. }
            | Error::ScheduleTooLarge { .. }
            | Error::ReadJson { .. }
            | Error::JsonVersion { .. } => PyValueError::new_err(message),
            Error::WriteJson { .. } => PyTypeError::new_err(message),
            Error::FreedStorage { .. }
            | Error::Shape { .. }
            | Error::Device { .. }
            | Error::Dtype { .. }
            | Error::SelfOverlap { .. }
            | Error::NotPlain { .. }
            | Error::Count { .. }
            | Error::SharedMemory { .. }
            | Error::NonFiniteNorm { .. }
            | Error::NoNvrtc { .. }
            | Error::Nvrtc { .. }
            | Error::NoCudaDriver { .. }
            | Error::CudaDriver { .. }
            | Error::NoKernel { .. }
            | Error::Captured { .. }
            | Error::Unprepared
            | Error::OldGpu { .. } => PyRuntimeError::new_err(message),
        }
    }
}
