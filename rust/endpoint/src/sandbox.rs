//! What an environment has however it runs invocations: its processes, extensions, telemetry and log, without any input or
//! output but the log. The two machines, [`crate::lifecycle`] and [`crate::managed`], each own one; what happens to
//! it that is theirs to act on, such as that everything is gone, is the result of the call.
//!
//! | file | subject |
//! |---|---|
//! | `extensions` | what extensions ask, and their processes |
//! | `shutdown` | the Shutdown phase |
//! | `events` | what subscribers are told |

pub(crate) mod events;
mod extensions;
mod shutdown;

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::environment::EnvironmentConfig;
use crate::extensions::{Extensions, ShutdownReason};
use crate::identifiers;
use crate::invocation::{Answer, AnswerWaiter, FinishWaiter, InvokeResult};
use crate::lifecycle::freezing::{Entry, Freezer};
use crate::log_capture::LogCapture;
use crate::process::RuntimeProcess;
use crate::telemetry::{Subscriber, Telemetry};
pub(crate) use extensions::ExtensionEnd;
pub(crate) use shutdown::Ended;
use shutdown::ExtensionShutdown;

/// A runtime that reported a failed init is expected to exit; one that does not is killed after this time.
pub(crate) const EXIT_GRACE: Duration = Duration::from_secs(1);
/// A killed process that is still there after this time is given up (spec extensions-telemetry 3.8, reap).
pub(crate) const REAP_LIMIT: Duration = Duration::from_secs(2);

/// What the caller of a machine's method does after releasing the lock.
#[derive(Default)]
pub struct Effects {
    pub answers: Vec<(AnswerWaiter, Answer)>,
    pub finishes: Vec<(FinishWaiter, Box<InvokeResult>)>,
    pub pollers: Vec<Waker>,
    /// Whom events are to be delivered to from now on.
    pub subscribers: Vec<Arc<Subscriber>>,
    /// Whose last events are to be sent now; then `telemetry_flushed`.
    pub flush: Vec<Arc<Subscriber>>,
    /// Programs to be taken into control groups; then `entered`.
    pub entries: Vec<Entry>,
    /// A process is wanted, or the environment or its process ended: look again.
    pub process_changed: bool,
    /// A deadline came nearer than the one the timer sleeps for.
    pub timer_changed: bool,
}

/// Where the environment's process stands.
#[derive(Debug)]
pub(crate) enum ProcessSlot {
    None,
    /// One is wanted when all external extensions have registered.
    AwaitsExtensions,
    /// Somebody is asked to start one.
    Wanted,
    /// Somebody took the request.
    Starting,
    Running(RuntimeProcess),
}

impl ProcessSlot {
    /// The process, if one runs.
    pub(crate) fn running(&self) -> Option<&RuntimeProcess> {
        if let Self::Running(process) = self { Some(process) } else { None }
    }
}

/// Whether somebody is starting a process whose pid is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Launch {
    None,
    UnderWay,
    /// The environment that it was for is gone.
    Void,
}

/// A process on its way out.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) deadline: Instant,
    pub(crate) killed: bool,
}

/// The part of an environment's state that both machines have.
pub struct Sandbox {
    pub(crate) config: EnvironmentConfig,
    pub(crate) process: ProcessSlot,
    pub(crate) launch: Launch,
    /// The runtime on its way out.
    pub(crate) ending: Option<Ending>,
    pub(crate) armed: Option<Instant>,
    pub(crate) closed: bool,
    /// It takes no more invocations, and is closed when it has none.
    pub(crate) retired: bool,
    /// The most memory that the processes were seen to use since the runtime was started.
    pub(crate) peak_kb: u64,
    pub(crate) function_arn: String,
    pub(crate) instance_id: String,
    pub(crate) extensions: Extensions,
    pub(crate) extension_processes: Vec<(String, RuntimeProcess)>,
    pub(crate) extension_shutdown: Option<ExtensionShutdown>,
    pub(crate) shutdown_reason: ShutdownReason,
    pub(crate) shutdown_began: Option<Instant>,
    pub(crate) freezer: Freezer,
    pub(crate) telemetry: Telemetry,
    pub(crate) log: LogCapture,
    pub(crate) effects: Effects,
}

impl Sandbox {
    /// Without a process.
    pub fn new(config: EnvironmentConfig) -> Self {
        let mut telemetry = Telemetry::new(config.json_logs, config.max_concurrency.is_some());
        if config.record_telemetry {
            telemetry.record_everything();
        }
        Self {
            log: LogCapture::of(&config),
            function_arn: config.function_arn(),
            instance_id: identifiers::request_id(),
            extensions: Extensions::new(config.extensions.clone(), config.max_concurrency.is_some()),
            extension_processes: Vec::new(),
            extension_shutdown: None,
            shutdown_reason: ShutdownReason::Failure,
            shutdown_began: None,
            telemetry,
            freezer: Freezer::new(config.freezer),
            config,
            process: ProcessSlot::None,
            launch: Launch::None,
            ending: None,
            armed: None,
            closed: false,
            retired: false,
            peak_kb: 0,
            effects: Effects::default(),
        }
    }

    /// Whether it is one of Managed Instances.
    pub(crate) fn is_managed(&self) -> bool {
        self.config.max_concurrency.is_some()
    }

    /// Have the timer look at `deadline`, unless it will wake before anyway: one alarm serves many invocations.
    pub(crate) fn arm(&mut self, deadline: Instant) {
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.armed = Some(deadline);
            self.effects.timer_changed = true;
        }
    }

    /// What the timer has to look at here.
    pub(crate) fn deadlines(&self) -> [Option<Instant>; 2] {
        let extensions = self.extension_shutdown.as_ref().and_then(|shutdown| shutdown.deadline);
        [self.ending.as_ref().map(|ending| ending.deadline), extensions]
    }

    /// What was recorded since the last call, where the environment records.
    pub fn take_recorded(&mut self, now: Instant) -> Vec<String> {
        self.drain_log(now);
        self.telemetry.take_recorded()
    }

    // ---- processes ---------------------------------------------------------------------------------------------

    /// A process is wanted: at once, or when all external extensions have registered.
    pub(crate) fn want_process(&mut self) {
        self.process = ProcessSlot::Wanted;
        if self.extensions.has_external() {
            self.extensions.launch();
            self.process = ProcessSlot::AwaitsExtensions;
        }
        self.effects.process_changed = true;
    }

    /// Whether a process is there that has not been seen to end.
    pub fn has_process(&self) -> bool {
        matches!(self.process, ProcessSlot::Running(_))
            || !self.extension_processes.is_empty()
            || self.extension_shutdown.is_some()
    }

    /// The runtime's and the extensions'.
    pub(crate) fn all_processes(&mut self) -> impl Iterator<Item = &mut RuntimeProcess> {
        let runtime = match &mut self.process {
            ProcessSlot::Running(process) => Some(process),
            _ => None,
        };
        runtime.into_iter().chain(self.extension_processes.iter_mut().map(|(_, process)| process))
    }

    /// Whether the processes are stopped.
    pub(crate) fn stands_still(&self) -> bool {
        self.freezer.frozen() || self.process.running().is_some_and(RuntimeProcess::is_frozen)
    }

    /// What stops the processes, as its option is called.
    pub fn freezer_name(&self) -> String {
        // Managed Instances are never frozen.
        if self.config.freeze && !self.is_managed() {
            self.freezer.version().map_or_else(|| "signals".to_owned(), |version| version.to_string())
        } else {
            "off".to_owned()
        }
    }

    /// The pids of all processes of the environment.
    pub fn process_ids(&self) -> Vec<i32> {
        let extensions = self.extension_processes.iter().map(|(_, process)| process);
        self.process.running().into_iter().chain(extensions).flat_map(RuntimeProcess::tree).collect()
    }

    /// Take the request for a process, if there is one.
    pub fn take_start(&mut self) -> bool {
        let wanted = matches!(self.process, ProcessSlot::Wanted);
        if wanted {
            self.process = ProcessSlot::Starting;
        }
        wanted
    }

    /// A process is being started. On a busy machine its runtime polls before its starter hears of its pid: it waits
    /// then, for a process that is not known is not measured, frozen or killed.
    pub fn process_starting(&mut self) {
        self.launch = Launch::UnderWay;
    }

    /// The runtime's process and all it started have ended, but its pid is still taken: from here on it is not
    /// signalled.
    pub fn process_ended(&mut self, pid: i32) {
        if let ProcessSlot::Running(process) = &mut self.process
            && process.pid == pid
        {
            process.ended();
        }
    }

    pub(crate) fn peak_memory_kb(&mut self) -> u64 {
        if let ProcessSlot::Running(process) = &mut self.process {
            self.peak_kb = self.peak_kb.max(process.peak_memory_kb());
        }
        self.peak_kb
    }

    /// Everything goes on that stands still.
    pub(crate) fn thaw(&mut self) {
        self.freezer.thaw();
        for process in self.all_processes() {
            process.thaw();
        }
        self.telemetry.pause(false);
    }

    /// Whether there was a runtime's process to kill.
    pub(crate) fn kill_process(&mut self, now: Instant) -> bool {
        let ProcessSlot::Running(process) = &mut self.process else { return false };
        self.peak_kb = self.peak_kb.max(process.peak_memory_kb());
        process.kill();
        self.ending = Some(Ending { deadline: now + REAP_LIMIT, killed: true });
        self.arm(now + REAP_LIMIT);
        true
    }

    /// The runtime's time to end is up, if it is: it is killed. `true` if that is not possible (a hung device, say):
    /// whoever waits must not hang with it.
    pub(crate) fn expire_ending(&mut self, now: Instant) -> bool {
        let Some(ending) = self.ending.as_mut().filter(|ending| ending.deadline <= now) else { return false };
        if ending.killed {
            return true;
        }
        if self.launch == Launch::UnderWay {
            // Its starter is about to say which process that is.
            ending.deadline = now + EXIT_GRACE;
            return false;
        }
        !self.kill_process(now)
    }

    /// The clock was put forward: a process that is to end by itself, or by SIGKILL, keeps the real time that it had
    /// left, so that no kill is given up because of it.
    pub(crate) fn skip(&mut self, by: Duration) {
        let killed = self.extension_shutdown.as_mut().filter(|shutdown| shutdown.is_kill());
        // A grace that the Shutdown phase gives is a time limit.
        let in_shutdown = self.shutdown_began.is_some();
        let ending = self.ending.as_mut().filter(|ending| ending.killed || !in_shutdown);
        let deadlines = [
            ending.map(|ending| &mut ending.deadline),
            killed.and_then(|shutdown| shutdown.deadline.as_mut()),
        ];
        for deadline in deadlines.into_iter().flatten() {
            *deadline += by;
        }
        self.effects.timer_changed = true;
    }

    /// The environment is without a process again: a new generation begins.
    pub(crate) fn reset(&mut self) {
        self.process = ProcessSlot::None;
        if self.launch == Launch::UnderWay {
            self.launch = Launch::Void;
        }
        self.extension_shutdown = None;
        self.shutdown_began = None;
        self.extensions.reset();
        self.freezer.reset();
        self.telemetry.reset();
        self.ending = None;
        self.effects.process_changed = true;
    }
}
