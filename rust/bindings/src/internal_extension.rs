//! The extension inside the runtime's process, there so that the platform ends it with SIGTERM and time to clean up: where
//! none is registered it sends SIGKILL at once (spec extensions-telemetry 3.4).

use caloric_core::telemetry_receiver::without_signals;
use caloric_core::{ExtensionClient, ExtensionError, Poll, TcpConnector};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::errors::extension_api_error;
use crate::shutdown;
use crate::wait::SignalWait;

/// Register for no event. The platform wants one poll all the same, which it never answers: a thread waits for that, and
/// takes neither the GIL nor a signal.
///
/// `false`: the platform has no Extensions API. Raises `RuntimeApiError` when it refuses or the conversation fails, and
/// what a signal handler raises meanwhile.
pub fn register(py: Python<'_>, address: &str, user_agent: &str, name: &str) -> PyResult<bool> {
    let mut wait = SignalWait::begin(py)?;
    let registered = py.detach(|| {
        let connector = TcpConnector::new(address);
        ExtensionClient::register(connector, user_agent, name, &[], false, &mut wait)
    });
    if let Some(raised) = wait.into_raised() {
        return Err(raised);
    }
    let mut client = match registered {
        Ok(client) => client,
        Err(ExtensionError::Disabled { .. }) => return Ok(false),
        Err(error) => return Err(extension_api_error(&error)),
    };
    let poll = move || {
        loop {
            // An event that nobody asked for is done with at once.
            if let Err(error) = client.next_event(&mut Poll) {
                if !shutdown::has_begun() {
                    shutdown::say(&format!(
                        "{error}; without its internal extension this process may be killed before its on_shutdown \
                         hooks have run"
                    ));
                }
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("extension".to_owned()).stack_size(64 * 1024);
    without_signals(|| thread.spawn(poll)).map_err(PyOSError::new_err)?;
    Ok(true)
}
