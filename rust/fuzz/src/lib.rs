//! What the targets share that need an interpreter.

use pyo3::ffi::c_str;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The reference: the standard library's `json`, under the rules that events are decoded by (spec runtime-api 4.6).
/// A value is its `repr`, which tells 1 from 1.0 and True, and 0.0 from -0.0.
const REFERENCE: &std::ffi::CStr = c_str!(
    r#"
import json, sys

def no_constant(name):
    raise ValueError(name)

def loads(body):
    text = body.decode("utf-8")
    # simplejson skips a byte order mark, also one that was encoded twice.
    for mark in ("\ufeff", "\xef\xbb\xbf"):
        if text.startswith(mark):
            text = text[len(mark):]
            break
    return json.loads(text, parse_constant=no_constant)

def verdict(decode, body):
    try:
        return repr(decode(body))
    except (ValueError, RecursionError):
        return "refused"

def round_trip(value):
    return repr(json.loads(json.dumps(value)))

def read_back(document):
    return repr(json.loads(document.decode("utf-8")))
"#
);

/// Start the interpreter, once, and call `work` with the functions of the reference.
pub fn with_reference<T>(work: impl FnOnce(&Bound<'_, PyModule>) -> PyResult<T>) -> T {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    Python::initialize();
    Python::attach(|py| {
        let module = MODULE
            .get_or_try_init(py, || {
                // The decoder's second half is Python.
                let package = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python");
                py.import("sys")?.getattr("path")?.call_method1("insert", (0, package))?;
                PyModule::from_code(py, REFERENCE, c_str!("reference.py"), c_str!("reference"))
                    .map(Bound::unbind)
            })
            .expect("the interpreter starts");
        work(module.bind(py)).unwrap_or_else(|error| {
            error.print(py);
            panic!("{error}");
        })
    })
}
