//! What the worker processes of Managed Instances need of the system and of the configuration, for `caloric.workers`.

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::config::{self, Config};

/// Whether the handler is imported once, before the fork.
#[pyfunction]
pub fn prefork_import() -> bool {
    Config::from_environment().prefork_import
}

/// What `CALORIC_CONCURRENCY` asks for, if it does. Raises `ValueError` where that is none of the three.
#[pyfunction]
pub fn concurrency() -> PyResult<Option<&'static str>> {
    config::concurrency().map_err(|value| {
        PyValueError::new_err(format!(
            "CALORIC_CONCURRENCY is {:?}: it takes task, thread or process, or is left out for tasks where the handler is \
             async, and processes where it is not",
            value.to_string_lossy()
        ))
    })
}

/// Have the kernel kill this process when `parent` ends, even by SIGKILL. Raises `SystemExit` if it has ended already.
///
/// The signal follows the thread that forked; that was the parent's main thread, which ends with its process.
#[pyfunction]
#[pyo3(signature = (parent))]
pub fn end_with_parent(parent: i32) -> PyResult<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(PyOSError::new_err(std::io::Error::last_os_error()));
    }
    // SAFETY: getppid cannot fail.
    if unsafe { libc::getppid() } == parent {
        Ok(())
    } else {
        // It ended between the fork and the line above, so the signal would never come.
        Err(pyo3::exceptions::PySystemExit::new_err(1))
    }
}
