//! A schedule that is any function.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::curve::Curve;
use crate::error::Error;

/// What a [`Function`] calls.
pub trait Call: Any + Send + Sync {
    /// The rate in units of the base, at a step.
    fn call(&self, step: f64) -> f64;

    /// A name to show.
    fn name(&self) -> String;

    /// What two equal functions have in common: an address, say.
    fn identity(&self) -> usize;
}

/// `lr(t) = base * call(t)`
///
/// ```
/// use std::sync::Arc;
/// use torchpace::schedule::{Call, Curve, Function};
///
/// struct Half;
/// impl Call for Half {
///     fn call(&self, step: f64) -> f64 {
///         0.5 * step
///     }
///     fn name(&self) -> String {
///         "half".to_owned()
///     }
///     fn identity(&self) -> usize {
///         0
///     }
/// }
/// assert_eq!(Function::new(Arc::new(Half)).lr(0.1, 4.0), 0.2);
/// ```
#[derive(Clone)]
pub struct Function {
    called: Called,
}

/// A function, or its place in a list that is kept elsewhere while the schedule is text.
#[derive(Clone)]
enum Called {
    Here(Arc<dyn Call>),
    Elsewhere(usize),
}

impl Function {
    /// The schedule of a function.
    pub fn new(call: Arc<dyn Call>) -> Self {
        Self { called: Called::Here(call) }
    }

    /// Its place in a list that is kept elsewhere; such a schedule has JSON, and all its rates are NaN.
    pub fn elsewhere(place: usize) -> Self {
        Self { called: Called::Elsewhere(place) }
    }

    /// The function, if it is here.
    pub fn here(&self) -> Option<&Arc<dyn Call>> {
        match &self.called {
            Called::Here(call) => Some(call),
            Called::Elsewhere(_) => None,
        }
    }

    /// The place, if it is elsewhere.
    pub fn place(&self) -> Option<usize> {
        match &self.called {
            Called::Here(_) => None,
            Called::Elsewhere(place) => Some(*place),
        }
    }
}

impl Curve for Function {
    const NAME: &'static str = "function";

    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    fn lr(&self, base: f64, step: f64) -> f64 {
        self.here().map_or(f64::NAN, |call| base * call.call(step))
    }

    fn length(&self) -> Option<f64> {
        None
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        match (&self.called, &other.called) {
            (Called::Here(ours), Called::Here(theirs)) => ours.identity() == theirs.identity(),
            (Called::Elsewhere(ours), Called::Elsewhere(theirs)) => ours == theirs,
            _ => false,
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.called {
            Called::Here(call) => write!(out, "function({})", call.name()),
            Called::Elsewhere(place) => write!(out, "function({place})"),
        }
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for Function {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.place() {
            Some(place) => place.serialize(serializer),
            None => Err(S::Error::custom(format!("{self} cannot be written as JSON; pickle can keep it"))),
        }
    }
}

impl<'de> Deserialize<'de> for Function {
    /// Only its place can be read, and only where the list is at hand.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        usize::deserialize(deserializer).map(Self::elsewhere).map_err(D::Error::custom)
    }
}
