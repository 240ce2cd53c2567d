//! The public handle of an execution environment: its port, its process, its invocations.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::TcpListener;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};

use crate::environment_folder::EnvironmentFolder;
use crate::error::EndpointError;
use crate::extensions::MAX_EXTENSIONS;
use crate::invocation::{Answer, Invocation, InvocationRequest, InvokeResult, Waiter};
use crate::lifecycle::{Effects, Lifecycle};
use crate::process::RuntimeProcess;
use crate::reaper::{ProgramSpec, Reaper};
use crate::state_machine::StateMachine;
use crate::telemetry::{self, Lines, Subscriber};
use crate::{runtime_api, runtime_thread};

/// After a process has ended, its connections are read to their end for at most this long before the end takes
/// effect: what it posted with its last breath counts.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How long [`ExecutionEnvironment::close`] waits for the last process: telemetry's last second, the extensions' two,
/// and what it takes to kill what does not end.
const CLOSE_LIMIT: Duration = Duration::from_secs(6);

/// What an environment is told about its function and its surroundings.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "switches that have nothing to do with each other")]
pub struct EnvironmentConfig {
    /// The function's name.
    pub function_name: String,
    /// The version that runs here: `$LATEST` or a number.
    pub function_version: String,
    /// The region in the function's ARN.
    pub region: String,
    /// The account in the function's ARN.
    pub account_id: String,
    /// The function's memory in MB: what uses more is killed.
    pub memory_size_mb: u64,
    /// The function's time limit.
    pub timeout: Duration,
    /// The time limit of the Init phase.
    pub init_timeout: Duration,
    /// SnapStart: the runtime may ask for `/restore/next`, and is restored for the first invocation.
    pub snap_start: bool,
    /// The time limit of a restore, after-restore hooks included.
    pub restore_timeout: Duration,
    /// Slots for invocations at the same time, as on Lambda Managed Instances; `None`: an on-demand environment, which
    /// serves one at a time.
    pub max_concurrency: Option<NonZeroUsize>,
    /// Whether the environment's processes are stopped while there is nothing to do.
    pub freeze: bool,
    /// Address to listen on.
    pub host: String,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Where the log goes: a descriptor that stays the caller's, or -1. It is written to from the endpoint's thread,
    /// so its reader must not be somebody who waits for the endpoint.
    pub log_fd: RawFd,
    /// Keep the whole log of each invocation for its result.
    pub keep_log: bool,
    /// The handler, as extensions are told at registration.
    pub handler: String,
    /// The function logs in JSON: telemetry has objects where a line is one.
    pub json_logs: bool,
    /// The names of the external extensions that are launched before the runtime.
    pub extensions: Vec<String>,
}

impl EnvironmentConfig {
    /// AWS's limit of the Init phase: 10 s, and longer where no invocation waits for it, because the environment is
    /// made ahead of time (spec runtime-api 7.1).
    pub fn init_limit(ahead_of_time: bool, timeout: Duration) -> Duration {
        if ahead_of_time { timeout.max(Duration::from_secs(130)) } else { Duration::from_secs(10) }
    }

    /// The function's ARN, unqualified.
    pub fn function_arn(&self) -> String {
        format!("arn:aws:lambda:{}:{}:function:{}", self.region, self.account_id, self.function_name)
    }

    /// Fails with [`EndpointError::Extensions`] if there are too many, or if two have the same name.
    fn check_extensions(&self) -> Result<(), EndpointError> {
        let names = &self.extensions;
        let problem = if names.len() > MAX_EXTENSIONS {
            format!("{} extensions, where a function can have {MAX_EXTENSIONS}", names.len())
        } else if !names.is_empty() && self.max_concurrency.is_some() {
            "Managed Instances have no extensions here".to_owned()
        } else if let Some(name) = names.iter().find(|name| name.is_empty() || name.contains('/')) {
            format!("'{name}' is no file name, as an extension's must be")
        } else if let Some((_, name)) =
            names.iter().enumerate().find(|(index, name)| names[..*index].contains(*name))
        {
            format!("two extensions are called '{name}'")
        } else {
            return Ok(());
        };
        Err(EndpointError::Extensions(problem))
    }
}

impl Default for EnvironmentConfig {
    fn default() -> Self {
        Self {
            function_name: "test_function".to_owned(),
            function_version: "$LATEST".to_owned(),
            region: "us-east-1".to_owned(),
            account_id: "012345678912".to_owned(),
            memory_size_mb: 128,
            timeout: Duration::from_secs(3),
            init_timeout: Duration::from_secs(10),
            snap_start: false,
            restore_timeout: Duration::from_secs(10),
            max_concurrency: None,
            freeze: true,
            host: "127.0.0.1".to_owned(),
            port: 0,
            log_fd: -1,
            keep_log: false,
            handler: String::new(),
            json_logs: false,
            extensions: Vec::new(),
        }
    }
}

/// The server side of one execution environment. Clones are handles on the same one; it lives until it is closed.
#[derive(Clone)]
pub struct ExecutionEnvironment {
    shared: Arc<Shared>,
}

/// What the handle, the connections and the timer share.
pub(crate) struct Shared {
    myself: Weak<Shared>,
    function_version: HeaderValue,
    pub(crate) function_arn: HeaderValue,
    config: EnvironmentConfig,
    address: SocketAddr,
    handle: Handle,
    lifecycle: Mutex<StateMachine>,
    process_changed: Condvar,
    timer: Notify,
    next_poller: AtomicU64,
    connections: Connections,
    folder: Mutex<EnvironmentFolder>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl ExecutionEnvironment {
    /// Listen on the configured address.
    ///
    /// Fails with [`EndpointError::Bind`] if that is not possible and with [`EndpointError::InvalidHeader`] if the
    /// function's name cannot be sent.
    pub fn new(config: EnvironmentConfig) -> Result<Self, EndpointError> {
        config.check_extensions()?;
        let handle = runtime_thread::handle()?;
        let (listener, address) = listen(&handle, &config.host, config.port)?;
        let arn = config.function_arn();
        let header = |field, value: &str| {
            HeaderValue::try_from(value).map_err(|_| EndpointError::InvalidHeader { field })
        };
        let function_version = header("function_version", &config.function_version)?;
        let function_arn = header("function_name", &arn)?;
        let shared = Arc::new_cyclic(|myself| Shared {
            myself: myself.clone(),
            function_version,
            function_arn,
            address,
            handle,
            lifecycle: Mutex::new(StateMachine::new(config.clone())),
            config,
            process_changed: Condvar::new(),
            timer: Notify::new(),
            next_poller: AtomicU64::new(0),
            connections: Connections::default(),
            folder: Mutex::default(),
            tasks: Mutex::default(),
        });
        shared.keep_task(shared.handle.spawn(accept(listener, Arc::clone(&shared))).abort_handle());
        shared.keep_task(shared.handle.spawn(watch_deadlines(Arc::clone(&shared))).abort_handle());
        Ok(Self { shared })
    }

    /// Where the Runtime API is: the value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// What the environment was made with.
    pub fn config(&self) -> &EnvironmentConfig {
        &self.shared.config
    }

    /// The function's ARN, unqualified.
    pub fn function_arn(&self) -> &str {
        self.shared.function_arn.to_str().unwrap_or_default()
    }

    /// Wait until a process is wanted. `false` when `timeout` has passed or the environment is closed.
    ///
    /// Who gets `true` has taken the request, and reports with [`Self::start_process`] or [`Self::start_failed`].
    pub fn wait_for_start(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut lifecycle = self.shared.lock();
        loop {
            if lifecycle.is_closed() {
                return false;
            }
            if lifecycle.take_start() {
                return true;
            }
            let Some(waited) = self.shared.wait_for_change(lifecycle, deadline) else { return false };
            lifecycle = waited;
        }
    }

    /// Whether the environment was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().is_closed()
    }

    /// Start the environment's runtime process under a reaper of its own: it is watched, killed with all that it
    /// started when its time is up, and does not outlive this process. Returns its pid.
    ///
    /// Fails if it cannot be started, if the environment has a running process, or if it is closed; no process is
    /// left then.
    pub fn start_process(&self, spec: &ProgramSpec) -> Result<i32, EndpointError> {
        let folder = self.shared.folder().root().map(Path::to_path_buf);
        self.shared.with(|lifecycle| lifecycle.process_starting(Instant::now()));
        let reaper = Reaper::start(spec, folder.as_deref()).map_err(|source| EndpointError::Start {
            program: spec.program.to_string_lossy().into_owned(),
            source,
        })?;
        let reaper = Arc::new(reaper);
        let process = RuntimeProcess::under(&reaper, spec.process_group);
        let pid = process.pid;
        match self.shared.with(|lifecycle| lifecycle.process_started(process, Instant::now())) {
            Ok(()) => {
                self.shared.handle.spawn(watch_process(Arc::clone(&self.shared), reaper));
                Ok(pid)
            }
            Err(error) => {
                self.shared.handle.spawn(async move { reaper.end().await });
                Err(error)
            }
        }
    }

    /// The wanted process could not be started: the waiting invocation fails with `Runtime.InvalidEntrypoint`.
    pub fn start_failed(&self, message: &str) {
        self.shared.with(|lifecycle| lifecycle.start_failed(message, Instant::now()));
    }

    /// Wait until an external extension is to be launched, and take the request: its name. `None` when the environment
    /// is closed.
    ///
    /// Who gets a name calls [`Self::start_extension`], and [`Self::extension_start_failed`] if that fails.
    pub fn wait_for_extension_launch(&self) -> Option<String> {
        let mut machine = self.shared.lock();
        loop {
            if machine.is_closed() {
                return None;
            }
            if let Some(name) = machine.with_extensions(Lifecycle::take_extension_launch)? {
                return Some(name);
            }
            machine = self.shared.wait_for_change(machine, None)?;
        }
    }

    /// Start the external extension called `name` under a reaper of its own, in a process group of its own. Its output
    /// is the extension's log; `spec` has none.
    ///
    /// Fails if it cannot be started, or is not wanted any more; no process is left then.
    pub fn start_extension(&self, name: &str, spec: &ProgramSpec) -> Result<(), EndpointError> {
        let (write, read) = {
            let _entered = self.shared.handle.enter();
            pipe::pipe()
                .and_then(|(write, read)| Ok((write.into_blocking_fd()?, read)))
                .map_err(EndpointError::Pipe)?
        };
        let spec = ProgramSpec { output: Some(write.as_raw_fd()), process_group: true, ..spec.clone() };
        let folder = self.shared.folder().root().map(Path::to_path_buf);
        let reaper = Reaper::start(&spec, folder.as_deref()).map_err(|source| EndpointError::Start {
            program: spec.program.to_string_lossy().into_owned(),
            source,
        })?;
        drop(write);
        let reaper = Arc::new(reaper);
        let process = RuntimeProcess::under(&reaper, true);
        let started = self
            .shared
            .with(|machine| machine.with_extensions(|lifecycle| lifecycle.extension_started(name, process)))
            .unwrap_or(Err(EndpointError::Closed));
        if started.is_err() {
            reaper.kill();
        }
        let output =
            self.shared.handle.spawn(read_extension_log(read, name.to_owned(), Arc::clone(&self.shared)));
        self.shared.handle.spawn(watch_extension(Arc::clone(&self.shared), reaper, output));
        started
    }

    /// The extension called `name` could not be started: the environment fails with `Extension.LaunchError`.
    /// `permission` says that the file may not be executed.
    pub fn extension_start_failed(&self, name: &str, permission: bool, message: &str) {
        let error_type = if permission { "PermissionDenied" } else { "UnknownError" };
        self.shared.with(|machine| {
            machine.with_extensions(|lifecycle| {
                lifecycle.extension_start_failed(name, error_type, message, Instant::now());
            })
        });
    }

    /// Queue an invocation; `done` is called when it is finished, mostly on the endpoint's thread.
    pub fn submit(
        &self,
        request: InvocationRequest,
        done: impl FnOnce(InvokeResult) + Send + 'static,
    ) -> Result<(), EndpointError> {
        self.submit_all([(request, Waiter::Finish(Box::new(done)))])
    }

    /// Queue an invocation; `done` is called as soon as the answer is known, before the runtime has polled again.
    pub fn submit_for_answer(
        &self,
        request: InvocationRequest,
        done: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<(), EndpointError> {
        self.submit_all([(request, Waiter::Answer(Box::new(done)))])
    }

    /// Queue several invocations at once, before the first of them is delivered.
    pub fn submit_all(
        &self,
        requests: impl IntoIterator<Item = (InvocationRequest, Waiter)>,
    ) -> Result<(), EndpointError> {
        let invocations = requests
            .into_iter()
            .map(|(request, waiter)| Invocation::new(request, self.shared.config.timeout, waiter))
            .collect::<Result<Vec<_>, _>>()?;
        self.shared.with(|lifecycle| lifecycle.submit(invocations, Instant::now()))
    }

    /// The write end of the pipe for the function's stdout and stderr, close-on-exec and the caller's to close.
    pub fn open_log_pipe(&self) -> Result<OwnedFd, EndpointError> {
        let mut lifecycle = self.shared.lock();
        let watched = lifecycle.log().pipe_reader().is_some();
        let write = lifecycle.log().open_pipe().map_err(EndpointError::Pipe)?;
        let reader = lifecycle.log().pipe_reader().filter(|_| !watched);
        if let Some(reader) = reader {
            // SAFETY: the pipe is held by the lifecycle, whose lock we hold.
            let reader = unsafe { BorrowedFd::borrow_raw(reader) };
            let reader = reader.try_clone_to_owned().map_err(EndpointError::Pipe)?;
            drop(lifecycle);
            let task = self.shared.handle.spawn(watch_log(reader, Arc::clone(&self.shared)));
            self.shared.keep_task(task.abort_handle());
        }
        Ok(write)
    }

    /// The environment's folder for temporary files, made at the first call and removed when the environment is closed.
    /// A reset keeps it.
    pub fn temporary_folder(&self) -> Result<PathBuf, EndpointError> {
        self.part("tmp")
    }

    /// The environment's folder for what is in its layers, made and removed as the other.
    pub fn layers_folder(&self) -> Result<PathBuf, EndpointError> {
        self.part("opt")
    }

    fn part(&self, name: &str) -> Result<PathBuf, EndpointError> {
        if self.is_closed() {
            return Err(EndpointError::Closed);
        }
        self.shared.folder().part(name).map_err(EndpointError::Temporary)
    }

    /// Suspend the time limit of the current invocation, or of the init that runs, until it ends.
    pub fn pause_timeout(&self) {
        self.shared.with(StateMachine::pause_timeout);
    }

    /// End the processes (spec extensions-telemetry 3.4), answer who waits, stop listening. Returns when they are
    /// reaped: at once without extensions, and after 2 s or so, 6 s at most, with extensions that take their time. Called on the endpoint's own thread, where waiting would be waiting for itself, it returns at once.
    pub fn close(&self) {
        self.close_soon();
        if Handle::try_current().is_ok() {
            return;
        }
        let deadline = Instant::now() + CLOSE_LIMIT;
        let mut lifecycle = self.shared.lock();
        while lifecycle.has_process() {
            let Some(waited) = self.shared.wait_for_change(lifecycle, Some(deadline)) else { return };
            lifecycle = waited;
        }
        drop(lifecycle);
        // The endpoint's thread does so too; here it is waited for.
        self.shared.folder().remove();
    }

    /// Close without waiting for the process to be gone.
    pub fn close_soon(&self) {
        self.shared.with(|lifecycle| lifecycle.close(Instant::now()));
    }

    pub(crate) fn executed_version(&self) -> HeaderValue {
        self.shared.function_version.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, StateMachine> {
        // A panic while the lock was held is a bug of ours; the state is still the best there is.
        self.lifecycle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Do something to the state, then what follows from it, without the lock.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut StateMachine) -> R) -> R {
        let mut lifecycle = self.lock();
        let result = change(&mut lifecycle);
        let effects = std::mem::take(lifecycle.effects());
        let over = effects.process_changed && lifecycle.is_closed() && !lifecycle.has_process();
        drop(lifecycle);
        self.run(effects);
        if over {
            self.stop();
        }
        result
    }

    fn run(&self, effects: Effects) {
        for waker in effects.pollers {
            waker.wake();
        }
        if effects.timer_changed {
            self.timer.notify_one();
        }
        if effects.process_changed {
            self.process_changed.notify_all();
        }
        for subscriber in effects.subscribers {
            self.keep_task(self.handle.spawn(telemetry::deliver(subscriber)).abort_handle());
        }
        if !effects.flush.is_empty() {
            self.handle.spawn(flush(effects.flush, self.myself.clone()));
        }
        for (waiter, answer) in effects.answers {
            waiter(answer);
        }
        for (waiter, result) in effects.finishes {
            waiter(*result);
        }
    }

    /// Wait on the condition variable; `None` when the deadline has passed.
    fn wait_for_change<'a>(
        &self,
        lifecycle: MutexGuard<'a, StateMachine>,
        deadline: Option<Instant>,
    ) -> Option<MutexGuard<'a, StateMachine>> {
        let Some(deadline) = deadline else {
            return Some(self.process_changed.wait(lifecycle).unwrap_or_else(PoisonError::into_inner));
        };
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        Some(self.process_changed.wait_timeout(lifecycle, left).unwrap_or_else(PoisonError::into_inner).0)
    }

    pub(crate) fn config(&self) -> &EnvironmentConfig {
        &self.config
    }

    pub(crate) fn snap_start(&self) -> bool {
        self.config.snap_start
    }

    /// Whether it serves several invocations at a time.
    pub(crate) fn is_managed(&self) -> bool {
        self.config.max_concurrency.is_some()
    }

    pub(crate) fn next_poller(&self) -> u64 {
        self.next_poller.fetch_add(1, Ordering::Relaxed)
    }

    fn keep_task(&self, task: AbortHandle) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    fn folder(&self) -> MutexGuard<'_, EnvironmentFolder> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stop listening and drop every connection. The tasks hold the last references to this value.
    fn stop(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        self.connections.abort();
        self.folder().remove();
    }
}

/// Listen on `host:port` with the event loop of `handle`.
pub(crate) fn listen(
    handle: &Handle,
    host: &str,
    port: u16,
) -> Result<(TcpListener, SocketAddr), EndpointError> {
    let open = || {
        let listener = StdTcpListener::bind((host, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let _entered = handle.enter();
        Ok((TcpListener::from_std(listener)?, address))
    };
    open().map_err(|source: io::Error| EndpointError::Bind { address: format!("{host}:{port}"), source })
}

/// The next connection. A failure (no descriptor left, a client that hung up) concerns one client, not the server.
pub(crate) async fn next_connection(listener: &TcpListener) -> tokio::net::TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it the small answers of a pipelined exchange wait for each other's acknowledgements.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let stream = next_connection(&listener).await;
        let owner = ConnectionOwner::default();
        let connection = runtime_api::serve(stream, Arc::clone(&shared), owner.clone());
        shared.connections.spawn(&shared, owner, connection);
    }
}

async fn watch_deadlines(shared: Arc<Shared>) {
    loop {
        let deadline = shared.with(|lifecycle| {
            lifecycle.expire(Instant::now());
            lifecycle.next_deadline()
        });
        match deadline {
            None => shared.timer.notified().await,
            Some(deadline) => {
                // Whichever comes first; then look at the state again.
                let _ = tokio::time::timeout_at(deadline.into(), shared.timer.notified()).await;
            }
        }
    }
}

async fn watch_log(reader: OwnedFd, shared: Arc<Shared>) {
    // SAFETY: an OwnedFd gives the same open descriptor for as long as it lives, and the AsyncFd owns it.
    let Ok(reader) = (unsafe { AsyncFd::register_with_interest(reader, Interest::READABLE) }) else { return };
    while let Ok(mut ready) = reader.readable().await {
        shared.with(|machine| machine.drain_log(Instant::now()));
        if is_readable(reader.get_ref().as_raw_fd()) {
            // A function that prints without end must not occupy the thread.
            tokio::task::yield_now().await;
        } else {
            ready.clear_ready();
        }
    }
}

fn is_readable(fd: RawFd) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, as the count says, and no waiting.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

/// Wait for the end of a process and of all it started, and take note.
async fn watch_process(shared: Arc<Shared>, reaper: Arc<Reaper>) {
    let ended = reaper.ended().await;
    let pid = reaper.program();
    shared.with(|lifecycle| lifecycle.process_ended(pid));
    let _ = tokio::time::timeout(LAST_WORDS, shared.connections.all_of_runtime_closed()).await;
    // Nothing of the ended process may reach the next one's state.
    shared.connections.abort_runtime();
    reaper.release();
    reaper.gone().await;
    shared.with(|lifecycle| lifecycle.process_exited(pid, ended, Instant::now()));
}

/// Wait for the end of an extension and of all it started, and take note.
async fn watch_extension(shared: Arc<Shared>, reaper: Arc<Reaper>, mut output: JoinHandle<()>) {
    let ended = reaper.ended().await;
    let pid = reaper.program();
    shared.with(|machine| machine.with_extensions(|lifecycle| lifecycle.extension_ended(pid)));
    // What it printed last is read before its end takes effect.
    let _ = tokio::time::timeout(LAST_WORDS, &mut output).await;
    output.abort();
    reaper.release();
    reaper.gone().await;
    shared.with(|machine| {
        machine.with_extensions(|lifecycle| lifecycle.extension_exited(pid, ended.exit, Instant::now()))
    });
}

/// An extension's output, line by line, until nobody can write to it any more.
async fn read_extension_log(mut output: pipe::Receiver, name: String, shared: Arc<Shared>) {
    let mut lines = Lines::default();
    let mut chunk = vec![0; 16 * 1024];
    let tell = |line: &str| {
        shared.with(|machine| {
            machine.with_extensions(|lifecycle| lifecycle.extension_line(&name, line, Instant::now()))
        });
    };
    while let Ok(length) = output.read(&mut chunk).await {
        if length == 0 {
            break;
        }
        lines.push(&chunk[..length], tell);
    }
    lines.finish(tell);
}

/// Send subscribers their last events before the environment ends, as long as that may take.
async fn flush(subscribers: Vec<Arc<Subscriber>>, shared: Weak<Shared>) {
    let all = async {
        for subscriber in subscribers {
            subscriber.flush().await;
        }
    };
    let _ = tokio::time::timeout(telemetry::FLUSH_LIMIT, all).await;
    if let Some(shared) = shared.upgrade() {
        shared
            .with(|machine| machine.with_extensions(|lifecycle| lifecycle.telemetry_flushed(Instant::now())));
    }
}

/// Whose a connection is, as its requests tell. An external extension's outlives the runtime.
#[derive(Clone, Default)]
pub(crate) struct ConnectionOwner(Arc<AtomicU8>);

#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum Owner {
    /// It belongs to the runtime's process, where internal extensions live, too.
    Runtime = 1,
    /// It belongs to an external extension.
    Extension = 2,
}

impl ConnectionOwner {
    pub(crate) fn set(&self, owner: Owner) {
        self.0.store(owner as u8, Ordering::Relaxed);
    }

    fn is(&self, owner: Owner) -> bool {
        self.0.load(Ordering::Relaxed) == owner as u8
    }
}

/// The open connections of one environment.
#[derive(Default)]
struct Connections {
    open: Mutex<OpenConnections>,
    one_closed: Notify,
}

#[derive(Default)]
struct OpenConnections {
    last: u64,
    by_number: HashMap<u64, (ConnectionOwner, AbortHandle)>,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(
        &self,
        shared: &Arc<Shared>,
        owner: ConnectionOwner,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let mut open = self.lock();
        open.last += 1;
        let id = open.last;
        let guard = ConnectionGuard { shared: Arc::clone(shared), id };
        let task = shared.handle.spawn(async move {
            let _guard = guard;
            connection.await;
        });
        open.by_number.insert(id, (owner, task.abort_handle()));
    }

    async fn all_of_runtime_closed(&self) {
        // One that has asked for nothing yet may have the runtime's last words to bring.
        while self.lock().by_number.values().any(|(owner, _)| !owner.is(Owner::Extension)) {
            self.one_closed.notified().await;
        }
    }

    fn abort_runtime(&self) {
        self.abort_where(|owner| owner.is(Owner::Runtime));
    }

    fn abort(&self) {
        self.abort_where(|_| true);
    }

    fn abort_where(&self, which: impl Fn(&ConnectionOwner) -> bool) {
        for (owner, task) in self.lock().by_number.values() {
            if which(owner) {
                task.abort();
            }
        }
    }
}

/// Takes the connection off the list, also when its task is aborted or panics.
struct ConnectionGuard {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let connections = &self.shared.connections;
        connections.lock().by_number.remove(&self.id);
        connections.one_closed.notify_one();
    }
}
