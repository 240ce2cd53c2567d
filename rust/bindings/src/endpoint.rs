//! The endpoint's classes: handles on what `caloric-endpoint` does.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::fd::IntoRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use caloric_endpoint::{
    EndpointError, EnvironmentConfig, FreezerChoice, InvocationRequest, InvokeMode, Piece, PieceReceiver,
    ProgramSpec, ShutdownReason, Waiter,
};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// Python runs its signal handlers on the main thread, and only when asked: this often while that thread waits.
pub(crate) const SIGNAL_POLL: Duration = Duration::from_millis(40);

/// The variable behind the argument `freezer`.
const FREEZER: &str = "CALORIC_FREEZER";

/// The time limit of init and restore where nothing is limited: longer than anybody sits before a debugger.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Add the endpoint's classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ExecutionEnvironment>()?;
    module.add_class::<EnvironmentPool>()?;
    module.add_class::<HttpFront>()?;
    module.add_class::<InvokeResult>()?;
    crate::service_front::register(module)?;
    module.add_class::<InvokeStream>()?;
    module.add_class::<VirtualClock>()?;
    Ok(())
}

/// A clock for tests that can be put forward.
#[pyclass(frozen, module = "caloric._rust")]
pub struct VirtualClock {
    inner: caloric_endpoint::VirtualClock,
}

#[pymethods]
impl VirtualClock {
    #[new]
    fn new() -> Self {
        Self { inner: caloric_endpoint::VirtualClock::new() }
    }

    fn advance(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        let by = seconds_of("seconds", seconds)?;
        py.detach(|| self.inner.advance(by)).map_err(to_python)
    }

    #[getter]
    fn advanced(&self) -> f64 {
        self.inner.advanced().as_secs_f64()
    }

    #[getter]
    fn elapsed(&self) -> f64 {
        self.inner.elapsed().as_secs_f64()
    }

    fn __repr__(&self) -> String {
        format!("<VirtualClock advanced by {} s>", self.advanced())
    }
}

/// The server side of one execution environment.
#[pyclass(frozen, module = "caloric._rust")]
pub struct ExecutionEnvironment {
    pub(crate) inner: caloric_endpoint::ExecutionEnvironment,
    /// A pool closes it.
    is_handed_over: AtomicBool,
    clock: Option<Py<VirtualClock>>,
}

#[pymethods]
impl ExecutionEnvironment {
    #[new]
    #[pyo3(signature = (
        *,
        function_name = "test_function",
        function_version = "$LATEST",
        region = "us-east-1",
        account_id = "012345678912",
        memory_size_mb = 128,
        timeout_ms = 3000,
        init_timeout_ms = None,
        snap_start = false,
        restore_timeout_ms = 10_000,
        max_concurrency = None,
        host = "127.0.0.1",
        port = 0,
        log_fd = -1,
        whole_lines = false,
        keep_log = false,
        freeze = true,
        freezer = None,
        limits = true,
        by_hand = false,
        handler = "",
        json_logs = false,
        extensions = Some(Vec::new()),
        clock = None,
        record_telemetry = false,
    ), text_signature = "(*, function_name='test_function', function_version='$LATEST', region='us-east-1', \
        account_id='012345678912', memory_size_mb=128, timeout_ms=3000, init_timeout_ms=None, snap_start=False, \
        restore_timeout_ms=10000, max_concurrency=None, host='127.0.0.1', port=0, log_fd=-1, whole_lines=False, \
        keep_log=False, freeze=True, freezer=None, limits=True, by_hand=False, handler='', json_logs=False, \
        extensions=[], clock=None, record_telemetry=False)")]
    #[expect(
        clippy::too_many_arguments,
        clippy::fn_params_excessive_bools,
        reason = "keyword arguments of a Python class"
    )]
    fn new(
        function_name: &str,
        function_version: &str,
        region: &str,
        account_id: &str,
        memory_size_mb: u64,
        timeout_ms: u64,
        init_timeout_ms: Option<u64>,
        snap_start: bool,
        restore_timeout_ms: u64,
        max_concurrency: Option<usize>,
        host: &str,
        port: u16,
        log_fd: i32,
        whole_lines: bool,
        keep_log: bool,
        freeze: bool,
        freezer: Option<&str>,
        limits: bool,
        by_hand: bool,
        handler: &str,
        json_logs: bool,
        extensions: Option<Vec<String>>,
        clock: Option<Py<VirtualClock>>,
        record_telemetry: bool,
    ) -> PyResult<Self> {
        let launched = extensions.as_ref().is_some_and(|names| !names.is_empty());
        if by_hand && (max_concurrency.is_some() || launched) {
            return Err(PyValueError::new_err(
                "a runtime that is started by hand has no external extensions, and serves one invocation at a time",
            ));
        }
        if snap_start && max_concurrency.is_some() {
            return Err(PyValueError::new_err(
                "an environment cannot be restored from a snapshot and serve several invocations at once",
            ));
        }
        let timeout = Duration::from_millis(timeout_ms);
        let limited = |limit: Duration| if limits { limit } else { NO_LIMIT };
        let max_concurrency = max_concurrency
            .map(|slots| {
                NonZeroUsize::new(slots).ok_or_else(|| {
                    PyValueError::new_err(
                        "max_concurrency must be at least 1; None makes an on-demand environment",
                    )
                })
            })
            .transpose()?;
        let config = EnvironmentConfig {
            function_name: function_name.to_owned(),
            function_version: function_version.to_owned(),
            region: region.to_owned(),
            account_id: account_id.to_owned(),
            memory_size_mb,
            timeout,
            // Both are made ahead of the first invocation.
            init_timeout: limited(init_timeout_ms.map_or_else(
                || EnvironmentConfig::init_limit(snap_start || max_concurrency.is_some(), timeout),
                Duration::from_millis,
            )),
            snap_start,
            restore_timeout: limited(Duration::from_millis(restore_timeout_ms)),
            max_concurrency,
            host: host.to_owned(),
            port,
            log_fd,
            whole_lines,
            keep_log,
            freeze,
            freezer: freezer_choice(freezer)?,
            limits,
            by_hand,
            handler: handler.to_owned(),
            json_logs,
            extensions_off: extensions.is_none(),
            extensions: extensions.unwrap_or_default(),
            clock: clock.as_ref().map(|clock| clock.get().inner.clone()),
            record_telemetry,
        };
        let inner = caloric_endpoint::ExecutionEnvironment::new(config).map_err(to_python)?;
        Ok(Self { inner, is_handed_over: AtomicBool::new(false), clock })
    }

    #[getter]
    fn address(&self) -> String {
        self.inner.address().to_string()
    }

    #[getter]
    fn freezer(&self) -> String {
        self.inner.freezer()
    }

    #[getter]
    fn function_arn(&self) -> &str {
        self.inner.function_arn()
    }

    #[getter]
    fn function_name(&self) -> &str {
        &self.inner.config().function_name
    }

    #[getter]
    fn function_version(&self) -> &str {
        &self.inner.config().function_version
    }

    #[getter]
    fn region(&self) -> &str {
        &self.inner.config().region
    }

    #[getter]
    fn memory_size_mb(&self) -> u64 {
        self.inner.config().memory_size_mb
    }

    #[getter]
    fn snap_start(&self) -> bool {
        self.inner.config().snap_start
    }

    #[getter]
    fn max_concurrency(&self) -> Option<usize> {
        self.inner.config().max_concurrency.map(NonZeroUsize::get)
    }

    #[getter]
    fn clock(&self, py: Python<'_>) -> Option<Py<VirtualClock>> {
        self.clock.as_ref().map(|clock| clock.clone_ref(py))
    }

    #[getter]
    fn clock_file(&self) -> PyResult<Option<OsString>> {
        let file = self.inner.clock_file().map_err(to_python)?;
        Ok(file.map(PathBuf::into_os_string))
    }

    #[getter]
    fn closed(&self) -> bool {
        self.inner.is_closed()
    }

    #[pyo3(signature = (timeout_s = None))]
    fn wait_for_start(&self, py: Python<'_>, timeout_s: Option<f64>) -> PyResult<bool> {
        self.wait(py, timeout_s, |limit| self.inner.wait_for_start(limit))
    }

    #[pyo3(signature = (count = 1, *, timeout_s = None))]
    fn wait_until_handed_out(&self, py: Python<'_>, count: usize, timeout_s: Option<f64>) -> PyResult<bool> {
        self.wait(py, timeout_s, |limit| self.inner.wait_until_handed_out(count, limit))
    }

    #[pyo3(signature = (
        program,
        arguments,
        variables,
        *,
        cwd = None,
        stdin = None,
        output_fd = None,
        own_process_group = true,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn start_process(
        &self,
        py: Python<'_>,
        program: OsString,
        arguments: Vec<OsString>,
        variables: &Bound<'_, PyDict>,
        cwd: Option<OsString>,
        stdin: Option<i32>,
        output_fd: Option<i32>,
        own_process_group: bool,
    ) -> PyResult<i32> {
        let spec = ProgramSpec {
            program,
            arguments,
            variables: variables.iter().map(variable).collect::<PyResult<_>>()?,
            cwd: cwd.map(Into::into),
            stdin,
            output: output_fd,
            process_group: own_process_group,
        };
        py.detach(|| self.inner.start_process(&spec)).map_err(to_python)
    }

    fn wait_for_extension_launch(&self, py: Python<'_>) -> Option<String> {
        py.detach(|| self.inner.wait_for_extension_launch())
    }

    #[pyo3(signature = (name, program, arguments, variables, *, cwd = None))]
    fn start_extension(
        &self,
        py: Python<'_>,
        name: &str,
        program: OsString,
        arguments: Vec<OsString>,
        variables: &Bound<'_, PyDict>,
        cwd: Option<OsString>,
    ) -> PyResult<()> {
        let spec = ProgramSpec {
            program,
            arguments,
            variables: variables.iter().map(variable).collect::<PyResult<_>>()?,
            cwd: cwd.map(Into::into),
            ..ProgramSpec::default()
        };
        py.detach(|| self.inner.start_extension(name, &spec)).map_err(to_python)
    }

    #[pyo3(signature = (name, message, *, permission_denied = false))]
    fn extension_start_failed(&self, py: Python<'_>, name: &str, message: &str, permission_denied: bool) {
        py.detach(|| self.inner.extension_start_failed(name, permission_denied, message));
    }

    fn start_failed(&self, py: Python<'_>, message: &str) {
        py.detach(|| self.inner.start_failed(message));
    }

    #[pyo3(signature = (
        event,
        *,
        content_type = "application/json",
        request_id = None,
        client_context = None,
        cognito_identity = None,
        trace_id = None,
        tenant_id = None,
        timeout_ms = None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn invoke(
        &self,
        py: Python<'_>,
        event: &[u8],
        content_type: &str,
        request_id: Option<String>,
        client_context: Option<String>,
        cognito_identity: Option<String>,
        trace_id: Option<String>,
        tenant_id: Option<String>,
        timeout_ms: Option<u64>,
    ) -> PyResult<InvokeResult> {
        let request = InvocationRequest {
            event: Bytes::copy_from_slice(event),
            content_type: Some(content_type.to_owned()),
            request_id,
            client_context,
            cognito_identity,
            trace_id,
            tenant_id,
            invoked_function_arn: None,
            timeout: timeout_ms.map(Duration::from_millis),
            quiet: false,
            pieces: None,
        };
        let slot = Arc::new(Slot::default());
        let filled = Arc::clone(&slot);
        py.detach(|| self.inner.submit(request, move |result| filled.fill(result))).map_err(to_python)?;
        slot.wait(py).map(|inner| InvokeResult { inner })
    }

    #[pyo3(signature = (
        event,
        callback,
        *,
        content_type = "application/json",
        request_id = None,
        client_context = None,
        cognito_identity = None,
        trace_id = None,
        tenant_id = None,
        timeout_ms = None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn submit(
        &self,
        py: Python<'_>,
        event: &[u8],
        callback: Py<PyAny>,
        content_type: &str,
        request_id: Option<String>,
        client_context: Option<String>,
        cognito_identity: Option<String>,
        trace_id: Option<String>,
        tenant_id: Option<String>,
        timeout_ms: Option<u64>,
    ) -> PyResult<()> {
        let request = InvocationRequest {
            event: Bytes::copy_from_slice(event),
            content_type: Some(content_type.to_owned()),
            request_id,
            client_context,
            cognito_identity,
            trace_id,
            tenant_id,
            invoked_function_arn: None,
            timeout: timeout_ms.map(Duration::from_millis),
            quiet: false,
            pieces: None,
        };
        py.detach(|| self.inner.submit_all([(request, call_back(callback))])).map_err(to_python)
    }

    #[pyo3(signature = (
        event,
        *,
        content_type = "application/json",
        request_id = None,
        client_context = None,
        cognito_identity = None,
        trace_id = None,
        tenant_id = None,
        timeout_ms = None,
        callback = None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn invoke_with_response_stream(
        &self,
        py: Python<'_>,
        event: &[u8],
        content_type: &str,
        request_id: Option<String>,
        client_context: Option<String>,
        cognito_identity: Option<String>,
        trace_id: Option<String>,
        tenant_id: Option<String>,
        timeout_ms: Option<u64>,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<InvokeStream> {
        let (sender, receiver) = caloric_endpoint::pieces();
        let request = InvocationRequest {
            event: Bytes::copy_from_slice(event),
            content_type: Some(content_type.to_owned()),
            request_id,
            client_context,
            cognito_identity,
            trace_id,
            tenant_id,
            invoked_function_arn: None,
            timeout: timeout_ms.map(Duration::from_millis),
            quiet: false,
            pieces: Some(sender),
        };
        let slot = Arc::new(Slot::default());
        let filled = Arc::clone(&slot);
        let done = move |result: caloric_endpoint::InvokeResult| {
            if let Some(callback) = callback {
                call_with(&callback, result.clone());
            }
            filled.fill(result);
        };
        py.detach(|| self.inner.submit(request, done)).map_err(to_python)?;
        Ok(InvokeStream {
            pieces: Mutex::new(receiver),
            content_type: OnceLock::new(),
            result: Mutex::new(None),
            slot,
        })
    }

    fn measure_cycles(&self, py: Python<'_>, event: &[u8], count: usize) -> PyResult<Vec<u64>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let event = Bytes::copy_from_slice(event);
        let slot = Arc::new(Slot::<Result<Vec<u64>, String>>::default());
        let cycles = Arc::new(Mutex::new(Cycles { delivered: Vec::with_capacity(count), failed: None }));
        let requests = (0..count).map(|index| {
            let (cycles, slot) = (Arc::clone(&cycles), Arc::clone(&slot));
            let done = move |result: caloric_endpoint::InvokeResult| {
                let mut cycles = cycles.lock().unwrap_or_else(PoisonError::into_inner);
                cycles.add(&result);
                if index + 1 == count {
                    slot.fill(cycles.intervals());
                }
            };
            let request =
                InvocationRequest { event: event.clone(), quiet: true, ..InvocationRequest::default() };
            (request, Waiter::Finish(Box::new(done)))
        });
        py.detach(|| self.inner.submit_all(requests)).map_err(to_python)?;
        slot.wait(py)?.map_err(|failure| {
            PyRuntimeError::new_err(format!("an invocation failed while cycles were measured: {failure}"))
        })
    }

    fn open_log_pipe(&self) -> PyResult<i32> {
        self.inner.open_log_pipe().map(IntoRawFd::into_raw_fd).map_err(to_python)
    }

    #[getter]
    fn temporary_folder(&self) -> PyResult<OsString> {
        self.inner.temporary_folder().map(PathBuf::into_os_string).map_err(to_python)
    }

    #[getter]
    fn layers_folder(&self) -> PyResult<OsString> {
        self.inner.layers_folder().map(PathBuf::into_os_string).map_err(to_python)
    }

    fn pause_timeout(&self, py: Python<'_>) {
        py.detach(|| self.inner.pause_timeout());
    }

    fn take_telemetry(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| self.inner.take_telemetry())
    }

    fn process_ids(&self, py: Python<'_>) -> Vec<i32> {
        py.detach(|| self.inner.process_ids())
    }

    #[pyo3(signature = (*, reason = "spindown"))]
    fn close(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        let Some(reason) = ShutdownReason::ALL.into_iter().find(|known| known.as_str() == reason) else {
            let known = ShutdownReason::ALL.map(ShutdownReason::as_str).join(", ");
            return Err(PyValueError::new_err(format!("the reason must be one of {known}, not {reason:?}")));
        };
        py.detach(|| self.inner.close_for(reason));
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, PyAny>) {
        py.detach(|| self.inner.close());
    }

    fn __repr__(&self) -> String {
        let state = if self.inner.is_closed() { ", closed" } else { "" };
        format!("<ExecutionEnvironment at {}{state}>", self.inner.address())
    }
}

impl ExecutionEnvironment {
    /// Wait for what `wait` waits for, which takes a limit and says whether it came; `False` when `timeout_s` has passed
    /// or the environment is closed.
    fn wait(
        &self,
        py: Python<'_>,
        timeout_s: Option<f64>,
        wait: impl Fn(Option<Duration>) -> bool + Sync,
    ) -> PyResult<bool> {
        let deadline = deadline_of(timeout_s)?;
        // Signals are the main thread's business: the thread that supervises a process sleeps until it is needed.
        let slice = is_main_thread().then_some(SIGNAL_POLL);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let limit = [slice, left].into_iter().flatten().min();
            if py.detach(|| wait(limit)) {
                return Ok(true);
            }
            py.check_signals()?;
            let over = deadline.is_some_and(|deadline| deadline <= Instant::now());
            if over || self.inner.is_closed() {
                return Ok(false);
            }
        }
    }
}

impl ExecutionEnvironment {
    /// From now on a pool closes it, even if nobody in Python knows it any more.
    pub(crate) fn handed_over(&self) {
        self.is_handed_over.store(true, Ordering::Relaxed);
    }
}

impl Drop for ExecutionEnvironment {
    fn drop(&mut self) {
        if !self.is_handed_over.load(Ordering::Relaxed) {
            self.inner.close_soon();
        }
    }
}

/// Several execution environments of one function.
#[pyclass(frozen, module = "caloric._rust")]
pub struct EnvironmentPool {
    inner: caloric_endpoint::Pool,
}

#[pymethods]
impl EnvironmentPool {
    #[new]
    #[pyo3(signature = (first, *, limit))]
    fn new(first: &ExecutionEnvironment, limit: usize) -> PyResult<Self> {
        if limit == 0 {
            return Err(PyValueError::new_err("a pool has at least one environment"));
        }
        let inner = caloric_endpoint::Pool::new(&first.inner, limit).map_err(to_python)?;
        Ok(Self { inner })
    }

    fn wait_until_wanted(&self, py: Python<'_>) -> Option<u64> {
        py.detach(|| self.inner.wait_until_wanted())
    }

    #[pyo3(signature = (environment, *, generation))]
    fn add(&self, py: Python<'_>, environment: &ExecutionEnvironment, generation: u64) -> PyResult<bool> {
        py.detach(|| self.inner.add(&environment.inner, generation)).map_err(to_python)
    }

    #[pyo3(signature = (*, generation))]
    fn give_up(&self, py: Python<'_>, generation: u64) {
        py.detach(|| self.inner.give_up(generation));
    }

    fn replace(&self, py: Python<'_>, environment: &ExecutionEnvironment) -> PyResult<()> {
        py.detach(|| self.inner.replace(&environment.inner)).map_err(to_python)
    }

    #[pyo3(signature = (
        event,
        callback,
        *,
        content_type = "application/json",
        request_id = None,
        client_context = None,
        cognito_identity = None,
        trace_id = None,
        tenant_id = None,
        timeout_ms = None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn submit(
        &self,
        py: Python<'_>,
        event: &[u8],
        callback: Py<PyAny>,
        content_type: &str,
        request_id: Option<String>,
        client_context: Option<String>,
        cognito_identity: Option<String>,
        trace_id: Option<String>,
        tenant_id: Option<String>,
        timeout_ms: Option<u64>,
    ) -> PyResult<()> {
        let request = InvocationRequest {
            event: Bytes::copy_from_slice(event),
            content_type: Some(content_type.to_owned()),
            request_id,
            client_context,
            cognito_identity,
            trace_id,
            tenant_id,
            invoked_function_arn: None,
            timeout: timeout_ms.map(Duration::from_millis),
            quiet: false,
            pieces: None,
        };
        py.detach(|| self.inner.submit(request, call_back(callback))).map_err(to_python)
    }

    fn __len__(&self) -> usize {
        self.inner.size()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.inner.close());
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        let size = self.inner.size();
        format!("<EnvironmentPool of {size} environment{}>", if size == 1 { "" } else { "s" })
    }
}

impl Drop for EnvironmentPool {
    fn drop(&mut self) {
        self.inner.close_soon();
    }
}

/// What a front invokes.
#[derive(FromPyObject)]
enum Invoked<'py> {
    Pool(PyRef<'py, EnvironmentPool>),
    Environment(PyRef<'py, ExecutionEnvironment>),
}

/// The invoke path of the Lambda service, for one function, or its URL.
#[pyclass(frozen, module = "caloric._rust")]
pub struct HttpFront {
    inner: caloric_endpoint::HttpFront,
}

#[pymethods]
impl HttpFront {
    #[new]
    #[pyo3(signature = (environment, *, host = "0.0.0.0", port = 8080, invoke_mode = None))]
    #[expect(clippy::needless_pass_by_value, reason = "the shape pyo3 hands arguments over in")]
    fn new(environment: Invoked<'_>, host: &str, port: u16, invoke_mode: Option<&str>) -> PyResult<Self> {
        let url = match invoke_mode {
            None => None,
            Some("BUFFERED") => Some(InvokeMode::Buffered),
            Some("RESPONSE_STREAM") => Some(InvokeMode::ResponseStream),
            Some(other) => {
                return Err(PyValueError::new_err(format!(
                    "invoke_mode is BUFFERED or RESPONSE_STREAM, not {other:?}"
                )));
            }
        };
        let pool = match &environment {
            Invoked::Pool(pool) => pool.inner.clone(),
            Invoked::Environment(environment) => {
                caloric_endpoint::Pool::new(&environment.inner, 1).map_err(to_python)?
            }
        };
        let inner = caloric_endpoint::HttpFront::new(pool, host, port, url).map_err(to_python)?;
        Ok(Self { inner })
    }

    #[getter]
    fn address(&self) -> String {
        self.inner.address().to_string()
    }

    fn close(&self) {
        self.inner.close();
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyAny>) {
        self.close();
    }

    fn __repr__(&self) -> String {
        format!("<HttpFront at {}>", self.inner.address())
    }
}

/// A finished invocation.
#[pyclass(frozen, module = "caloric._rust")]
pub struct InvokeResult {
    inner: caloric_endpoint::InvokeResult,
}

#[pymethods]
impl InvokeResult {
    #[getter]
    fn request_id(&self) -> &str {
        &self.inner.answer.request_id
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.answer.payload)
    }

    #[getter]
    fn content_type(&self) -> String {
        String::from_utf8_lossy(self.inner.answer.content_type.as_bytes()).into_owned()
    }

    #[getter]
    fn function_error(&self) -> Option<&'static str> {
        self.inner.answer.is_error.then_some("Unhandled")
    }

    #[getter]
    fn error_type(&self) -> Option<String> {
        self.inner.failure_type()
    }

    #[getter]
    fn status(&self) -> &'static str {
        self.inner.status.as_str()
    }

    #[getter]
    fn executed_version(&self) -> &str {
        &self.inner.executed_version
    }

    #[getter]
    fn service_error(&self) -> Option<(u16, &str, &str)> {
        let failure = self.inner.answer.service_error.as_ref()?;
        Some((failure.status, &failure.error_type, &failure.message))
    }

    #[getter]
    fn log_tail<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.log_tail)
    }

    #[getter]
    fn log<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.log)
    }

    #[getter]
    fn extension_log<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.extension_log)
    }

    #[getter]
    fn init_duration_ms(&self) -> Option<f64> {
        self.inner.init_duration.map(milliseconds)
    }

    #[getter]
    fn restore_duration_ms(&self) -> Option<f64> {
        self.inner.restore_duration.map(milliseconds)
    }

    #[getter]
    fn duration_ms(&self) -> f64 {
        milliseconds(self.inner.duration)
    }

    #[getter]
    fn billed_duration_ms(&self) -> u64 {
        self.inner.billed_duration_ms
    }

    #[getter]
    fn response_latency_ms(&self) -> f64 {
        milliseconds(self.inner.response_latency)
    }

    #[getter]
    fn max_memory_used_mb(&self) -> u64 {
        self.inner.max_memory_used_mb
    }

    #[getter]
    fn phases<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let phases = PyDict::new(py);
        let inner = &self.inner.phases;
        for (name, duration) in [
            ("queued_ms", inner.queued),
            ("failed_init_ms", inner.failed_init),
            ("process_start_ms", inner.process_start),
            ("runtime_init_ms", inner.runtime_init),
            ("restore_ms", inner.restore),
            ("response_ms", inner.response),
            ("after_response_ms", inner.after_response),
            ("extensions_ms", inner.extensions),
        ] {
            if let Some(duration) = duration {
                phases.set_item(name, milliseconds(duration))?;
            }
        }
        Ok(phases)
    }

    fn __repr__(&self) -> String {
        format!(
            "<InvokeResult {} {} in {:.2} ms>",
            self.request_id(),
            self.status(),
            milliseconds(self.inner.duration)
        )
    }
}

/// What measured cycles leave behind.
struct Cycles {
    delivered: Vec<Instant>,
    failed: Option<String>,
}

impl Cycles {
    fn add(&mut self, result: &caloric_endpoint::InvokeResult) {
        match result.delivered_at {
            Some(delivered) if !result.answer.is_error => self.delivered.push(delivered),
            _ => {
                let text = String::from_utf8_lossy(&result.answer.payload).into_owned();
                self.failed.get_or_insert(text);
            }
        }
    }

    fn intervals(&mut self) -> Result<Vec<u64>, String> {
        match self.failed.take() {
            Some(failure) => Err(failure),
            None => Ok(self.delivered.windows(2).map(|pair| nanoseconds(pair[1] - pair[0])).collect()),
        }
    }
}

/// A response that comes piece by piece.
#[pyclass(frozen, module = "caloric._rust")]
pub struct InvokeStream {
    pieces: Mutex<PieceReceiver>,
    content_type: OnceLock<String>,
    result: Mutex<Option<Py<InvokeResult>>>,
    slot: Arc<Slot<caloric_endpoint::InvokeResult>>,
}

#[pymethods]
impl InvokeStream {
    #[getter]
    fn content_type(&self) -> Option<&str> {
        self.content_type.get().map(String::as_str)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        loop {
            let piece = py.detach(|| {
                let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
                pieces.receive_within(SIGNAL_POLL)
            });
            match piece {
                Ok(Some(Piece::Data(data))) if !data.is_empty() => {
                    return Ok(Some(PyBytes::new(py, &data)));
                }
                Ok(Some(Piece::Data(_))) => {}
                Ok(Some(Piece::Head { content_type })) => {
                    let text = String::from_utf8_lossy(content_type.as_bytes()).into_owned();
                    // It comes once.
                    let _ = self.content_type.set(text);
                }
                Ok(None) => return Ok(None),
                Err(_) => py.check_signals()?,
            }
        }
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<InvokeResult>> {
        // Pieces that nobody takes would hold the runtime up.
        while self.__next__(py)?.is_some() {}
        if let Some(result) = &*self.result.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(result.clone_ref(py));
        }
        let result = Py::new(py, InvokeResult { inner: self.slot.wait(py)? })?;
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result.clone_ref(py));
        Ok(result)
    }
}

/// Where a result is put on the endpoint's thread and taken on a Python thread.
struct Slot<T> {
    value: Mutex<Option<T>>,
    filled: Condvar,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { value: Mutex::new(None), filled: Condvar::new() }
    }
}

impl<T: Send> Slot<T> {
    fn fill(&self, value: T) {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        self.filled.notify_one();
    }

    /// The value, when it is there; signals are looked after meanwhile and may raise.
    fn wait(&self, py: Python<'_>) -> PyResult<T> {
        loop {
            if let Some(value) = py.detach(|| self.wait_a_little()) {
                return Ok(value);
            }
            py.check_signals()?;
        }
    }

    fn wait_a_little(&self) -> Option<T> {
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut value, _) = self
            .filled
            .wait_timeout_while(value, SIGNAL_POLL, |value| value.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        value.take()
    }
}

/// Calls a Python function with the result.
pub(crate) fn call_back(callback: Py<PyAny>) -> Waiter {
    Waiter::Finish(Box::new(move |result| call_with(&callback, result)))
}

fn call_with(callback: &Py<PyAny>, inner: caloric_endpoint::InvokeResult) {
    // An interpreter that is shutting down takes no more calls; nobody is left to hear of it then.
    Python::try_attach(|py| {
        if let Err(error) = callback.call1(py, (InvokeResult { inner },)) {
            error.write_unraisable(py, Some(callback.bind(py)));
        }
    });
}

fn variable((name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)) -> PyResult<(OsString, OsString)> {
    Ok((name.extract()?, value.extract()?))
}

pub(crate) fn deadline_of(timeout_s: Option<f64>) -> PyResult<Option<Instant>> {
    timeout_s.map(|seconds| Ok(Instant::now() + seconds_of("timeout_s", seconds)?)).transpose()
}

/// A number of seconds, which is finite and not negative.
pub(crate) fn seconds_of(argument: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{argument} must be a time in seconds, not {seconds}")))
}

/// Whether this is the thread the process began with, which is where Python handles signals.
pub(crate) fn is_main_thread() -> bool {
    // SAFETY: neither call has preconditions.
    unsafe { libc::gettid() == libc::getpid() }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The exception for a failure of ours: `OSError` with the system's number where there is one.
/// What was asked for by the argument, or else by the variable.
fn freezer_choice(argument: Option<&str>) -> PyResult<FreezerChoice> {
    let text = match argument {
        Some(text) => Some(text.to_owned()),
        None => std::env::var_os(FREEZER).map(|text| text.to_string_lossy().into_owned()),
    };
    text.filter(|text| !text.is_empty()).map_or(Ok(FreezerChoice::Auto), |text| text.parse()).map_err(
        |error| match argument {
            Some(_) => to_python(error),
            None => PyValueError::new_err(format!("{FREEZER}: {error}")),
        },
    )
}

#[expect(clippy::needless_pass_by_value, reason = "the shape `map_err` wants")]
pub(crate) fn to_python(error: EndpointError) -> PyErr {
    let message = error.to_string();
    match &error {
        EndpointError::Bind { source, .. }
        | EndpointError::Start { source, .. }
        | EndpointError::Temporary(source)
        | EndpointError::Thread(source)
        | EndpointError::Pipe(source) => match source.raw_os_error() {
            Some(number) => PyOSError::new_err((number, message)),
            None => PyOSError::new_err(message),
        },
        EndpointError::InvalidHeader { .. }
        | EndpointError::Extensions(_)
        | EndpointError::Freezer(_)
        | EndpointError::TenantMissing
        | EndpointError::TenantUnexpected
        | EndpointError::TooFar => PyValueError::new_err(message),
        _ => PyRuntimeError::new_err(message),
    }
}
