//! The polling loop: next, decode, call the handler, encode, answer.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use caloric_core::{
    Answer, AnswerKind, Call, Client, Error, Flow, Invocation, Posted, StreamError, StreamHead, TcpConnector,
};
use pyo3::exceptions::{PyBaseException, PyException, PyOSError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::arguments::{self, Fault};
use crate::config::Config;
use crate::environ::ChangingVariable;
use crate::errors::runtime_api_error;
use crate::persistence::Persistence;
use crate::slots::InvocationSlots;
use crate::stop::Stop;
use crate::wait::{SignalWait, without_gil};
use crate::{encode, internal_extension, shutdown};

/// Memory for an encoded result that is kept between invocations; more is given back.
const KEEP_CAPACITY: usize = 256 * 1024;

/// Answers from this size on, in bytes, are begun to be sent before the objects they were made of are freed. For
/// smaller ones the detour costs more than it saves.
const BEGIN_FROM: usize = 4 * 1024;

/// A connection to the Runtime API and the loop over it.
#[pyclass(frozen, module = "caloric._rust")]
pub struct RuntimeClient {
    connection: Mutex<Connection>,
    current: Mutex<Current>,
    /// `run` is at work. While it calls the handler the connection is free, for streams.
    running: AtomicBool,
    /// [`duty::HAND_OVER`], now and then.
    duties: AtomicU8,
    /// What the clients of all threads have in common, where there are several.
    shared: Arc<Shared>,
}

struct Shared {
    /// What every invocation takes besides the handler: bits of [`duty`], none of them as a rule.
    duties: AtomicU8,
    hooks: Mutex<Hooks>,
    /// Of the Extensions API too.
    address: String,
    user_agent: String,
    persistence: Persistence,
    concurrency: OnceLock<Concurrency>,
}

/// Where one process serves several invocations at once. What belongs to one of them is then found through the context of
/// who asks, and not in the environment.
struct Concurrency {
    /// A `ContextVar` for (request id, tenant id, trace id).
    ids: Py<PyAny>,
    /// `(context, client)`: by which client an invocation is answered.
    note_context: Py<PyAny>,
    stop: Stop,
}

/// What an invocation may take besides the handler.
mod duty {
    /// Somebody else goes on after the handler call that is under way.
    pub const HAND_OVER: u8 = 1;
    /// `Hooks::before_invoke` is there.
    pub const BEFORE_INVOKE: u8 = 2;
    /// `Hooks::after_invoke` is there.
    pub const AFTER_INVOKE: u8 = 4;
    /// `Hooks::keep_sigterm` is there.
    pub const KEEP_SIGTERM: u8 = 8;
}

/// What `caloric.lifecycle` and `caloric.shutdown` want to be called.
#[derive(Default)]
struct Hooks {
    /// `(event, context)`
    before_invoke: Option<Py<PyAny>>,
    /// `(event, context, result, error, request_id)`; returns what is to be raised when the answer has been posted.
    after_invoke: Option<Py<PyAny>>,
    /// `()`, where user code has set another handler for SIGTERM.
    keep_sigterm: Option<Py<PyAny>>,
}

struct Connection {
    client: Client<TcpConnector>,
    trace_id: ChangingVariable,
}

/// The ids that log records carry, and what an answer has to name; `None` before the first invocation.
#[derive(Default)]
struct Current {
    request_id: Option<Py<PyString>>,
    tenant_id: Option<Py<PyString>>,
    invocation_id: Option<String>,
    /// While it is served.
    deadline_ms: Option<u64>,
}

/// What `RuntimeClient.run` returns: request id, invocation id, the handler's result or exception, and what it was called
/// with, if it was.
type Unanswered<'py> = (
    Bound<'py, PyString>,
    Option<Bound<'py, PyString>>,
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyAny>>,
    Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
);

/// An invocation's answer, on its way.
struct Outgoing {
    request_id: String,
    invocation_id: Option<String>,
    content: Content,
}

enum Content {
    /// A result in the loop's own buffer.
    Encoded,
    /// Bytes that the handler returned.
    Bytes(Py<PyBytes>),
    Error(ErrorReport),
}

/// What `caloric.error_report` makes of an error.
#[derive(FromPyObject)]
struct ErrorReport {
    body: Vec<u8>,
    error_type: String,
    xray_cause: String,
}

#[pymethods]
impl RuntimeClient {
    /// A client that is not connected yet.
    #[new]
    #[pyo3(signature = (address, user_agent, *, worker = false))]
    fn new(address: &str, user_agent: &str, worker: bool) -> Self {
        Self::over(Arc::new(Shared {
            duties: AtomicU8::new(0),
            hooks: Mutex::default(),
            address: address.to_owned(),
            user_agent: user_agent.to_owned(),
            persistence: Persistence { worker, warn },
            concurrency: OnceLock::new(),
        }))
    }

    /// Another client of the same runtime, with a connection of its own and the same hooks.
    fn sibling(&self) -> Self {
        Self::over(self.shared.clone())
    }

    /// So many connections that are served by an event loop. To be called in its thread.
    #[pyo3(signature = (count))]
    fn slots(&self, count: usize) -> PyResult<InvocationSlots> {
        InvocationSlots::new(&self.shared.address, &self.shared.user_agent, count)
    }

    /// Keep ids in a `ContextVar` and not in the environment, and tell `note_context(context, client)` of each context:
    /// several invocations are served at once.
    #[pyo3(signature = (ids, note_context))]
    fn use_context(&self, ids: Py<PyAny>, note_context: Py<PyAny>) -> PyResult<()> {
        let stop = Stop::new().map_err(PyOSError::new_err)?;
        // Only the first call counts, and there is only one.
        drop(self.shared.concurrency.set(Concurrency { ids, note_context, stop }));
        Ok(())
    }

    /// After `use_context`: let no client ask for another invocation, and have `run` raise `RuntimeApiError` where it waits
    /// for one.
    fn stop(&self) {
        if let Some(concurrency) = self.shared.concurrency.get() {
            concurrency.stop.give();
        }
    }

    /// Id of the invocation at hand, or of the last one; None before the first.
    #[getter]
    fn aws_request_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(concurrency) = self.shared.concurrency.get() {
            return concurrency.id(py, 0);
        }
        let id = lock(&self.current).request_id.as_ref().map(|id| id.bind(py).clone().into_any());
        Ok(id)
    }

    /// Its tenant id.
    #[getter]
    fn tenant_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(concurrency) = self.shared.concurrency.get() {
            return concurrency.id(py, 1);
        }
        let id = lock(&self.current).tenant_id.as_ref().map(|id| id.bind(py).clone().into_any());
        Ok(id)
    }

    /// When the invocation at hand times out, in milliseconds of Unix time; None while there is none.
    #[getter]
    fn deadline_ms(&self) -> Option<u64> {
        lock(&self.current).deadline_ms
    }

    /// What belongs to its answer beside the request id; None where the platform names no such thing.
    #[getter]
    fn invocation_id(&self) -> Option<String> {
        lock(&self.current).invocation_id.clone()
    }

    /// Report that initialisation failed. Raises `RuntimeApiError` when that was not accepted.
    #[pyo3(signature = (error_type, body))]
    fn post_initialization_error(&self, py: Python<'_>, error_type: &str, body: &[u8]) -> PyResult<()> {
        let client = &mut self.connection()?.client;
        let posted = waiting(py, |wait| client.post_initialization_error(error_type, body, wait))?;
        if self.shared.persistence.worker
            && matches!(&posted, Posted::Refused(refusal) if refusal.status == 403)
        {
            // A sibling has reported already.
            return Ok(());
        }
        accepted(Call::InitializationError, posted)
    }

    /// Wait for the restore from a snapshot. Raises `RuntimeApiError` when it does not come.
    fn restore_next(&self, py: Python<'_>) -> PyResult<()> {
        let client = &mut self.connection()?.client;
        waiting(py, |wait| client.restore_next(wait))
    }

    /// Report that a hook failed after the restore. Raises `RuntimeApiError` when that was not accepted.
    #[pyo3(signature = (error_type, body))]
    fn post_restore_error(&self, py: Python<'_>, error_type: &str, body: &[u8]) -> PyResult<()> {
        let client = &mut self.connection()?.client;
        let posted = waiting(py, |wait| client.post_restore_error(error_type, body, wait))?;
        accepted(Call::RestoreError, posted)
    }

    /// Ask for the next invocation and return at once. Raises `RuntimeApiError` when that cannot be sent.
    fn request_next(&self, py: Python<'_>) -> PyResult<()> {
        let client = &mut self.connection()?.client;
        waiting(py, |wait| client.request_next(wait))
    }

    /// Return the next invocation and make it the current one. Raises `RuntimeApiError` when there is none.
    fn next_invocation<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let Connection { client, trace_id } = &mut *self.connection()?;
        lock(&self.current).deadline_ms = None;
        let invocation = waiting(py, |wait| self.shared.persistence.poll(client, None, wait))?;
        let (request_id, tenant_id) = self.begin_invocation(py, &invocation, trace_id)?;
        let fields = PyDict::new(py);
        fields.set_item("invoke_id", request_id)?;
        fields.set_item("invocation_id", &invocation.invocation_id)?;
        fields.set_item("invoked_function_arn", &invocation.invoked_function_arn)?;
        fields.set_item("deadline_time_in_ms", arguments::deadline_ms(&invocation))?;
        fields.set_item("x_amzn_trace_id", &invocation.trace_id)?;
        fields.set_item("client_context", &invocation.client_context)?;
        fields.set_item("cognito_identity", &invocation.cognito_identity)?;
        fields.set_item("tenant_id", tenant_id)?;
        let content_type = invocation.other_content_type.as_deref();
        fields.set_item("content_type", content_type.unwrap_or("application/json"))?;
        fields.set_item("event_body", PyBytes::new(py, client.event()))?;
        client.release_event();
        Ok(fields)
    }

    /// Post an invocation's result. Raises `RuntimeApiError` when the Runtime API is gone or failed.
    #[pyo3(signature = (request_id, body, content_type, invocation_id=None))]
    fn post_invocation_response(
        &self,
        py: Python<'_>,
        request_id: &str,
        body: &[u8],
        content_type: &str,
        invocation_id: Option<&str>,
    ) -> PyResult<()> {
        let kind = AnswerKind::Response { content_type };
        self.post(py, &Answer { request_id, invocation_id, body, kind })
    }

    /// Post an invocation's error. Raises `RuntimeApiError` when the Runtime API is gone or failed.
    #[pyo3(signature = (request_id, body, error_type, xray_cause, invocation_id=None))]
    fn post_invocation_error(
        &self,
        py: Python<'_>,
        request_id: &str,
        body: &[u8],
        error_type: &str,
        xray_cause: &str,
        invocation_id: Option<&str>,
    ) -> PyResult<()> {
        let kind = AnswerKind::Error { error_type, xray_cause };
        self.post(py, &Answer { request_id, invocation_id, body, kind })
    }

    /// Begin to stream an invocation's response. Nothing is sent before the first piece.
    #[pyo3(signature = (request_id, content_type, invocation_id=None))]
    fn begin_stream(
        &self,
        request_id: &str,
        content_type: &str,
        invocation_id: Option<&str>,
    ) -> PyResult<()> {
        self.free_connection()?.client.begin_stream(&StreamHead { request_id, invocation_id, content_type });
        Ok(())
    }

    /// Send a piece of the stream; false when the platform wants no more of it. Waits while the connection is full.
    /// Raises what a signal handler raises, which breaks the stream off.
    #[pyo3(signature = (chunk))]
    fn send_chunk(&self, py: Python<'_>, chunk: &Bound<'_, PyBytes>) -> PyResult<bool> {
        let client = &mut self.free_connection()?.client;
        let chunk = chunk.as_bytes();
        Ok(waiting(py, |wait| client.send_chunk(chunk, wait))? == Flow::Open)
    }

    /// End the stream, badly if there is an `error_type`. That it was not accepted is told on stderr.
    #[pyo3(signature = (error_type=None, document=""))]
    fn end_stream(&self, py: Python<'_>, error_type: Option<&str>, document: &str) -> PyResult<()> {
        let client = &mut self.free_connection()?.client;
        let error = error_type.map(|error_type| StreamError { error_type, document });
        waiting(py, |wait| {
            let ended = client.end_stream(error.as_ref(), wait);
            self.shared.persistence.settle_stream(ended)
        })
    }

    /// Break the stream off.
    fn abandon_stream(&self) -> PyResult<()> {
        self.free_connection()?.client.abandon_stream();
        Ok(())
    }

    /// Let `run` return after the handler call that is under way, or the next one.
    fn hand_over(&self) {
        self.duties.fetch_or(duty::HAND_OVER, Ordering::Relaxed);
    }

    /// Have these called in each invocation from now on; what is None stays as it is.
    #[pyo3(signature = (*, before_invoke = None, after_invoke = None, keep_sigterm = None))]
    fn set_hooks(
        &self,
        before_invoke: Option<Py<PyAny>>,
        after_invoke: Option<Py<PyAny>>,
        keep_sigterm: Option<Py<PyAny>>,
    ) {
        let mut hooks = lock(&self.shared.hooks);
        let Hooks { before_invoke: before, after_invoke: after, keep_sigterm: keep } = &mut *hooks;
        for (hook, given, bit) in [
            (before, before_invoke, duty::BEFORE_INVOKE),
            (after, after_invoke, duty::AFTER_INVOKE),
            (keep, keep_sigterm, duty::KEEP_SIGTERM),
        ] {
            if given.is_some() {
                *hook = given;
                self.shared.duties.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// Register an internal extension for no event and keep its poll open. `false` where there is no Extensions API.
    #[pyo3(signature = (name))]
    fn register_extension(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        internal_extension::register(py, &self.shared.address, &self.shared.user_agent, name)
    }

    /// Serve invocations with `handler` until the process ends, until `hand_over` was called, or until the handler
    /// returns what is not encoded here: an iterator, something to await, an `HttpResponse`. Then return the invocation
    /// that still has to be answered, as `(request id, invocation id, result, exception, (event, context))`.
    ///
    /// Raises `RuntimeApiError` when the Runtime API is gone or failed, or whatever is no `Exception`
    /// (`SystemExit`, `KeyboardInterrupt`) from the handler or a signal handler.
    #[pyo3(signature = (handler))]
    fn run<'py>(slf: &Bound<'py, Self>, handler: &Bound<'py, PyAny>) -> PyResult<Unanswered<'py>> {
        let client = slf.get();
        drop(client.connection()?);
        client.running.store(true, Ordering::Relaxed);
        let outcome = client.serve(slf, handler);
        client.running.store(false, Ordering::Relaxed);
        outcome
    }
}

impl Concurrency {
    /// One of the ids of who asks; None where that is nobody's invocation.
    fn id<'py>(&self, py: Python<'py>, which: usize) -> PyResult<Option<Bound<'py, PyAny>>> {
        let ids = self.ids.bind(py).call_method1(intern!(py, "get"), (py.None(),))?;
        if ids.is_none() {
            return Ok(None);
        }
        let id = ids.get_item(which)?;
        Ok((!id.is_none()).then_some(id))
    }
}

impl RuntimeClient {
    fn over(shared: Arc<Shared>) -> Self {
        let mut client = Client::new(TcpConnector::new(&shared.address), &shared.user_agent);
        client.set_pipelining(Config::from_environment().pipeline);
        let connection = Connection { client, trace_id: ChangingVariable::new("_X_AMZN_TRACE_ID") };
        Self {
            connection: Mutex::new(connection),
            current: Mutex::default(),
            running: AtomicBool::new(false),
            duties: AtomicU8::new(0),
            shared,
        }
    }

    fn serve<'py>(
        &self,
        myself: &Bound<'py, Self>,
        handler: &Bound<'py, PyAny>,
    ) -> PyResult<Unanswered<'py>> {
        let py = myself.py();
        let persistence = self.shared.persistence;
        // The platform has work to do before the first event comes; so have we.
        let mut failed = None;
        let mut connection = self.free_connection()?;
        let client = &mut connection.client;
        waiting(py, |wait| match client.request_next(wait) {
            Err(error) if persistence.survives(&error) => {
                failed = Some(error);
                Ok(())
            }
            other => other,
        })?;
        let context_class =
            py.import(intern!(py, "caloric.context"))?.getattr(intern!(py, "LambdaContext"))?;
        if self.shared.concurrency.get().is_none() {
            context_class.setattr(intern!(py, "_client"), myself)?;
        }
        let mut encoded = Vec::new();
        let mut outgoing: Option<Outgoing> = None;
        // Event, context and result of an invocation, until its answer is on its way.
        let mut leftovers = Vec::with_capacity(3);
        loop {
            let Connection { client, trace_id } = &mut *connection;
            let invocation = waiting(py, |wait| {
                if let Some(outgoing) = outgoing.take() {
                    persistence.deliver(client, &outgoing.answer(&encoded), true, wait)?;
                    // A large result must not stay in memory while the environment idles.
                    outgoing.release();
                    encoded.clear();
                    encoded.shrink_to(KEEP_CAPACITY);
                }
                lock(&self.current).deadline_ms = None;
                wait.stop = self.shared.concurrency.get().map(|concurrency| concurrency.stop.descriptor());
                persistence.poll(client, failed.take(), wait)
            })?;
            let (request_id, tenant_id) = self.begin_invocation(py, &invocation, trace_id)?;
            let call = HandlerCall {
                handler,
                context_class: &context_class,
                invocation: &invocation,
                request_id,
                tenant_id,
                client: myself,
                runtime: self,
            };
            let arguments = call.arguments(client, &mut leftovers);
            // The handler may want to stream.
            drop(connection);
            let outcome = call.run(arguments, &mut encoded, &mut leftovers)?;
            connection = self.free_connection()?;
            let client = &mut connection.client;
            let mut raised = None;
            let content = match outcome {
                Outcome::Content(content) => content,
                Outcome::LastContent(content, error) => {
                    raised = Some(error);
                    content
                }
                Outcome::HandedOver(outcome) => {
                    self.duties.fetch_and(!duty::HAND_OVER, Ordering::Relaxed);
                    let (result, error) = match outcome {
                        Ok(result) => (Some(result), None),
                        Err(error) => (None, Some(error.into_value(py).into_bound(py).into_any())),
                    };
                    let invocation_id = invocation.invocation_id.as_deref();
                    return Ok((
                        call.request_id,
                        invocation_id.map(|id| PyString::new(py, id)),
                        result,
                        error,
                        called_with(&leftovers).map(|(event, context)| (event.clone(), context.clone())),
                    ));
                }
            };
            let answer = Outgoing {
                request_id: invocation.request_id,
                invocation_id: invocation.invocation_id,
                content,
            };
            let message = answer.answer(&encoded);
            if let Some(error) = raised {
                waiting(py, |wait| persistence.deliver(client, &message, false, wait))?;
                return Err(error);
            }
            if message.body.len() >= BEGIN_FROM {
                // Taking large objects apart takes as long as sending them: now it costs nobody time.
                py.detach(|| client.begin_post(&message, true));
            }
            leftovers.clear();
            outgoing = Some(answer);
        }
    }

    fn has(&self, duty: u8) -> bool {
        (self.duties.load(Ordering::Relaxed) | self.shared.duties.load(Ordering::Relaxed)) & duty != 0
    }

    fn hook<'py>(
        &self,
        py: Python<'py>,
        which: impl FnOnce(&Hooks) -> &Option<Py<PyAny>>,
    ) -> Option<Bound<'py, PyAny>> {
        which(&lock(&self.shared.hooks)).as_ref().map(|hook| hook.bind(py).clone())
    }

    /// The connection, for whoever has no part in the loop.
    fn connection(&self) -> PyResult<MutexGuard<'_, Connection>> {
        if self.running.load(Ordering::Relaxed) {
            return Err(busy());
        }
        self.free_connection()
    }

    /// The connection, where nobody waits for the Runtime API on it: also for what a handler does.
    fn free_connection(&self) -> PyResult<MutexGuard<'_, Connection>> {
        match self.connection.try_lock() {
            Ok(connection) => Ok(connection),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(busy()),
        }
    }

    /// Make it the invocation that the environment and the log records speak of, and return its ids.
    fn begin_invocation<'py>(
        &self,
        py: Python<'py>,
        invocation: &Invocation,
        trace_id: &mut ChangingVariable,
    ) -> PyResult<(Bound<'py, PyString>, Option<Bound<'py, PyString>>)> {
        let request_id = PyString::new(py, &invocation.request_id);
        let tenant_id = invocation.tenant_id.as_deref().map(|id| PyString::new(py, id));
        if let Some(concurrency) = self.shared.concurrency.get() {
            let ids = (&request_id, &tenant_id, invocation.trace_id.as_deref());
            concurrency.ids.bind(py).call_method1(intern!(py, "set"), (ids,))?;
        } else {
            trace_id.set(py, invocation.trace_id.as_deref())?;
        }
        let mut current = lock(&self.current);
        current.request_id = Some(request_id.clone().unbind());
        current.tenant_id = tenant_id.clone().map(Bound::unbind);
        current.invocation_id.clone_from(&invocation.invocation_id);
        current.deadline_ms = Some(arguments::deadline_ms(invocation));
        Ok((request_id, tenant_id))
    }

    fn post(&self, py: Python<'_>, answer: &Answer<'_>) -> PyResult<()> {
        let client = &mut self.connection()?.client;
        waiting(py, |wait| self.shared.persistence.deliver(client, answer, false, wait))
    }
}

fn busy() -> PyErr {
    PyRuntimeError::new_err("this RuntimeClient is already running its loop")
}

impl Outgoing {
    /// Free what it holds, now: a Python object dropped without the GIL is freed only when it is taken next.
    fn release(self) {
        if let Content::Bytes(bytes) = self.content {
            Python::attach(|_| drop(bytes));
        }
    }

    fn answer<'a>(&'a self, encoded: &'a [u8]) -> Answer<'a> {
        let (body, kind) = match &self.content {
            Content::Encoded => (encoded, AnswerKind::Response { content_type: "application/json" }),
            Content::Bytes(bytes) => {
                // Immutable and kept alive by `self`, so the bytes may be read without the GIL.
                let bytes = Python::attach(|py| std::ptr::from_ref(bytes.as_bytes(py)));
                // SAFETY: see above; the object outlives the answer.
                let bytes: &[u8] = unsafe { &*bytes };
                (bytes, AnswerKind::Response { content_type: "application/unknown" })
            }
            Content::Error(ErrorReport { body, error_type, xray_cause }) => {
                (body.as_slice(), AnswerKind::Error { error_type, xray_cause })
            }
        };
        let invocation_id = self.invocation_id.as_deref();
        Answer { request_id: &self.request_id, invocation_id, body, kind }
    }
}

/// One call of the handler, and what it needs.
struct HandlerCall<'a, 'py> {
    handler: &'a Bound<'py, PyAny>,
    context_class: &'a Bound<'py, PyAny>,
    invocation: &'a Invocation,
    request_id: Bound<'py, PyString>,
    tenant_id: Option<Bound<'py, PyString>>,
    /// Its own, which Python sees.
    client: &'a Bound<'py, RuntimeClient>,
    runtime: &'a RuntimeClient,
}

/// What a call of the handler leads to.
enum Outcome<'py> {
    Content(Content),
    /// The loop ends with this error when the answer has been posted.
    LastContent(Content, PyErr),
    /// Somebody else makes the answer of what the handler returned or raised.
    HandedOver(PyResult<Bound<'py, PyAny>>),
}

impl<'py> HandlerCall<'_, 'py> {
    /// Event and context, which are left in `leftovers` too, the context first.
    fn arguments(
        &self,
        client: &mut Client<TcpConnector>,
        leftovers: &mut Vec<Bound<'py, PyAny>>,
    ) -> Result<(Bound<'py, PyAny>, Bound<'py, PyAny>), Fault> {
        // In the peer's order: a context that cannot be made is reported even if the event is broken too.
        let py = self.handler.py();
        let ids = (&self.request_id, self.tenant_id.as_ref());
        let context = arguments::context(self.context_class, self.invocation, ids)?;
        if let Some(concurrency) = self.runtime.shared.concurrency.get() {
            concurrency.note_context.bind(py).call1((&context, self.client))?;
        }
        leftovers.push(context.clone());
        let event = arguments::event(py, self.invocation, client.event());
        client.release_event();
        let event = event?;
        leftovers.push(event.clone());
        Ok((event, context))
    }

    /// The answer to post. Raises only what is no `Exception`.
    fn run(
        &self,
        arguments: Result<(Bound<'py, PyAny>, Bound<'py, PyAny>), Fault>,
        encoded: &mut Vec<u8>,
        leftovers: &mut Vec<Bound<'py, PyAny>>,
    ) -> PyResult<Outcome<'py>> {
        match arguments.and_then(|arguments| self.result(arguments, encoded, leftovers)) {
            Ok(Outcome::Content(content)) => Ok(self.followed_up(content, None, leftovers)),
            Ok(other) => Ok(other),
            Err(fault) => self.failed(fault, leftovers),
        }
    }

    /// The outcome of an invocation that has no result.
    #[cold]
    fn failed(&self, fault: Fault, leftovers: &[Bound<'py, PyAny>]) -> PyResult<Outcome<'py>> {
        let py = self.handler.py();
        let report = py.import(intern!(py, "caloric.error_report"))?;
        let (report, error) = match fault {
            Fault::Raised(error) if !error.is_instance_of::<PyException>(py) => return Err(error),
            Fault::Raised(error) if self.runtime.has(duty::HAND_OVER) => {
                return Ok(Outcome::HandedOver(Err(error)));
            }
            Fault::Raised(error) => {
                let error = error.into_value(py);
                let report =
                    report.call_method1(intern!(py, "report_exception"), (&error, &self.request_id))?;
                (report, error)
            }
            Fault::Runtime(error_type, message, error) => {
                let report = report
                    .call_method1(intern!(py, "report_fault"), (error_type, message, &self.request_id))?;
                (report, error.into_value(py))
            }
        };
        Ok(self.followed_up(Content::Error(report.extract()?), Some(error), leftovers))
    }

    /// Do what is to be done between the handler and its answer, which is made already and stays as it is.
    fn followed_up(
        &self,
        content: Content,
        error: Option<Py<PyBaseException>>,
        leftovers: &[Bound<'py, PyAny>],
    ) -> Outcome<'py> {
        if !self.runtime.has(duty::AFTER_INVOKE | duty::KEEP_SIGTERM) {
            return Outcome::Content(content);
        }
        match self.follow_up(&content, error, leftovers) {
            Ok(None) => Outcome::Content(content),
            Ok(Some(error)) | Err(error) => Outcome::LastContent(content, error),
        }
    }

    /// Call the hooks. Returns what a hook wants to be raised.
    fn follow_up(
        &self,
        content: &Content,
        error: Option<Py<PyBaseException>>,
        leftovers: &[Bound<'py, PyAny>],
    ) -> PyResult<Option<PyErr>> {
        let py = self.handler.py();
        if self.runtime.has(duty::KEEP_SIGTERM)
            && !shutdown::sigterm_is_watched()
            && let Some(keep) = self.runtime.hook(py, |hooks| &hooks.keep_sigterm)
        {
            keep.call0()?;
        }
        let (Some(hook), Some(called_with)) =
            (self.runtime.hook(py, |hooks| &hooks.after_invoke), called_with(leftovers))
        else {
            return Ok(None);
        };
        let result = match content {
            Content::Encoded => leftovers.get(2).cloned(),
            Content::Bytes(bytes) => Some(bytes.bind(py).clone().into_any()),
            Content::Error(_) => None,
        };
        let raised = hook.call1((called_with.0, called_with.1, result, error, &self.request_id))?;
        Ok((!raised.is_none()).then(|| PyErr::from_value(raised)))
    }

    /// Call the handler and encode its result, or leave the result as it is to who takes over. The objects that takes are
    /// left in `leftovers`: context, event, result.
    fn result(
        &self,
        (event, context): (Bound<'py, PyAny>, Bound<'py, PyAny>),
        encoded: &mut Vec<u8>,
        leftovers: &mut Vec<Bound<'py, PyAny>>,
    ) -> Result<Outcome<'py>, Fault> {
        let py = self.handler.py();
        if self.runtime.has(duty::BEFORE_INVOKE)
            && let Some(hook) = self.runtime.hook(py, |hooks| &hooks.before_invoke)
        {
            hook.call1((&event, &context))?;
        }
        let result = self.handler.call1((event, context))?;
        if self.runtime.has(duty::HAND_OVER) || wants_more_than_encoding(&result)? {
            return Ok(Outcome::HandedOver(Ok(result)));
        }
        match result.cast_into::<PyBytes>() {
            Ok(bytes) => Ok(Outcome::Content(Content::Bytes(bytes.unbind()))),
            Err(error) => {
                let result = error.into_inner();
                leftovers.push(result.clone());
                encode::encode(py, &result, encoded).map_err(|error| {
                    arguments::fault(py, error, "Runtime.MarshalError", "Unable to marshal response")
                })?;
                Ok(Outcome::Content(Content::Encoded))
            }
        }
    }
}

/// Event and context, of an invocation that got so far.
fn called_with<'a, 'py>(
    leftovers: &'a [Bound<'py, PyAny>],
) -> Option<(&'a Bound<'py, PyAny>, &'a Bound<'py, PyAny>)> {
    match leftovers {
        [context, event, ..] => Some((event, context)),
        _ => None,
    }
}

/// Whether a result is awaited, streamed, or an `HttpResponse` (`caloric.answers`). The types of nearly all results are
/// told by a look at them.
fn wants_more_than_encoding(result: &Bound<'_, PyAny>) -> PyResult<bool> {
    if result.is_exact_instance_of::<PyDict>()
        || result.is_exact_instance_of::<PyString>()
        || result.is_none()
        || result.is_exact_instance_of::<PyBytes>()
        || result.is_exact_instance_of::<PyList>()
        || result.is_exact_instance_of::<PyInt>()
        || result.is_exact_instance_of::<PyBool>()
        || result.is_exact_instance_of::<PyFloat>()
        || result.is_exact_instance_of::<PyTuple>()
    {
        return Ok(false);
    }
    let py = result.py();
    let kind = result.get_type();
    for name in [
        intern!(py, "__next__"),
        intern!(py, "__await__"),
        intern!(py, "__aiter__"),
        intern!(py, "_caloric_answer"),
    ] {
        if kind.hasattr(name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn accepted(call: Call, posted: Posted) -> PyResult<()> {
    match posted {
        Posted::Accepted => Ok(()),
        Posted::Refused(refusal) => Err(runtime_api_error(&Error::Refused { call, refusal })),
    }
}

/// Talk to the Runtime API without the GIL; signal handlers run meanwhile.
fn waiting<T: Send>(
    py: Python<'_>,
    talk: impl FnOnce(&mut SignalWait) -> Result<T, Error> + Send,
) -> PyResult<T> {
    without_gil(py, talk, runtime_api_error)
}

/// A line on `sys.stderr`. Failing to write it must not end the function.
fn warn(message: &str) {
    Python::attach(|py| {
        let line = format!("caloric: {message}\n");
        let written = py
            .import(intern!(py, "sys"))
            .and_then(|sys| sys.getattr(intern!(py, "stderr")))
            .and_then(|stderr| stderr.call_method1(intern!(py, "write"), (line,)));
        drop(written);
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
