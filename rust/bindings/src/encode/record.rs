//! Log records to JSON. They hold what user code attached to them, and one that cannot be written would be lost: so the
//! rules are those of the standard library's `json` with `default=str`, which is what the peer uses for them.

use std::ffi::CStr;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::number::extend_float;
use super::{Encoder, Raised, Rules};

/// Encode a log record as one line. See `_rust.pyi`.
#[pyfunction]
pub fn encode_log_record<'py>(
    py: Python<'py>,
    fields: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyString>> {
    let mut line = Vec::with_capacity(256);
    super::encode_by(Rules::Record, py, fields, &mut line)?;
    line.push(b'\n');
    PyString::from_encoded_object(&PyBytes::new(py, &line), Some(c"utf-8"), None)
}

impl<'py> Encoder<'py, '_> {
    /// Write a value that is none of the plain types, or start to write it.
    pub(super) fn put_uncommon_in_record(&mut self, value: Bound<'py, PyAny>) -> Result<(), Raised> {
        if let Ok(text) = value.cast::<PyString>() {
            return self.put_quoted(text);
        }
        if let Ok(integer) = value.cast::<PyInt>() {
            let digits = self.digits(integer)?;
            return self.put_text(digits);
        }
        if let Ok(float) = value.cast::<PyFloat>() {
            return extend_float(&mut self.out, float_of(float));
        }
        if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
            let iterator = value.try_iter().map_err(|error| Raised::from(self.py, error))?;
            return self.push_iterator(value, iterator.into_any());
        }
        match value.cast_into::<PyDict>() {
            Ok(dict) => self.open_dict_subclass(dict),
            Err(error) => {
                let text = error.into_inner().str().map_err(|error| Raised::from(self.py, error))?;
                self.put_quoted(&text)
            }
        }
    }

    /// Write a dict key that is not an exact str.
    pub(super) fn put_key_in_record(&mut self, key: &Bound<'py, PyAny>) -> Result<(), Raised> {
        if let Ok(text) = key.cast::<PyString>() {
            return self.put_quoted(text);
        }
        self.out.extend(b"\"")?;
        if let Ok(float) = key.cast::<PyFloat>() {
            extend_float(&mut self.out, float_of(float))?;
        } else if let Ok(truth) = key.cast::<PyBool>() {
            self.out.extend(if truth.is_true() { b"true" } else { b"false" })?;
        } else if key.is_none() {
            self.out.extend(b"null")?;
        } else if let Ok(integer) = key.cast::<PyInt>() {
            let digits = self.digits(integer)?;
            self.put_text(digits)?;
        } else {
            return Err(Raised::new::<PyTypeError, _>(format!(
                "keys must be str, int, float, bool or None, not {}",
                name_in_c(key)
            )));
        }
        self.out.extend(b"\"")
    }

    /// An integer's digits, whatever its class makes of them.
    fn digits(&self, integer: &Bound<'py, PyInt>) -> Result<Bound<'py, PyAny>, Raised> {
        // SAFETY: base 10 of an int or of a subclass, and alive; a new str, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_opt(self.py, ffi::PyNumber_ToBase(integer.as_ptr(), 10)) }
            .ok_or(Raised)
    }
}

/// The name of a value's type as the standard library's encoder has it: with its module where it is written in C.
fn name_in_c(value: &Bound<'_, PyAny>) -> String {
    // SAFETY: every type has a name that ends with a zero and lives as long as the type.
    unsafe { CStr::from_ptr((*ffi::Py_TYPE(value.as_ptr())).tp_name) }.to_string_lossy().into_owned()
}

/// A float's value, whatever its class makes of it.
fn float_of(float: &Bound<'_, PyFloat>) -> f64 {
    // SAFETY: a float or of a subclass, and alive.
    unsafe { ffi::PyFloat_AS_DOUBLE(float.as_ptr()) }
}
