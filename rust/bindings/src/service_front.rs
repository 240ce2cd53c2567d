//! The classes of the local Lambda's data plane: the service's port, and pools whose environments come and go.

use std::any::Any;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use caloric_endpoint::{EndpointError, InvocationRequest, PoolConfig, ServiceConfig, ServiceFailure};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::endpoint::{
    ExecutionEnvironment, SIGNAL_POLL, call_back, deadline_of, is_main_thread, seconds_of, to_python,
};

/// Add the classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<EnvironmentSupply>()?;
    module.add_class::<WantedEnvironment>()?;
    module.add_class::<FunctionPool>()?;
    module.add_class::<ServiceFront>()?;
    Ok(())
}

/// What pools ask for.
#[pyclass(frozen, module = "caloric._rust")]
pub struct EnvironmentSupply {
    inner: caloric_endpoint::Supply,
}

#[pymethods]
impl EnvironmentSupply {
    #[new]
    fn new() -> Self {
        Self { inner: caloric_endpoint::Supply::new() }
    }

    #[pyo3(signature = (timeout_s = None))]
    fn next_wanted(&self, py: Python<'_>, timeout_s: Option<f64>) -> PyResult<Option<WantedEnvironment>> {
        let wanted = wait(py, deadline_of(timeout_s)?, |until| {
            let wanted = self.inner.next(until);
            if wanted.is_none() && self.inner.is_closed() { Some(None) } else { wanted.map(Some) }
        })?;
        Ok(wanted.flatten().map(WantedEnvironment::new))
    }

    #[getter]
    fn closed(&self) -> bool {
        self.inner.is_closed()
    }

    fn close(&self) {
        self.inner.close();
    }
}

/// Wait for what `wait` waits for until the moment it is given. Signals are the main thread's business.
fn wait<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    wait: impl Fn(Option<Instant>) -> Option<T> + Sync,
) -> PyResult<Option<T>> {
    let main = is_main_thread();
    loop {
        let slice = main.then(|| Instant::now() + SIGNAL_POLL);
        let until = [slice, deadline].into_iter().flatten().min();
        if let Some(value) = py.detach(|| wait(until)) {
            return Ok(Some(value));
        }
        py.check_signals()?;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(None);
        }
    }
}

/// A pool's request for an environment.
#[pyclass(frozen, module = "caloric._rust")]
pub struct WantedEnvironment {
    pool: caloric_endpoint::Pool,
    tenant_id: Option<String>,
    ahead: bool,
    provisioned: bool,
    inner: Mutex<Option<caloric_endpoint::Wanted>>,
}

impl WantedEnvironment {
    fn new(inner: caloric_endpoint::Wanted) -> Self {
        Self {
            pool: inner.pool().clone(),
            tenant_id: inner.tenant().map(str::to_owned),
            ahead: inner.is_ahead(),
            provisioned: inner.is_provisioned(),
            inner: Mutex::new(Some(inner)),
        }
    }

    fn take(&self) -> PyResult<caloric_endpoint::Wanted> {
        let wanted = self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
        wanted.ok_or_else(|| PyRuntimeError::new_err("the request for an environment was answered before"))
    }
}

#[pymethods]
impl WantedEnvironment {
    #[getter]
    fn subject(&self, py: Python<'_>) -> Py<PyAny> {
        let subject =
            self.pool.config().subject.as_ref().and_then(|subject| subject.downcast_ref::<Py<PyAny>>());
        subject.map_or_else(|| py.None(), |subject| subject.clone_ref(py))
    }

    #[getter]
    fn function_name(&self) -> &str {
        &self.pool.config().function_name
    }

    #[getter]
    fn function_version(&self) -> &str {
        &self.pool.config().function_version
    }

    #[getter]
    fn tenant_id(&self) -> Option<&str> {
        self.tenant_id.as_deref()
    }

    #[getter]
    fn ahead(&self) -> bool {
        self.ahead
    }

    #[getter]
    fn provisioned(&self) -> bool {
        self.provisioned
    }

    #[getter]
    fn still_wanted(&self) -> bool {
        let wanted = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.as_ref().is_some_and(caloric_endpoint::Wanted::is_needed)
    }

    fn add(&self, py: Python<'_>, environment: &ExecutionEnvironment) -> PyResult<()> {
        let wanted = self.take()?;
        py.detach(|| wanted.deliver(&environment.inner)).map_err(|error| match error {
            EndpointError::Closed => {
                PyRuntimeError::new_err("the pool has ended: the environment is yours to close")
            }
            other => to_python(other),
        })?;
        environment.handed_over();
        Ok(())
    }

    #[pyo3(signature = (message, *, error_type = "ServiceException", status = 500))]
    fn give_up(&self, py: Python<'_>, message: &str, error_type: &str, status: u16) -> PyResult<()> {
        if !(400..600).contains(&status) {
            return Err(PyValueError::new_err(format!(
                "status is that of an error, 400 to 599, not {status}"
            )));
        }
        let wanted = self.take()?;
        let failure =
            ServiceFailure { status, error_type: error_type.to_owned(), message: message.to_owned() };
        py.detach(|| wanted.give_up(failure));
        Ok(())
    }
}

/// The environments of one version of a function.
#[pyclass(frozen, module = "caloric._rust")]
pub struct FunctionPool {
    inner: caloric_endpoint::Pool,
    function_arn: String,
}

#[pymethods]
impl FunctionPool {
    #[new]
    #[pyo3(signature = (
        supply,
        subject,
        *,
        function_name,
        function_version = "$LATEST",
        region = "us-east-1",
        account_id = "012345678912",
        tenant_isolation = false,
        idle_s = 600.0,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python class")]
    fn new(
        supply: &EnvironmentSupply,
        subject: Py<PyAny>,
        function_name: &str,
        function_version: &str,
        region: &str,
        account_id: &str,
        tenant_isolation: bool,
        idle_s: f64,
    ) -> PyResult<Self> {
        let config = PoolConfig {
            function_name: function_name.to_owned(),
            function_version: function_version.to_owned(),
            tenant_isolation,
            idle: Some(seconds_of("idle_s", idle_s)?),
            subject: Some(Box::new(subject) as Box<dyn Any + Send + Sync>),
        };
        let inner = caloric_endpoint::Pool::elastic(config, &supply.inner).map_err(to_python)?;
        let function_arn = format!("arn:aws:lambda:{region}:{account_id}:function:{function_name}");
        Ok(Self { inner, function_arn })
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
    fn idle_s(&self) -> f64 {
        self.inner.idle_time().unwrap_or_default().as_secs_f64()
    }

    fn set_idle_time(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        let idle = seconds_of("seconds", seconds)?;
        py.detach(|| self.inner.set_idle_time(idle));
        Ok(())
    }

    fn provision(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        self.check_ahead(count)?;
        py.detach(|| self.inner.provision(count));
        Ok(())
    }

    fn keep(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        self.check_ahead(count)?;
        py.detach(|| self.inner.keep(count));
        Ok(())
    }

    #[pyo3(signature = (
        event,
        callback,
        *,
        request_id = None,
        client_context = None,
        cognito_identity = None,
        trace_id = None,
        tenant_id = None,
        invoked_function_arn = None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn submit(
        &self,
        py: Python<'_>,
        event: &[u8],
        callback: Py<PyAny>,
        request_id: Option<String>,
        client_context: Option<String>,
        cognito_identity: Option<String>,
        trace_id: Option<String>,
        tenant_id: Option<String>,
        invoked_function_arn: Option<&str>,
    ) -> PyResult<Option<&'static str>> {
        let arn = invoked_function_arn.unwrap_or(&self.function_arn);
        let request = InvocationRequest {
            event: Bytes::copy_from_slice(event),
            request_id,
            client_context,
            cognito_identity,
            trace_id,
            tenant_id,
            ..InvocationRequest::default()
        };
        let request = request.invoked_as(arn).map_err(to_python)?;
        match py.detach(|| self.inner.submit(request, call_back(callback))) {
            Ok(()) => Ok(None),
            Err(EndpointError::Throttled(throttled)) => Ok(Some(throttled.reason())),
            Err(EndpointError::Closed) => Err(PyRuntimeError::new_err("the pool is closed")),
            Err(error) => Err(to_python(error)),
        }
    }

    fn retire(&self, py: Python<'_>) {
        py.detach(|| self.inner.retire(None));
    }

    #[getter]
    fn retired(&self) -> bool {
        self.inner.is_retired()
    }

    #[getter]
    fn ended(&self) -> bool {
        self.inner.has_ended()
    }

    #[pyo3(signature = (timeout_s = None))]
    fn wait_until_ended(&self, py: Python<'_>, timeout_s: Option<f64>) -> PyResult<bool> {
        let ended =
            wait(py, deadline_of(timeout_s)?, |until| self.inner.wait_until_ended(until).then_some(()))?;
        Ok(ended.is_some())
    }

    fn counts(&self, py: Python<'_>) -> HashMap<&'static str, u64> {
        let counts = py.detach(|| self.inner.counts());
        HashMap::from([
            ("init", counts.init as u64),
            ("busy", counts.busy as u64),
            ("idle", counts.idle as u64),
            ("frozen", counts.frozen as u64),
            ("provisioned", counts.provisioned as u64),
            ("provisioned_ready", counts.provisioned_ready as u64),
            ("provisioned_failed", counts.provisioned_failed as u64),
            ("waiting", counts.waiting as u64),
            ("cold_starts", counts.cold_starts),
            ("warm_starts", counts.warm_starts),
            ("throttled", counts.throttled),
            ("failures", counts.failures),
        ])
    }

    #[getter]
    fn last_failure(&self) -> Option<String> {
        self.inner.last_failure()
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
        format!("<FunctionPool of {}:{}>", self.function_name(), self.function_version())
    }
}

impl FunctionPool {
    fn check_ahead(&self, count: usize) -> PyResult<()> {
        if self.inner.config().tenant_isolation && count > 0 {
            return Err(PyValueError::new_err(
                "a function with tenant isolation has no environments ahead of its invocations",
            ));
        }
        Ok(())
    }
}

/// The Lambda service on a port.
#[pyclass(frozen, module = "caloric._rust")]
pub struct ServiceFront {
    inner: caloric_endpoint::ServiceFront,
}

#[pymethods]
impl ServiceFront {
    #[new]
    #[pyo3(signature = (
        backend,
        *,
        host = "127.0.0.1",
        port = 9001,
        region = "us-east-1",
        account_id = "012345678912",
        concurrency = 1000,
        allowed_hosts = Vec::new(),
        hot_path = true,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python class")]
    fn new(
        backend: PathBuf,
        host: &str,
        port: u16,
        region: &str,
        account_id: &str,
        concurrency: usize,
        allowed_hosts: Vec<String>,
        hot_path: bool,
    ) -> PyResult<Self> {
        let config = ServiceConfig {
            host: host.to_owned(),
            port,
            backend,
            region: region.to_owned(),
            account_id: account_id.to_owned(),
            concurrency,
            allowed_hosts,
            hot_path,
        };
        let inner = caloric_endpoint::ServiceFront::new(config).map_err(to_python)?;
        Ok(Self { inner })
    }

    #[getter]
    fn address(&self) -> String {
        self.inner.address().to_string()
    }

    fn publish(
        &self,
        py: Python<'_>,
        function_name: &str,
        version: &str,
        pool: &FunctionPool,
    ) -> PyResult<()> {
        if (pool.function_name(), pool.function_version()) != (function_name, version) {
            return Err(PyValueError::new_err(format!(
                "the pool is that of {}:{}, and cannot be published as {function_name}:{version}",
                pool.function_name(),
                pool.function_version()
            )));
        }
        py.detach(|| self.inner.publish(function_name, version, &pool.inner)).map_err(to_python)
    }

    #[pyo3(signature = (function_name, version = None))]
    fn withdraw(&self, py: Python<'_>, function_name: &str, version: Option<&str>) {
        py.detach(|| self.inner.withdraw(function_name, version));
    }

    fn route(&self, function_name: &str, alias: &str, weights: Option<HashMap<String, f64>>) -> PyResult<()> {
        let mut shares = Vec::new();
        if let Some(weights) = weights {
            shares.extend(weights);
            let usable = shares.iter().all(|(_, weight)| weight.is_finite() && *weight >= 0.0);
            if !usable || shares.iter().map(|(_, weight)| weight).sum::<f64>() <= 0.0 {
                return Err(PyValueError::new_err(format!(
                    "the alias {alias} leads nowhere: weights are numbers from 0, and not all of them 0"
                )));
            }
        }
        self.inner.route(function_name, alias, &shares).map_err(to_python)
    }

    #[pyo3(signature = (function_name, concurrency))]
    fn reserve(&self, function_name: &str, concurrency: Option<i64>) -> PyResult<()> {
        let concurrency = concurrency
            .map(|number| {
                usize::try_from(number).map_err(|_| {
                    PyValueError::new_err(format!("reserved concurrency is a number from 0, not {number}"))
                })
            })
            .transpose()?;
        self.inner.reserve(function_name, concurrency).map_err(to_python)
    }

    fn concurrency(&self) -> HashMap<&'static str, usize> {
        let figures = self.inner.account_figures();
        HashMap::from([
            ("limit", figures.limit),
            ("reserved", figures.reserved),
            ("provisioned", figures.provisioned),
            ("running", figures.running),
        ])
    }

    fn function_concurrency<'py>(
        &self,
        py: Python<'py>,
        function_name: &str,
    ) -> PyResult<Bound<'py, PyDict>> {
        let figures = self.inner.function_figures(function_name);
        let described = PyDict::new(py);
        described.set_item("reserved", figures.reserved)?;
        described.set_item("provisioned", figures.provisioned)?;
        described.set_item("running", figures.running)?;
        Ok(described)
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
        format!("<ServiceFront at {}>", self.inner.address())
    }
}
