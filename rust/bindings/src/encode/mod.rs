//! Results to JSON: what handlers return, as compact UTF-8.
//!
//! The peer (awslambdaric with simplejson) decides what can be encoded and what each value becomes; see
//! `encode/other.rs` for its order of checks. The way through the containers is in `encode/walk.rs`.

#![allow(clippy::inline_always, reason = "measured: calls inside the loops over items cost a tenth and more")]

mod number;
mod other;
mod output;
mod record;
mod text;
mod walk;

use std::cell::Cell;

use pyo3::PyTypeInfo;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use number::{LONGEST_NUMBER, put_float, put_integer};
use output::Output;
use text::{Characters, put_short_string, put_string};
use walk::Open;

pub use record::encode_log_record;

/// Room for a separator, a number or a constant, and a bracket or two.
const SHORT: usize = LONGEST_NUMBER + 8;

/// The most memory that is kept between calls of `encode_json`: twice what doubling makes of the largest
/// result.
const MAX_SPARE: usize = 16 << 20;

/// Append `value` as JSON to `out`, behind whatever `out` holds; on failure `out` is left as it was.
///
/// Fails with what the peer fails with and the peer's words, for the caller to wrap: `TypeError` for a value
/// or a key that JSON has no form for, `ValueError` for a container that contains itself or an integer with
/// more digits than `sys.get_int_max_str_digits()`, `RecursionError` beyond `MAX_DEPTH` levels,
/// `RuntimeError` for a dict that changes while it is written, and whatever Python code raises that runs on
/// the way (`_asdict`, `items`, `__int__`).
pub fn encode(py: Python<'_>, value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    encode_by(Rules::Result { default: None }, py, value, out)
}

fn encode_by<'a, 'py>(
    rules: Rules<'a, 'py>,
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
    out: &'a mut Vec<u8>,
) -> PyResult<()> {
    let mut encoder = Encoder { py, rules, out: Output::new(out), open: Vec::new() };
    match encoder.walk(value) {
        Ok(()) => {
            encoder.out.finish();
            Ok(())
        }
        Err(Raised) => Err(PyErr::fetch(py)),
    }
}

/// Encode `value` as JSON. See `_rust.pyi`.
#[pyfunction]
#[pyo3(signature = (value, *, default=None))]
pub fn encode_json<'py>(
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
    default: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    thread_local! {
        // Memory fresh from the system costs more than what is written to it, so the last call's is used
        // again.
        static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut out = SPARE.take();
    let result = encode_by(Rules::Result { default }, py, value, &mut out).map(|()| PyBytes::new(py, &out));
    if out.capacity() <= MAX_SPARE {
        out.clear();
        SPARE.set(out);
    }
    result
}

/// A Python exception is set in the interpreter. One bit to hand on, where `PyErr` would be several words.
#[derive(Debug)]
struct Raised;

impl Raised {
    /// Raise `E`.
    #[cold]
    fn new<E: PyTypeInfo, A: pyo3::PyErrArguments + Send + Sync + 'static>(arguments: A) -> Self {
        // Everything in this module runs attached to the interpreter.
        Python::attach(|py| PyErr::new::<E, A>(arguments).restore(py));
        Self
    }

    /// Raise an exception that pyo3 has already fetched.
    #[cold]
    fn from(py: Python<'_>, error: PyErr) -> Self {
        error.restore(py);
        Self
    }
}

/// What becomes of values and keys that are not of JSON's own types.
#[derive(Clone, Copy)]
enum Rules<'a, 'py> {
    /// A handler's result, see `other.rs`; `default` is called for a value of a type that is not known there, and what
    /// it returns is written.
    Result { default: Option<&'a Bound<'py, PyAny>> },
    /// A log record, see `record.rs`.
    Record,
}

struct Encoder<'py, 'out> {
    py: Python<'py>,
    rules: Rules<'out, 'py>,
    out: Output<'out>,
    /// The containers around the one that is being written, outermost first.
    open: Vec<Open<'py>>,
}

impl<'py> Encoder<'py, '_> {
    /// Write the value if it is of one of the types that are most common and that no Python code can
    /// interfere with; otherwise return false.
    ///
    /// # Safety
    /// `value` is alive; nothing here runs Python code, so a reference borrowed from a container will do.
    /// `SHORT` bytes are reserved, of which one may have been used.
    #[inline(always)]
    unsafe fn put_simple(&mut self, value: *mut ffi::PyObject) -> Result<bool, Raised> {
        // SAFETY: the caller vouches for `value` and for the room; each call is for the type that was just
        // compared.
        unsafe {
            let kind = ffi::Py_TYPE(value);
            if kind == &raw mut ffi::PyUnicode_Type {
                self.put_string(value)?;
            } else if kind == &raw mut ffi::PyLong_Type {
                let mut overflow = 0;
                let integer = ffi::PyLong_AsLongLongAndOverflow(value, &raw mut overflow);
                if overflow == 0 {
                    put_integer(&mut self.out, integer);
                } else {
                    self.put_long_integer(value)?;
                }
            } else if kind == &raw mut ffi::PyBool_Type {
                if value == ffi::Py_True() {
                    self.out.put_all(b"true");
                } else {
                    self.out.put_all(b"false");
                }
            } else if value == ffi::Py_None() {
                self.out.put_all(b"null");
            } else if kind == &raw mut ffi::PyFloat_Type {
                put_float(&mut self.out, ffi::PyFloat_AS_DOUBLE(value));
            } else {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Write a str in quotes, and leave `SHORT` bytes of room.
    ///
    /// # Safety
    /// `string` is a str or of a subclass, and alive.
    #[inline(always)]
    #[allow(deprecated, reason = "since 3.14 there is no need to ask whether it is ready")]
    unsafe fn put_string(&mut self, string: *mut ffi::PyObject) -> Result<(), Raised> {
        // SAFETY: the caller vouches for the type; a str never changes, and no Python code runs while its
        // characters are borrowed. CPython stores them in one of three widths, aligned for it. Before CPython
        // 3.12 a str made by an old C extension may not be in that form yet; asking for its length puts it
        // there.
        unsafe {
            if ffi::PyUnicode_IS_READY(string) == 0 && ffi::PyUnicode_GetLength(string) < 0 {
                return Err(Raised);
            }
            let length = ffi::PyUnicode_GET_LENGTH(string).cast_unsigned();
            let start = ffi::PyUnicode_DATA(string);
            // Where the characters are not elsewhere, they come before any field that could point elsewhere.
            let has_head = start.addr().wrapping_sub(string.addr()) < size_of::<ffi::PyUnicodeObject>();
            match ffi::PyUnicode_KIND(string) {
                ffi::PyUnicode_1BYTE_KIND => put_short_string(
                    &mut self.out,
                    Characters { start: start.cast::<u8>(), length, has_head },
                ),
                ffi::PyUnicode_2BYTE_KIND => {
                    put_string(&mut self.out, Characters { start: start.cast::<u16>(), length, has_head })
                }
                _ => put_string(&mut self.out, Characters { start: start.cast::<u32>(), length, has_head }),
            }
        }
    }

    /// Write an integer that 64 bits do not hold.
    ///
    /// # Safety
    /// `integer` is an exact int, and alive.
    #[cold]
    unsafe fn put_long_integer(&mut self, integer: *mut ffi::PyObject) -> Result<(), Raised> {
        // SAFETY: the caller vouches for `integer`; its `str()` runs no Python code.
        let digits = unsafe { Bound::from_owned_ptr_or_opt(self.py, ffi::PyObject_Str(integer)) };
        self.put_text(digits.ok_or(Raised)?)
    }

    /// Write the text of a str as it is, without quotes.
    fn put_text(&mut self, text: Bound<'py, PyAny>) -> Result<(), Raised> {
        let text = text.cast_into::<PyString>().map_err(|error| Raised::from(self.py, error.into()))?;
        let text = text.to_str().map_err(|error| Raised::from(self.py, error))?;
        self.out.extend(text.as_bytes())
    }
}
