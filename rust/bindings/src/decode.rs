//! Events from JSON: Python objects straight from the receive buffer.

use jiter::{PythonParse, StringCacheMode};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Events from this size on, in bytes, repeat their keys often enough for a cache.
const CACHE_FROM: usize = 1024;

/// Return the Python object that the JSON document `body` describes.
///
/// jiter does the work. What it refuses is read once more by the standard library under the peer's rules,
/// because some of it the peer accepts (a byte order mark, lone surrogates, nesting beyond 200 levels) and
/// the rest needs an error that says where.
///
/// Fails with the exception whose text is the reason: `json.JSONDecodeError` or `UnicodeDecodeError` (both
/// are `ValueError`), or `RecursionError`.
pub fn decode<'py>(py: Python<'py>, body: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // The cache keeps keys only. Values seldom repeat from event to event, and may be secrets. It takes a
    // quarter of a megabyte when it is first used, which small events do not earn back.
    let cache_mode = if body.len() < CACHE_FROM { StringCacheMode::None } else { StringCacheMode::Keys };
    let parser = PythonParse { cache_mode, ..PythonParse::default() };
    let parsed = {
        let _pause = GarbageCollectionPause::start(py);
        parser.python_parse(py, body)
    };
    parsed.or_else(|_| {
        py.import(intern!(py, "caloric._json_fallback"))?
            .call_method1(intern!(py, "decode"), (PyBytes::new(py, body),))
    })
}

/// Return the Python object that the JSON text of a header describes, as `json.loads` has it: the peer reads
/// headers with that, and events with another parser. So `NaN` and the infinities are numbers here.
pub fn decode_header<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    let parser = PythonParse { allow_inf_nan: true, ..PythonParse::default() };
    parser
        .python_parse(py, text.as_bytes())
        .or_else(|_| py.import(intern!(py, "json"))?.call_method1(intern!(py, "loads"), (text,)))
}

/// Decode a JSON document. See `_rust.pyi`.
#[pyfunction]
pub fn decode_json<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    decode(py, data)
}

/// While it lives, no garbage is collected: what a parser builds is all alive, and looking through it again
/// and again takes a tenth of the time for a body of megabytes. A collection that a user turned off stays
/// off.
struct GarbageCollectionPause<'py> {
    was_enabled: bool,
    _attached: Python<'py>,
}

impl<'py> GarbageCollectionPause<'py> {
    fn start(py: Python<'py>) -> Self {
        // SAFETY: attached to the interpreter.
        Self { was_enabled: unsafe { ffi::PyGC_Disable() } != 0, _attached: py }
    }
}

impl Drop for GarbageCollectionPause<'_> {
    fn drop(&mut self) {
        if self.was_enabled {
            // SAFETY: still attached to the interpreter.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}
