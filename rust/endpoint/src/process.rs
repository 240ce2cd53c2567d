//! A runtime process: killed when it must, measured, and how it ended.
//!
//! Its parent is a reaper (`reaper`), which keeps the pid taken until it is released. A pid is only ever signalled under
//! the lifecycle's lock before that, so that a reused pid can never be hit.

use std::sync::Arc;

use crate::memory::MemoryMeter;
use crate::process_tree::{self, Frozen};
use crate::reaper::Reaper;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With an exit status.
    Status(i32),
    /// By a signal.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel wrote a core file.
        core_dumped: bool,
    },
}

impl Exit {
    /// The platform's sentence, which is Go's text for the process state (spec runtime-api 1.8, rule 6).
    pub fn reason(self) -> String {
        match self {
            Self::Status(0) => "Runtime exited without providing a reason".to_owned(),
            Self::Status(status) => format!("Runtime exited with error: exit status {status}"),
            Self::Signal { signal, core_dumped } => {
                let core = if core_dumped { " (core dumped)" } else { "" };
                format!("Runtime exited with error: signal: {}{core}", signal_text(signal))
            }
        }
    }

    /// The platform's words for an extension's end (spec extensions-telemetry 3.3).
    pub fn of_extension(self) -> String {
        match self {
            Self::Status(0) => "exit code 0".to_owned(),
            Self::Status(status) => format!("exit status {status}"),
            Self::Signal { signal, core_dumped } => {
                let core = if core_dumped { " (core dumped)" } else { "" };
                format!("signal: {}{core}", signal_text(signal))
            }
        }
    }

    /// The end of a child as `waitid` reports it.
    pub fn from_child_code(code: i32, status: i32) -> Self {
        match code {
            libc::CLD_KILLED => Self::Signal { signal: status, core_dumped: false },
            libc::CLD_DUMPED => Self::Signal { signal: status, core_dumped: true },
            _ => Self::Status(status),
        }
    }
}

/// Go's name of a signal on Linux.
fn signal_text(signal: i32) -> String {
    let text = match signal {
        libc::SIGABRT => "aborted",
        libc::SIGALRM => "alarm clock",
        libc::SIGBUS => "bus error",
        libc::SIGCHLD => "child exited",
        libc::SIGCONT => "continued",
        libc::SIGFPE => "floating point exception",
        libc::SIGHUP => "hangup",
        libc::SIGILL => "illegal instruction",
        libc::SIGINT => "interrupt",
        libc::SIGIO => "I/O possible",
        libc::SIGKILL => "killed",
        libc::SIGPIPE => "broken pipe",
        libc::SIGPROF => "profiling timer expired",
        libc::SIGPWR => "power failure",
        libc::SIGQUIT => "quit",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGSTKFLT => "stack fault",
        libc::SIGSTOP => "stopped (signal)",
        libc::SIGSYS => "bad system call",
        libc::SIGTERM => "terminated",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGTSTP => "stopped",
        libc::SIGTTIN => "stopped (tty input)",
        libc::SIGTTOU => "stopped (tty output)",
        libc::SIGURG => "urgent I/O condition",
        libc::SIGUSR1 => "user defined signal 1",
        libc::SIGUSR2 => "user defined signal 2",
        libc::SIGVTALRM => "virtual timer expired",
        libc::SIGWINCH => "window changed",
        libc::SIGXCPU => "CPU time limit exceeded",
        libc::SIGXFSZ => "file size limit exceeded",
        other => return format!("signal {other}"),
    };
    text.to_owned()
}

/// How a process ended, and what it used.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Its end.
    pub exit: Exit,
    /// The kernel's `ru_maxrss` in kB.
    pub max_rss_kb: u64,
}

/// A process whose pid is still its own.
#[derive(Debug)]
pub struct RuntimeProcess {
    /// Its pid, which is also its process group's id if it leads one.
    pub pid: i32,
    process_group: bool,
    /// Its parent; none where a test started it.
    reaper: Option<Arc<Reaper>>,
    /// It has ended and is about to be released: its pid may soon be another's.
    ended: bool,
    frozen: Frozen,
    memory: MemoryMeter,
}

impl RuntimeProcess {
    /// A handle on a running process, child of a child of ours.
    pub fn new(pid: i32, process_group: bool) -> Self {
        let memory = MemoryMeter::new(pid, None);
        Self { pid, process_group, reaper: None, ended: false, frozen: Frozen::default(), memory }
    }

    /// A handle on the program of a reaper.
    pub fn under(reaper: &Arc<Reaper>, process_group: bool) -> Self {
        let memory = MemoryMeter::new(reaper.program(), Some(reaper.pid()));
        Self { reaper: Some(Arc::clone(reaper)), memory, ..Self::new(reaper.program(), process_group) }
    }

    /// The process and all it started have ended. After this nothing is signalled any more.
    pub fn ended(&mut self) {
        self.ended = true;
    }

    /// SIGKILL the process and everything it started, directly or not. What is gone already is no error.
    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
        if let Some(reaper) = &self.reaper {
            reaper.kill();
        }
    }

    /// The pids of the process and everything it started.
    pub fn tree(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        if let Some(reaper) = self.reaper() {
            process_tree::each_process(reaper.pid(), |pid, _| pids.push(pid));
        }
        pids
    }

    /// Its parent, as long as it has not ended.
    pub fn reaper(&self) -> Option<&Arc<Reaper>> {
        self.reaper.as_ref().filter(|_| !self.ended)
    }

    /// Stop the process and everything it started with signals, until [`Self::thaw`] or their end.
    pub fn freeze(&mut self) {
        if let Some(root) = self.reaper().map(|reaper| reaper.pid()) {
            self.frozen.freeze(root);
        }
    }

    /// Whether anything is stopped with signals.
    pub fn is_frozen(&self) -> bool {
        !self.frozen.is_empty()
    }

    /// Let those go on that were stopped with signals.
    pub fn thaw(&mut self) {
        self.frozen.thaw();
    }

    /// Send a signal to the process, and to its group if it leads one.
    fn signal(&self, signal: libc::c_int) {
        if self.ended {
            return;
        }
        let target = if self.process_group { -self.pid } else { self.pid };
        // SAFETY: kill touches no memory of ours; the pid is not released before `ended` says so.
        unsafe {
            libc::kill(target, signal);
        }
    }

    /// SIGTERM, likewise.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// The peak of the memory used so far in kB, and zero if it was never seen.
    pub fn peak_memory_kb(&mut self) -> u64 {
        self.memory.peak_kb()
    }

    /// The memory that the process and everything it started use now, in kB.
    pub fn sample_memory_kb(&mut self) -> u64 {
        self.memory.sample()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_described_as_go_describes_them() {
        assert_eq!(Exit::Status(0).reason(), "Runtime exited without providing a reason");
        assert_eq!(Exit::Status(127).reason(), "Runtime exited with error: exit status 127");
        let by = |signal, core_dumped| Exit::Signal { signal, core_dumped }.reason();
        assert_eq!(by(9, false), "Runtime exited with error: signal: killed");
        assert_eq!(by(11, true), "Runtime exited with error: signal: segmentation fault (core dumped)");
        assert_eq!(by(6, false), "Runtime exited with error: signal: aborted");
        assert_eq!(by(40, false), "Runtime exited with error: signal: signal 40");
        assert_eq!(Exit::Status(0).of_extension(), "exit code 0");
        assert_eq!(Exit::Status(2).of_extension(), "exit status 2");
        let killed = Exit::Signal { signal: 9, core_dumped: false };
        assert_eq!(killed.of_extension(), "signal: killed");
    }
}
