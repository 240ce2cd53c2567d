//! External extensions: a thread that waits for events, a receiver of telemetry, and the main thread that waits for both.
//!
//! Only the main thread meets Python. What the other two get is left for it in an inbox, whose descriptor wakes it.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use caloric_core::telemetry_receiver::{Limits, Received, TelemetryReceiver, without_signals};
use caloric_core::{EventType, ExtensionClient as Client, ExtensionError, Poll, Subscribed, TcpConnector};
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::errors::extension_api_error;
use crate::wait::{SignalWait, without_gil};
use crate::{decode, encode};

type TcpClient = Client<TcpConnector>;

/// An external extension's conversation with the platform. See `_rust.pyi`.
#[pyclass(frozen, module = "caloric._rust")]
pub struct ExtensionClient {
    address: String,
    user_agent: String,
    /// Registered; for what is said while another connection waits for an event.
    talking: Mutex<Option<TcpClient>>,
    shared: Arc<Shared>,
    receiver: Mutex<Option<TelemetryReceiver>>,
}

/// Where the threads meet.
struct Shared {
    polling: Mutex<Polling>,
    /// An event is wanted.
    wanted: Condvar,
    /// Something has come.
    arrived: EventDescriptor,
}

#[derive(Default)]
enum Polling {
    #[default]
    Idle,
    Wanted,
    UnderWay,
    Done(Result<Vec<u8>, ExtensionError>),
}

/// What `wait` returns: the kind, and what came.
type Found<'py> = (&'static str, Bound<'py, PyAny>);

#[pymethods]
impl ExtensionClient {
    #[new]
    #[pyo3(signature = (address, user_agent))]
    fn new(address: String, user_agent: String) -> PyResult<Self> {
        let shared =
            Shared { polling: Mutex::default(), wanted: Condvar::new(), arrived: EventDescriptor::new()? };
        Ok(Self {
            address,
            user_agent,
            talking: Mutex::default(),
            shared: Arc::new(shared),
            receiver: Mutex::default(),
        })
    }

    /// Register under `name` for these events.
    #[pyo3(signature = (name, events))]
    fn register<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        events: Vec<String>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let events: Vec<EventType> = events.into_iter().map(|event| event.as_str().into()).collect();
        let client = waiting(py, |wait| {
            Client::register(TcpConnector::new(&self.address), &self.user_agent, name, &events, true, wait)
        })?;
        let function = PyDict::new(py);
        let registration = client.registration();
        function.set_item(intern!(py, "function_name"), &registration.function_name)?;
        function.set_item(intern!(py, "function_version"), &registration.function_version)?;
        function.set_item(intern!(py, "handler"), &registration.handler)?;
        function.set_item(intern!(py, "account_id"), &registration.account_id)?;
        *lock(&self.talking) = Some(client.beside(TcpConnector::new(&self.address)));
        Poller::start(client, Arc::clone(&self.shared))?;
        Ok(function)
    }

    /// Receive telemetry on a port of `host`, this one if it is free, and return the port.
    #[pyo3(signature = (host, preferred_port))]
    fn listen(&self, host: IpAddr, preferred_port: u16) -> PyResult<u16> {
        let start = |port| {
            let shared = Arc::clone(&self.shared);
            let address = SocketAddr::new(host, port);
            TelemetryReceiver::start(address, Limits::default(), move || shared.arrived.signal())
        };
        let receiver = start(preferred_port).or_else(|_| start(0))?;
        let port = receiver.port();
        *lock(&self.receiver) = Some(receiver);
        Ok(port)
    }

    /// Subscribe to telemetry. Returns None, or why there is none here.
    #[pyo3(signature = (subscription))]
    fn subscribe(&self, py: Python<'_>, subscription: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
        let mut body = Vec::new();
        encode::encode(py, subscription, &mut body)?;
        match self.talk(py, |client, wait| client.subscribe_telemetry(&body, wait))? {
            Subscribed::Yes => Ok(None),
            Subscribed::NotSupported(refusal) => Ok(Some(refusal.to_string())),
        }
    }

    /// Ask for the next event; `wait` will return it.
    fn poll(&self) -> PyResult<()> {
        if lock(&self.talking).is_none() {
            return Err(not_registered());
        }
        let mut polling = lock(&self.shared.polling);
        if !matches!(*polling, Polling::Idle) {
            return Err(PyRuntimeError::new_err("an event is asked for already"));
        }
        *polling = Polling::Wanted;
        drop(polling);
        self.shared.wanted.notify_one();
        Ok(())
    }

    /// Wait for an event or telemetry, without the GIL. None: the time has passed.
    #[pyo3(signature = (timeout_s = None))]
    fn wait<'py>(&self, py: Python<'py>, timeout_s: Option<f64>) -> PyResult<Option<Found<'py>>> {
        let until = timeout_s
            .and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok())
            .and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            // Before looking, so that what comes afterwards is noticed.
            self.shared.arrived.clear();
            if let Some(found) = self.take(py)? {
                return Ok(Some(found));
            }
            let mut wait = SignalWait::begin(py)?;
            let in_time = py.detach(|| wait.wait_until(&self.shared.arrived, until));
            match in_time {
                Ok(true) => {}
                // Something may have come with the last moment.
                Ok(false) => {
                    drop(wait);
                    return self.take(py);
                }
                Err(_) => {
                    let raised = wait.into_raised();
                    return Err(raised.unwrap_or_else(|| PyRuntimeError::new_err("the wait was interrupted")));
                }
            }
        }
    }

    /// How much telemetry `wait` can return at once.
    #[getter]
    fn waiting(&self) -> usize {
        lock(&self.receiver).as_ref().map_or(0, TelemetryReceiver::waiting)
    }

    /// Report a failure before the first poll.
    #[pyo3(signature = (error_type, body))]
    fn init_error(&self, py: Python<'_>, error_type: &str, body: &[u8]) -> PyResult<()> {
        self.talk(py, |client, wait| client.post_init_error(error_type, body, wait))
    }

    /// Report a later failure.
    #[pyo3(signature = (error_type, body))]
    fn exit_error(&self, py: Python<'_>, error_type: &str, body: &[u8]) -> PyResult<()> {
        self.talk(py, |client, wait| client.post_exit_error(error_type, body, wait))
    }
}

impl ExtensionClient {
    /// Call the platform without the GIL; signal handlers run meanwhile.
    fn talk<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut TcpClient, &mut SignalWait) -> Result<T, ExtensionError> + Send,
    ) -> PyResult<T> {
        let mut talking = lock(&self.talking);
        let client = talking.as_mut().ok_or_else(not_registered)?;
        waiting(py, |wait| call(client, wait))
    }

    /// What has come first: events before telemetry.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Found<'py>>> {
        if let Some(outcome) = take_outcome(&mut lock(&self.shared.polling)) {
            let body = outcome.map_err(|error| extension_api_error(&error))?;
            return Ok(Some(("event", decode::decode(py, &body)?)));
        }
        let received = lock(&self.receiver).as_ref().and_then(TelemetryReceiver::take);
        Ok(match received {
            None => None,
            Some(Received::Refused(reason)) => Some(("refused", reason.into_pyobject(py)?.into_any())),
            Some(Received::Batch(batch)) => Some(match records(py, &batch)? {
                Ok(records) => ("telemetry", records),
                Err(reason) => ("refused", reason.into_pyobject(py)?.into_any()),
            }),
        })
    }
}

/// The thread that waits for events. It never takes the GIL, and lives as long as the process.
struct Poller;

impl Poller {
    fn start(mut client: TcpClient, shared: Arc<Shared>) -> PyResult<()> {
        let run = move || {
            loop {
                let mut polling = lock(&shared.polling);
                while !matches!(*polling, Polling::Wanted) {
                    polling = shared.wanted.wait(polling).unwrap_or_else(PoisonError::into_inner);
                }
                *polling = Polling::UnderWay;
                drop(polling);
                let outcome = client.next_event(&mut Poll).map(|_| client.event().to_vec());
                *lock(&shared.polling) = Polling::Done(outcome);
                shared.arrived.signal();
            }
        };
        without_signals(|| thread::Builder::new().name("extension".to_owned()).spawn(run))?;
        Ok(())
    }
}

/// What the thread got, once.
fn take_outcome(polling: &mut Polling) -> Option<Result<Vec<u8>, ExtensionError>> {
    match std::mem::take(polling) {
        Polling::Done(outcome) => Some(outcome),
        other => {
            *polling = other;
            None
        }
    }
}

/// The records of a batch, or why it has none.
fn records<'py>(py: Python<'py>, batch: &[u8]) -> PyResult<Result<Bound<'py, PyAny>, String>> {
    let document = match decode::decode(py, batch) {
        Ok(document) => document,
        Err(error) if error.is_instance_of::<PyException>(py) => {
            return Ok(Err(format!("a batch of {} bytes is not JSON: {}", batch.len(), error.value(py))));
        }
        Err(error) => return Err(error),
    };
    let all_objects = document
        .cast::<PyList>()
        .is_ok_and(|records| records.iter().all(|record| record.is_instance_of::<PyDict>()));
    Ok(if all_objects {
        Ok(document)
    } else {
        Err(format!("a batch of {} bytes is no array of objects", batch.len()))
    })
}

fn not_registered() -> PyErr {
    PyRuntimeError::new_err("the extension is not registered")
}

/// Talk to the platform without the GIL; signal handlers run meanwhile.
fn waiting<T: Send>(
    py: Python<'_>,
    talk: impl FnOnce(&mut SignalWait) -> Result<T, ExtensionError> + Send,
) -> PyResult<T> {
    without_gil(py, talk, extension_api_error)
}

/// A descriptor that is readable from `signal` to `clear`.
struct EventDescriptor(OwnedFd);

impl EventDescriptor {
    fn new() -> io::Result<Self> {
        // SAFETY: the descriptor is a new one, or -1.
        unsafe {
            match libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) {
                -1 => Err(io::Error::last_os_error()),
                descriptor => Ok(Self(OwnedFd::from_raw_fd(descriptor))),
            }
        }
    }

    fn signal(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: eight bytes of valid memory. It fails only when the counter is full, which is as good.
        unsafe { libc::write(self.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn clear(&self) {
        let mut count = [0_u8; 8];
        // SAFETY: eight bytes of valid memory. It fails when there is nothing to clear.
        unsafe { libc::read(self.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsRawFd for EventDescriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
