//! A runtime process: watched until it ends, killed when it must, measured.
//!
//! The process is a child of ours that somebody else started. A pid is only ever signalled under the lifecycle's
//! lock while the process is not yet reaped, so that a reused pid can never be hit.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
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

    fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal { signal: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) }
        } else {
            Self::Status(libc::WEXITSTATUS(status))
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
    /// The kernel's `ru_maxrss` in kB. A child starts with its parent's figure, so this is an upper bound.
    pub max_rss_kb: u64,
}

/// Fails if the pid is not a child of this process.
pub fn is_child(pid: i32) -> io::Result<()> {
    wait_without_reaping(pid, libc::WNOHANG)
}

/// Wait until a child has ended, without reaping it: its pid stays taken.
///
/// Fails if the pid is not a child of this process.
pub fn wait_for_end(pid: i32) -> io::Result<()> {
    wait_without_reaping(pid, 0)
}

fn wait_without_reaping(pid: i32, options: libc::c_int) -> io::Result<()> {
    let Ok(id) = libc::id_t::try_from(pid) else { return Err(io::Error::from_raw_os_error(libc::ECHILD)) };
    loop {
        // SAFETY: the info block is written by the call; WNOWAIT leaves the zombie for `reap`.
        let answer = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, id, &raw mut info, libc::WEXITED | libc::WNOWAIT | options)
        };
        if answer == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Reap an ended child.
pub fn reap(pid: i32) -> io::Result<Ended> {
    let mut status = 0;
    // SAFETY: plain data, written by wait4 before it is read.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live locals of the right types.
        let reaped = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        if reaped == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(Ended {
        exit: Exit::from_wait_status(status),
        max_rss_kb: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    })
}

/// A child that has not been reaped yet.
#[derive(Debug)]
pub struct RuntimeProcess {
    /// Its pid, which is also its process group's id if it leads one.
    pub pid: i32,
    process_group: bool,
    /// It has ended and is about to be reaped: its pid may soon be another's.
    ended: bool,
    /// `/proc/<pid>/status`, kept open: reading it anew is the cheap part.
    status: Option<File>,
    peak_kb: u64,
}

impl RuntimeProcess {
    /// A handle on a running child.
    pub fn new(pid: i32, process_group: bool) -> Self {
        let status = File::open(format!("/proc/{pid}/status")).ok();
        Self { pid, process_group, ended: false, status, peak_kb: 0 }
    }

    /// The process itself has ended. What is left of its group is killed now, while the pid is still taken; after
    /// this nothing is signalled any more.
    pub fn ended(&mut self) {
        if self.process_group {
            self.kill();
        }
        self.ended = true;
    }

    /// SIGKILL the process, with its group if it leads one. What is gone already is no error.
    pub fn kill(&self) {
        if self.ended {
            return;
        }
        let target = if self.process_group { -self.pid } else { self.pid };
        // SAFETY: kill touches no memory of ours; the pid is not reaped as long as this value exists.
        unsafe {
            libc::kill(target, libc::SIGKILL);
        }
    }

    /// The peak resident memory so far in kB, and zero if it was never seen.
    ///
    /// `VmHWM` and not `ru_maxrss`: the latter begins with the parent's peak at the time of the fork.
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

/// The peak resident memory of this process in kB.
pub fn own_peak_memory_kb() -> u64 {
    File::open("/proc/self/status").ok().as_ref().and_then(read_peak).unwrap_or(0)
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
    use std::os::unix::process::CommandExt;
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
    #[expect(clippy::zombie_processes, reason = "reaping is what is tested")]
    fn a_child_is_reaped_with_its_status() {
        let child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        wait_for_end(pid_of(&child)).unwrap();
        assert_eq!(reap(pid_of(&child)).unwrap().exit, Exit::Status(3));
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "reaping is what is tested")]
    fn killing_a_group_takes_the_grandchildren_too() {
        let child = Command::new("sh").args(["-c", "sleep 60 & wait"]).process_group(0).spawn().unwrap();
        let pid = pid_of(&child);
        RuntimeProcess::new(pid, true).kill();
        wait_for_end(pid).unwrap();
        assert_eq!(reap(pid).unwrap().exit, Exit::Signal { signal: libc::SIGKILL, core_dumped: false });
        // The grandchild was orphaned; it is gone once no member of the group is left to signal.
        for _ in 0..200 {
            // SAFETY: signal 0 only asks whether the group exists.
            if unsafe { libc::kill(-pid, 0) } != 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("a member of process group {pid} outlived the kill");
    }

    #[test]
    fn peak_memory_is_the_processs_own() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut process = RuntimeProcess::new(pid_of(&child), false);
        std::thread::sleep(Duration::from_millis(50));
        let peak = process.peak_memory_kb();
        assert!((200..20_000).contains(&peak), "{peak} kB");
        process.kill();
        child.wait().unwrap();
        assert_eq!(process.peak_memory_kb(), peak, "the last figure is kept after the end");
    }

    #[test]
    fn a_process_that_is_not_a_child_is_an_error() {
        assert!(wait_for_end(1).is_err());
    }
}
