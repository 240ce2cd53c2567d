//! What a handler is called with: event and context, made of what `/next` delivered.

use caloric_core::Invocation;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::decode;

/// Why an invocation has no result.
pub enum Fault {
    /// The handler, or making its context, raised.
    Raised(PyErr),
    /// `Runtime.*`, with the message, and the exception behind it.
    Runtime(&'static str, String, PyErr),
}

impl From<PyErr> for Fault {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

/// The context, of request id and tenant id as they are Python's already.
pub fn context<'py>(
    context_class: &Bound<'py, PyAny>,
    invocation: &Invocation,
    (request_id, tenant_id): (&Bound<'py, PyString>, Option<&Bound<'py, PyString>>),
) -> Result<Bound<'py, PyAny>, Fault> {
    let py = context_class.py();
    let client_context = json_header(py, invocation.client_context.as_deref(), "Client Context")?;
    let identity = json_header(py, invocation.cognito_identity.as_deref(), "Cognito Identity")?;
    let arn = &invocation.invoked_function_arn;
    let arguments = (request_id, client_context, identity, deadline_ms(invocation), arn, tenant_id);
    Ok(context_class.call1(arguments)?)
}

/// The event: decoded where it is JSON, else its bytes.
pub fn event<'py>(py: Python<'py>, invocation: &Invocation, body: &[u8]) -> Result<Bound<'py, PyAny>, Fault> {
    if invocation.is_json() {
        decode::decode(py, body)
            .map_err(|error| fault(py, error, "Runtime.UnmarshalError", "Unable to unmarshal input"))
    } else {
        Ok(PyBytes::new(py, body).into_any())
    }
}

/// Without a usable deadline there is no time left, as the peer has it (spec runtime-api 1.3).
pub fn deadline_ms(invocation: &Invocation) -> u64 {
    invocation.deadline_ms().unwrap_or(0)
}

/// A `Runtime.*` fault with the exception's text; what is no `Exception`, such as `KeyboardInterrupt`, stays itself.
pub fn fault(py: Python<'_>, error: PyErr, error_type: &'static str, what: &str) -> Fault {
    if error.is_instance_of::<PyException>(py) {
        Fault::Runtime(error_type, format!("{what}: {}", error.value(py)), error)
    } else {
        Fault::Raised(error)
    }
}

/// JSON text from a header, decoded; None when there is none.
fn json_header<'py>(
    py: Python<'py>,
    header: Option<&str>,
    name: &str,
) -> Result<Option<Bound<'py, PyAny>>, Fault> {
    let Some(header) = header else { return Ok(None) };
    match decode::decode_header(py, header) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            let what = format!("Unable to parse {name} JSON");
            Err(fault(py, error, "Runtime.LambdaContextUnmarshalError", &what))
        }
    }
}
