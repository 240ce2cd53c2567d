//! The process environment as Python sees it.
//!
//! `os.environ` is a view of the dictionary `posix.environ`, so what is written there is seen by user code, and needs no
//! `import os`, which would cost a tenth of the whole start.

use std::ffi::c_char;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};

/// `posix.environ`.
pub fn variables(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static VARIABLES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let variables = VARIABLES.get_or_try_init(py, || {
        let environ = py.import(intern!(py, "posix"))?.getattr(intern!(py, "environ"))?;
        PyResult::Ok(environ.cast_into::<PyDict>()?.unbind())
    })?;
    Ok(variables.bind(py))
}

/// A variable that changes at every invocation.
///
/// `setenv`, which `os.putenv` calls, keeps every value that it was ever given, so it would leak and grow slower. The C
/// environment is pointed to memory of our own instead. There are two pieces of it, used in turn: what other code got
/// from `getenv` stays as it was until the invocation after the next.
pub struct ChangingVariable {
    name: &'static str,
    entries: [Vec<u8>; 2],
    turn: usize,
}

impl ChangingVariable {
    /// `name` must have no `=` in it. Nothing is set yet.
    pub fn new(name: &'static str) -> Self {
        Self { name, entries: [Vec::new(), Vec::new()], turn: 0 }
    }

    /// Set the variable, or remove it, for Python and for C. A value is cut at its first NUL.
    pub fn set(&mut self, py: Python<'_>, value: Option<&str>) -> PyResult<()> {
        let variables = variables(py)?;
        let name = PyBytes::new(py, self.name.as_bytes());
        if let Some(value) = value {
            let value = value.split('\0').next().unwrap_or_default();
            variables.set_item(name, PyBytes::new(py, value.as_bytes()))?;
            self.put(value);
        } else if variables.contains(&name)? {
            py.import(intern!(py, "posix"))?.call_method1(intern!(py, "unsetenv"), (&name,))?;
            variables.del_item(name)?;
        }
        Ok(())
    }

    fn put(&mut self, value: &str) {
        self.turn ^= 1;
        let entry = &mut self.entries[self.turn];
        let needed = self.name.len() + value.len() + 2;
        if entry.capacity() < needed {
            // Somebody may still hold a pointer into the old memory, so it stays. Trace headers are of nearly the same
            // length, so this happens once or twice.
            std::mem::forget(std::mem::replace(
                entry,
                Vec::with_capacity(needed.next_power_of_two().max(256)),
            ));
        }
        entry.clear();
        entry.extend_from_slice(self.name.as_bytes());
        entry.push(b'=');
        entry.extend_from_slice(value.as_bytes());
        entry.push(0);
        // SAFETY: the entry is NUL-terminated and is neither moved nor freed while the environment may point to it: its
        // capacity suffices, and `drop` forgets it. putenv takes a pointer to mutable memory but does not write to it.
        unsafe { libc::putenv(entry.as_mut_ptr().cast::<c_char>()) };
    }
}

impl Drop for ChangingVariable {
    fn drop(&mut self) {
        // The environment, and whoever called getenv, may still point into them.
        for entry in &mut self.entries {
            std::mem::forget(std::mem::take(entry));
        }
    }
}
