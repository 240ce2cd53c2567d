//! A runtime process: killed when it must, measured, and how it ended.
//!
//! Its parent is a reaper (`reaper`), which keeps the pid taken until it is released. A pid is only ever signalled under
//! the lifecycle's lock before that, so that a reused pid can never be hit.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::process_tree::Frozen;
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
    /// `/proc/<pid>/status`, kept open: reading it anew is the cheap part.
    status: Option<File>,
    peak_kb: u64,
}

impl RuntimeProcess {
    /// A handle on a running process, child of a child of ours.
    pub fn new(pid: i32, process_group: bool) -> Self {
        let status = File::open(format!("/proc/{pid}/status")).ok();
        Self { pid, process_group, reaper: None, ended: false, frozen: Frozen::default(), status, peak_kb: 0 }
    }

    /// A handle on the program of a reaper.
    pub fn under(reaper: &Arc<Reaper>, process_group: bool) -> Self {
        Self { reaper: Some(Arc::clone(reaper)), ..Self::new(reaper.program(), process_group) }
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

    /// Stop the process and everything it started, until [`Self::thaw`] or their end.
    pub fn freeze(&mut self) {
        if let Some(reaper) = self.reaper.as_ref().filter(|_| !self.ended) {
            self.frozen.freeze(reaper.pid());
        }
    }

    /// Let those go on that were stopped.
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

    /// The peak resident memory so far in kB, and zero if it was never seen.
    ///
    pub fn peak_memory_kb(&mut self) -> u64 {
        if let Some(peak) = self.status.as_ref().and_then(read_peak) {
            self.peak_kb = self.peak_kb.max(peak);
        }
        self.peak_kb
    }

    /// The same for the process and its children together. Pages that they share count for each of them.
    pub fn peak_memory_with_children_kb(&mut self) -> u64 {
        let pid = self.pid;
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let peaks = children
            .split_ascii_whitespace()
            .filter_map(|child| read_peak(&File::open(format!("/proc/{child}/status")).ok()?));
        self.peak_memory_kb() + peaks.sum::<u64>()
    }
}

/// `VmHWM` in kB; a process that has ended has none.
fn read_peak(status: &File) -> Option<u64> {
    // VmHWM comes some 350 bytes into the text; supplementary groups before it can be many.
    let mut buffer = [0; 4096];
    let length = status.read_at(&mut buffer, 0).ok()?;
    let text = std::str::from_utf8(&buffer[..length]).ok()?;
    let rest = &text[text.find("VmHWM:")? + "VmHWM:".len()..];
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;
    use std::time::Duration;

    fn pid_of(child: &std::process::Child) -> i32 {
        i32::try_from(child.id()).unwrap()
    }

    #[test]
    fn exits_are_described_as_go_describes_them() {
        assert_eq!(Exit::Status(0).reason(), "Runtime exited without providing a reason");
        assert_eq!(Exit::Status(127).reason(), "Runtime exited with error: exit status 127");
        let by = |signal, core_dumped| Exit::Signal { signal, core_dumped }.reason();
        assert_eq!(by(9, false), "Runtime exited with error: signal: killed");
        assert_eq!(by(11, true), "Runtime exited with error: signal: segmentation fault (core dumped)");
        assert_eq!(by(6, false), "Runtime exited with error: signal: aborted");
        assert_eq!(by(40, false), "Runtime exited with error: signal: signal 40");
    }

    #[test]
    fn peak_memory_is_the_processs_own() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut process = RuntimeProcess::new(pid_of(&child), false);
        std::thread::sleep(Duration::from_millis(50));
        let peak = process.peak_memory_kb();
        assert!((200..20_000).contains(&peak), "{peak} kB");
        process.kill();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert_eq!(process.peak_memory_kb(), peak, "the last figure is kept after the end");
    }
}
