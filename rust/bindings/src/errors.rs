//! The one way from Rust's errors to Python's exceptions. The classes live in `caloric.errors`.

use caloric_core::{Error, ExtensionError};
use pyo3::prelude::*;

pyo3::import_exception!(caloric.errors, RuntimeApiError);

/// The exception for a failed conversation with the Runtime API.
pub fn runtime_api_error(error: &Error) -> PyErr {
    RuntimeApiError::new_err(error.to_string())
}

/// The exception for a failed conversation with the Extensions API.
pub fn extension_api_error(error: &ExtensionError) -> PyErr {
    RuntimeApiError::new_err(error.to_string())
}
