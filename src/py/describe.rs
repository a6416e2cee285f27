//! Python objects in messages.

use pyo3::prelude::*;

/// A value in a message: its type, and what it is if that is short.
pub fn describe(value: &Bound<'_, PyAny>) -> String {
    let kind = describe_type(value);
    match value.repr() {
        Ok(text) if text.to_string().len() <= 60 => format!("{text} ({kind})"),
        _ => kind,
    }
}

/// The type of a value in a message.
pub fn describe_type(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "an object".to_owned(), |name| format!("of type {name}"))
}
