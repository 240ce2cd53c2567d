//! `caloric._rust`: the one module in which Rust meets Python. Each file converts arguments, calls the crate
//! that does the work, and converts the result.

use pyo3::prelude::*;

mod arguments;
mod config;
// Public for the fuzz targets.
pub mod decode;
pub mod encode;
#[cfg(feature = "endpoint")]
mod endpoint;
mod environ;
mod errors;
mod extension;
mod internal_extension;
mod persistence;
mod runtime;
mod search_path;
#[cfg(feature = "endpoint")]
mod service_front;
mod shutdown;
mod slots;
mod stop;
mod wait;
mod workers;

/// The extension module. On a free-threaded interpreter importing it turns the GIL on: the encoder borrows what containers
/// hold, which another thread could free otherwise. pyo3 would declare the opposite by default.
#[pymodule(gil_used = true)]
mod _rust {
    use pyo3::exceptions::PyAttributeError;
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::decode::decode_json;
    #[pymodule_export]
    use super::encode::encode_json;
    #[pymodule_export]
    use super::encode::encode_log_record;
    #[pymodule_export]
    use super::runtime::RuntimeClient;
    #[pymodule_export]
    use super::search_path::configure_search_path;
    #[pymodule_export]
    use super::workers::{concurrency, end_with_parent, prefork_import};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }

    /// Make the classes of extensions and of the endpoint, and what only some functions use, when the first of them is
    /// asked for: a runtime rarely does, and its start is short enough for the making of six classes to show.
    #[pyfunction]
    #[pyo3(pass_module)]
    fn __getattr__<'py>(module: &Bound<'py, PyModule>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        const ENDPOINT: [&str; 10] = [
            "EnvironmentPool",
            "EnvironmentSupply",
            "ExecutionEnvironment",
            "FunctionPool",
            "HttpFront",
            "InvokeResult",
            "InvokeStream",
            "ServiceFront",
            "VirtualClock",
            "WantedEnvironment",
        ];
        const SHUTDOWN: [&str; 3] = ["begin_shutdown", "remaining_shutdown_ms", "watch_sigterm"];
        const SEVERAL_AT_ONCE: [&str; 3] = ["InvocationSlots", "SlotInvocation", "wait_readable"];
        let mut reason = "";
        if name == "ExtensionClient" {
            let class = module.py().get_type::<super::extension::ExtensionClient>();
            module.add(name, &class)?;
            return Ok(class.into_any());
        }
        if SEVERAL_AT_ONCE.contains(&name) {
            super::slots::register(module)?;
            return module.getattr(name);
        }
        if SHUTDOWN.contains(&name) {
            super::shutdown::register(module)?;
            return module.getattr(name);
        }
        if ENDPOINT.contains(&name) {
            super::register_endpoint(module)?;
            if let Some(class) = module.dict().get_item(name)? {
                return Ok(class);
            }
            reason = ": this build is for Lambda and comes without the endpoint";
        }
        Err(PyAttributeError::new_err(format!("module 'caloric._rust' has no attribute '{name}'{reason}")))
    }
}

#[cfg(feature = "endpoint")]
use endpoint::register as register_endpoint;

#[cfg(not(feature = "endpoint"))]
#[expect(clippy::unnecessary_wraps, reason = "the other one can fail")]
fn register_endpoint(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
