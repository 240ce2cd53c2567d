//! The public handle of an execution environment: its port, its process, its invocations.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::TcpListener;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use crate::clock::{EnvironmentClock, VirtualClock};
use crate::control_group::FreezerChoice;
use crate::environment_folder::EnvironmentFolder;
use crate::error::EndpointError;
use crate::extensions::{MAX_EXTENSIONS, ShutdownReason};
use crate::invocation::{Answer, Invocation, InvocationRequest, InvokeResult, Waiter};
use crate::lifecycle::freezing::Entry;
use crate::process::RuntimeProcess;
use crate::reaper::{ProgramSpec, Reaper};
use crate::sandbox::Effects;
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
    /// What stops them.
    pub freezer: FreezerChoice,
    /// Whether the function is held to its time limit and its memory. Without limits, which is for debuggers, they are
    /// only what it is told.
    pub limits: bool,
    /// The runtime is started by hand: none is asked for, and it may come and go.
    pub by_hand: bool,
    /// Address to listen on.
    pub host: String,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Where the log goes: a descriptor that stays the caller's, or -1. It is written to from the endpoint's thread,
    /// so its reader must not be somebody who waits for the endpoint.
    pub log_fd: RawFd,
    /// Others write to `log_fd`, too: it gets whole lines only.
    pub whole_lines: bool,
    /// Keep the whole log of each invocation for its result.
    pub keep_log: bool,
    /// The handler, as extensions are told at registration.
    pub handler: String,
    /// The function logs in JSON: telemetry has objects where a line is one.
    pub json_logs: bool,
    /// The names of the external extensions that are launched before the runtime.
    pub extensions: Vec<String>,
    /// There are no extensions, not even internal ones: their APIs answer 404.
    pub extensions_off: bool,
    /// What its time limits go by; `None`: the machine's clock.
    pub clock: Option<VirtualClock>,
    /// Keep what telemetry tells and what extensions are told, for [`ExecutionEnvironment::take_telemetry`].
    pub record_telemetry: bool,
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
            freezer: FreezerChoice::Auto,
            limits: true,
            by_hand: false,
            host: "127.0.0.1".to_owned(),
            port: 0,
            log_fd: -1,
            whole_lines: false,
            keep_log: false,
            handler: String::new(),
            json_logs: false,
            extensions: Vec::new(),
            extensions_off: false,
            clock: None,
            record_telemetry: false,
        }
    }
}

/// What an environment's processes do, at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// They are still to be started, or initialise.
    pub initialising: bool,
    /// Their last init failed. The next invocation has it run again.
    pub init_failed: bool,
    /// They stand still.
    pub frozen: bool,
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
    /// How many wait for invocations to be handed out.
    hand_out_watchers: AtomicUsize,
    clock: EnvironmentClock,
    timer: Notify,
    next_poller: AtomicU64,
    connections: Connections,
    folder: Mutex<EnvironmentFolder>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl ExecutionEnvironment {
    /// Listen on the configured address.
    ///
    /// Fails with [`EndpointError::Bind`] if that is not possible, with [`EndpointError::Freezer`] if control groups are
    /// demanded that this process may not make, and with [`EndpointError::InvalidHeader`] if the
    /// function's name cannot be sent.
    pub fn new(config: EnvironmentConfig) -> Result<Self, EndpointError> {
        config.check_extensions()?;
        config.freezer.check()?;
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
            hand_out_watchers: AtomicUsize::new(0),
            clock: EnvironmentClock::default(),
            timer: Notify::new(),
            next_poller: AtomicU64::new(0),
            connections: Connections::default(),
            folder: Mutex::default(),
            tasks: Mutex::default(),
        });
        if let Some(clock) = &shared.config.clock {
            clock.add(Arc::downgrade(&shared));
        }
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

    /// What stops the processes between invocations: `cgroup-v2`, `cgroup-v1`, `signals`, or `off`.
    pub fn freezer(&self) -> String {
        self.shared.lock().freezer_name()
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
        self.shared.with(StateMachine::process_starting);
        let reaper = Reaper::start(spec, folder.as_deref()).map_err(|source| {
            self.shared.with(StateMachine::launch_ended);
            EndpointError::Start { program: spec.program.to_string_lossy().into_owned(), source }
        })?;
        let reaper = Arc::new(reaper);
        let process = RuntimeProcess::under(&reaper, spec.process_group);
        let pid = process.pid;
        match self.shared.with(|lifecycle| lifecycle.process_started(process, self.shared.now())) {
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
        self.shared.with(|lifecycle| lifecycle.start_failed(message, self.shared.now()));
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
            if let Some(name) =
                machine.with_extensions(|machine| machine.sandbox().take_extension_launch())?
            {
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
            .with(|machine| {
                machine.with_extensions(|machine| machine.extension_started(name, process, self.shared.now()))
            })
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
            machine.with_extensions(|machine| {
                machine.extension_start_failed(name, error_type, message, self.shared.now());
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
        let now = self.shared.now();
        let invocations = requests
            .into_iter()
            .map(|(request, waiter)| Invocation::new(request, self.shared.config.timeout, waiter, now))
            .collect::<Result<Vec<_>, _>>()?;
        self.shared.with(|lifecycle| lifecycle.submit(invocations, self.shared.now()))
    }

    /// Queue an invocation of a pool, whose time limit is this environment's unless it has its own. It is given back
    /// where no invocation is taken any more.
    pub(crate) fn offer(&self, mut invocation: Invocation) -> Option<Invocation> {
        let waited = invocation.submitted.elapsed();
        self.shared.with(|machine| {
            if !machine.takes_invocations() {
                return Some(invocation);
            }
            let now = self.shared.now();
            invocation.submitted = now.checked_sub(waited).unwrap_or(now);
            invocation.timeout = invocation.own_timeout.unwrap_or(self.shared.config.timeout);
            // It takes them.
            let _ = machine.submit([invocation], now);
            None
        })
    }

    /// Take no more invocations, and close as soon as what runs is over: at once if nothing does, and without waiting
    /// for the processes to be gone. Returns the invocations that wait here; they are somebody else's from now on.
    pub(crate) fn retire(&self) -> Vec<Invocation> {
        self.shared.with(|machine| {
            let now = self.shared.now();
            let mut waiting = machine.retire();
            for invocation in &mut waiting {
                let waited = now.saturating_duration_since(invocation.submitted);
                let by_machine = Instant::now();
                invocation.submitted = by_machine.checked_sub(waited).unwrap_or(by_machine);
            }
            waiting
        })
    }

    /// Whether it was closed and nothing of its processes is left.
    pub(crate) fn is_gone(&self) -> bool {
        let machine = self.shared.lock();
        machine.is_closed() && !machine.has_process()
    }

    /// The write end of the pipe for the function's stdout and stderr, close-on-exec and the caller's to close.
    pub fn open_log_pipe(&self) -> Result<OwnedFd, EndpointError> {
        let mut lifecycle = self.shared.lock();
        let watched = lifecycle.sandbox().log.pipe_reader().is_some();
        let write = lifecycle.sandbox().log.open_pipe().map_err(EndpointError::Pipe)?;
        let reader = lifecycle.sandbox().log.pipe_reader().filter(|_| !watched);
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

    /// The file in which the environment's processes find how many nanoseconds its virtual clock was put forward;
    /// `None` if it has no such clock. The runtime is given Caloric's own deadline header from then on.
    pub fn clock_file(&self) -> Result<Option<PathBuf>, EndpointError> {
        if self.shared.config.clock.is_none() {
            return Ok(None);
        }
        // Under this lock the clock stands still.
        let machine = self.shared.lock();
        if machine.is_closed() {
            return Err(EndpointError::Closed);
        }
        let file = self.shared.clock.file(&mut self.shared.folder());
        file.map(Some).map_err(EndpointError::Temporary)
    }

    /// Wait until the runtime has at least `count` invocations that it has not answered: their time limits run.
    /// `false` when `timeout` has passed, in the machine's time, or the environment is closed.
    pub fn wait_until_handed_out(&self, count: usize, timeout: Option<Duration>) -> bool {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        self.shared.hand_out_watchers.fetch_add(1, Ordering::Relaxed);
        let mut machine = self.shared.lock();
        let handed_out = loop {
            if machine.is_closed() {
                break false;
            }
            if machine.handed_out() >= count {
                break true;
            }
            let Some(waited) = self.shared.wait_for_change(machine, deadline) else { break false };
            machine = waited;
        };
        self.shared.hand_out_watchers.fetch_sub(1, Ordering::Relaxed);
        handed_out
    }

    /// What happened since the last call, where `record_telemetry` says so: the events of the Telemetry API, what extensions were told, and shutdowns, one JSON document each.
    pub fn take_telemetry(&self) -> Vec<String> {
        self.shared
            .with(|machine| {
                machine.with_extensions(|machine| machine.sandbox().take_recorded(self.shared.now()))
            })
            .unwrap_or_default()
    }

    /// Run the Init phase now, ahead of the first invocation, if it has not begun.
    pub(crate) fn prepare(&self) {
        self.shared.with(|lifecycle| lifecycle.prepare(self.shared.now()));
    }

    /// What its processes do now.
    pub fn activity(&self) -> Activity {
        self.shared.lock().activity()
    }

    /// The pids of all processes of the environment, those of extensions included.
    pub fn process_ids(&self) -> Vec<i32> {
        self.shared.lock().process_ids()
    }

    /// Suspend the time limit of the current invocation, or of the init that runs, until it ends.
    pub fn pause_timeout(&self) {
        self.shared.with(StateMachine::pause_timeout);
    }

    /// End the processes (spec extensions-telemetry 3.4), answer who waits, stop listening. Returns when they are
    /// reaped: at once without extensions, and after 2 s or so, 6 s at most, with extensions that take their time. Called on the endpoint's own thread, where waiting would be waiting for itself, it returns at once.
    pub fn close(&self) {
        self.close_for(ShutdownReason::Spindown);
    }

    /// Likewise, with what extensions are told for a reason.
    pub fn close_for(&self, reason: ShutdownReason) {
        self.shared.with(|lifecycle| lifecycle.close_for(reason, self.shared.now()));
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
        self.shared.with(|lifecycle| lifecycle.close_for(ShutdownReason::Spindown, self.shared.now()));
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
        if lifecycle.has_served() {
            lifecycle.close_for(ShutdownReason::Spindown, self.now());
        }
        let effects = std::mem::take(&mut lifecycle.sandbox().effects);
        let over = effects.process_changed && lifecycle.is_closed() && !lifecycle.has_process();
        if over {
            lifecycle.sandbox().log.end_line();
        }
        drop(lifecycle);
        self.run(effects);
        if over {
            self.stop();
        }
        result
    }

    /// The moment it is by the environment's clock. Inside [`Self::with`] nobody puts the clock forward meanwhile.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Put the environment's clock forward, and act on what has run out by then.
    pub(crate) fn advance(&self, by: Duration) -> Result<(), EndpointError> {
        self.with(|machine| {
            if machine.is_closed() && !machine.has_process() {
                return Ok(());
            }
            self.clock.advance(by, &mut self.folder()).map_err(EndpointError::Temporary)?;
            machine.skip(by);
            machine.expire(self.now());
            Ok(())
        })
    }

    /// Whether the runtime was told where to look for the clock's time.
    pub(crate) fn tells_time(&self) -> bool {
        self.clock.is_told()
    }

    /// An invocation was handed to the runtime.
    pub(crate) fn handed_out(&self) {
        if self.hand_out_watchers.load(Ordering::Relaxed) > 0 {
            self.process_changed.notify_all();
        }
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
        for entry in effects.entries {
            self.handle.spawn(enter_group(entry, self.handle.clone(), self.myself.clone()));
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

    /// Whether only this machine reaches it.
    pub(crate) fn is_on_loopback(&self) -> bool {
        self.address.ip().is_loopback()
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
            lifecycle.expire(shared.now());
            lifecycle.next_deadline().map(|deadline| shared.clock.real(deadline))
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
        shared.with(|machine| machine.sandbox().drain_log(shared.now()));
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
    shared.with(|lifecycle| lifecycle.process_exited(pid, ended, shared.now()));
}

/// Wait for the end of an extension and of all it started, and take note.
async fn watch_extension(shared: Arc<Shared>, reaper: Arc<Reaper>, mut output: JoinHandle<()>) {
    let ended = reaper.ended().await;
    let pid = reaper.program();
    shared.with(|machine| machine.with_extensions(|machine| machine.sandbox().extension_ended(pid)));
    // What it printed last is read before its end takes effect.
    let _ = tokio::time::timeout(LAST_WORDS, &mut output).await;
    output.abort();
    reaper.release();
    reaper.gone().await;
    shared.with(|machine| {
        machine.with_extensions(|machine| machine.extension_exited(pid, ended.exit, shared.now()))
    });
}

/// An extension's output, line by line, until nobody can write to it any more.
async fn read_extension_log(mut output: pipe::Receiver, name: String, shared: Arc<Shared>) {
    let mut lines = Lines::default();
    let mut chunk = vec![0; 16 * 1024];
    let tell = |line: &str| {
        shared.with(|machine| {
            machine.with_extensions(|machine| machine.sandbox().extension_line(&name, line, shared.now()))
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
    // At once: a sink that hangs takes nothing from the others.
    let mut flushes: JoinSet<()> =
        subscribers.into_iter().map(|subscriber| async move { subscriber.flush().await }).collect();
    let all = async { while flushes.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(telemetry::FLUSH_LIMIT, all).await;
    if let Some(shared) = shared.upgrade() {
        shared.with(|machine| machine.with_extensions(|machine| machine.telemetry_flushed(shared.now())));
    }
}

/// Take programs into their control group on a thread where that may take its time. One at a time: the kernel would
/// have more of them wait for each other, each on a thread of its own.
async fn enter_group(entry: Entry, handle: Handle, shared: Weak<Shared>) {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = TURN.lock().await;
    let entered = handle.spawn_blocking(move || {
        let result = entry.run();
        (entry, result)
    });
    if let Ok((entry, result)) = entered.await
        && let Some(shared) = shared.upgrade()
    {
        shared.with(|machine| machine.entered(entry, &result));
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

    /// Whether its requests have told.
    pub(crate) fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
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
        let mut open = connections.lock();
        let closed = open.by_number.remove(&self.id);
        let runtime_left = self.shared.config.by_hand
            && closed.is_some_and(|(owner, _)| owner.is(Owner::Runtime))
            && !open.by_number.values().any(|(owner, _)| owner.is(Owner::Runtime));
        drop(open);
        connections.one_closed.notify_one();
        if runtime_left {
            self.shared.with(|machine| machine.runtime_left(self.shared.now()));
        }
    }
}
