//! All processes below a reaper: who they are, and stopping them all with signals.
//!
//! A pid read from `/proc` may be another process's a moment later. Each process is therefore held by a pidfd before it
//! is signalled, and is only signalled if it still is where it was found.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Call `with` with the pid of each process below `root` and its parent's, parents first.
pub fn each_process(root: i32, mut with: impl FnMut(i32, i32)) {
    let mut parents = vec![root];
    let mut text = String::new();
    while let Some(parent) = parents.pop() {
        each_child(parent, &mut text, |pid| {
            with(pid, parent);
            parents.push(pid);
        });
    }
}

/// Call `with` with the pid of each child of `parent`; `text` is working space.
fn each_child(parent: i32, text: &mut String, mut with: impl FnMut(i32)) {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else { return };
    for thread in threads.flatten() {
        // Each thread has a list of its own: of the children that it started.
        text.clear();
        let list = File::open(thread.path().join("children"));
        if list.and_then(|mut list| list.read_to_string(text)).is_ok() {
            text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).for_each(&mut with);
        }
    }
}

/// A process that can be told from a later one with the same pid.
#[derive(Debug)]
pub struct Held {
    /// Its pid, or another's when it has ended.
    pub pid: i32,
    pidfd: OwnedFd,
}

impl Held {
    /// Hold whoever has this pid now. Needs Linux 5.3.
    pub fn open(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, pidfd: open_pidfd(pid)? })
    }

    /// Whether it has not ended: until then the pid is its own.
    pub fn is_there(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, as the count says, and no waiting. A pidfd is readable when its process has ended.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 0 }
    }
}

/// Call `with` with each process below `root` that has not ended, parents first, held so that it is who was found also
/// where nobody keeps pids from being taken anew meanwhile. Ends with the first error.
pub fn each_held(root: &Held, mut with: impl FnMut(&Held) -> io::Result<()>) -> io::Result<()> {
    let mut text = String::new();
    let mut pids = Vec::new();
    each_child(root.pid, &mut text, |pid| pids.push((root.pid, pid)));
    let mut held: Vec<Held> = Vec::new();
    let mut found = 0;
    // Those whose children are still to be looked for are the end of the list.
    loop {
        for (parent, pid) in pids.drain(..) {
            let Ok(process) = Held::open(pid) else { continue };
            let is_child = match state_and_parent(pid) {
                Some((b'Z' | b'X', _)) | None => false,
                Some((_, current)) => current == parent,
            };
            // Only of a parent that is still there was the list its own.
            let parent = held.iter().find(|process| process.pid == parent).unwrap_or(root);
            if is_child && parent.is_there() {
                with(&process)?;
                held.push(process);
            }
        }
        let Some(next) = held.get(found) else { return Ok(()) };
        found += 1;
        each_child(next.pid, &mut text, |pid| pids.push((next.pid, pid)));
    }
}

/// State and parent of a process, from `/proc/<pid>/stat`.
fn state_and_parent(pid: i32) -> Option<(u8, i32)> {
    let mut text = [0; 512];
    let length = File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut text)).ok()?;
    // The program's name, in parentheses, may hold anything.
    let rest = &text[text[..length].iter().rposition(|byte| *byte == b')')? + 1..length];
    let mut fields = std::str::from_utf8(rest).ok()?.split_ascii_whitespace();
    Some((*fields.next()?.as_bytes().first()?, fields.next()?.parse().ok()?))
}

/// Processes that were stopped, in the order in which they were. They go on with [`Self::thaw`], not by being dropped.
#[derive(Debug, Default)]
pub struct Frozen {
    processes: Vec<(i32, OwnedFd)>,
}

impl Frozen {
    /// Whether nobody is stopped.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Stop every process below `root` that runs. Who is stopped already stays as it is, now and afterwards.
    ///
    /// Needs pidfds, thus Linux 5.3; stops nothing before.
    pub fn freeze(&mut self, root: i32) {
        loop {
            let before = self.processes.len();
            each_process(root, |pid, parent| {
                if !self.processes.iter().any(|(stopped, _)| *stopped == pid) {
                    self.stop(pid, parent);
                }
            });
            // A process that forked before it was stopped has a child that was not; nobody else can have one.
            if self.processes.len() == before {
                return;
            }
        }
    }

    fn stop(&mut self, pid: i32, parent: i32) {
        let Ok(process) = open_pidfd(pid) else { return };
        // Held now: if this is who was found, it is who is signalled.
        match state_and_parent(pid) {
            Some((b'T' | b't' | b'Z' | b'X', _)) | None => {}
            Some((_, current)) if current == parent => {
                if send(&process, libc::SIGSTOP) {
                    self.processes.push((pid, process));
                }
            }
            Some(_) => {}
        }
    }

    /// Let them go on.
    pub fn thaw(&mut self) {
        for (_, process) in self.processes.drain(..) {
            send(&process, libc::SIGCONT);
        }
    }
}

/// A descriptor of the process, close-on-exec.
pub fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers and returns a new descriptor.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match RawFd::try_from(pidfd) {
        // SAFETY: nothing else owns it.
        Ok(pidfd) if pidfd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(pidfd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the signal could be sent.
fn send(process: &OwnedFd, signal: libc::c_int) -> bool {
    let no_info = std::ptr::null_mut::<libc::siginfo_t>();
    // SAFETY: the descriptor is a pidfd; without info the kernel fills in its own.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, no_info, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::process::{Child, Command, Stdio};

    fn state(pid: i32) -> u8 {
        state_and_parent(pid).unwrap().0
    }

    fn wait_for(pid: i32, expected: u8) {
        let began = std::time::Instant::now();
        while state(pid) != expected {
            assert!(began.elapsed().as_secs() < 10, "{pid} is {}", char::from(state(pid)));
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// A shell with two children, one of which has stopped itself.
    fn family() -> (Child, i32, [i32; 2]) {
        let script = "sleep 60 & echo $!; sh -c 'kill -STOP $$' & echo $!; wait";
        let mut shell = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let children = [(); 2].map(|()| lines.next().unwrap().unwrap().parse().unwrap());
        let pid = i32::try_from(shell.id()).unwrap();
        wait_for(children[1], b'T');
        (shell, pid, children)
    }

    fn end(mut shell: Child, children: [i32; 2]) {
        shell.kill().unwrap();
        shell.wait().unwrap();
        for child in children {
            // SAFETY: of children that nobody has reaped.
            unsafe {
                libc::kill(child, libc::SIGKILL);
            }
        }
    }

    #[test]
    fn descendants_are_found_below_their_parents() {
        let (shell, pid, children) = family();
        let mut found = Vec::new();
        each_process(pid, |child, parent| found.push((child, parent)));
        found.sort_unstable();
        let mut expected = children.map(|child| (child, pid));
        expected.sort_unstable();
        assert_eq!(found, expected);
        end(shell, children);
    }

    #[test]
    fn all_are_stopped_and_go_on_but_who_had_stopped_before() {
        let (shell, pid, children) = family();
        let mut frozen = Frozen::default();
        frozen.freeze(pid);
        wait_for(children[0], b'T');
        assert_eq!(frozen.processes.len(), 1);
        frozen.freeze(pid);
        assert_eq!(frozen.processes.len(), 1, "nobody is stopped twice");
        frozen.thaw();
        wait_for(children[0], b'S');
        assert_eq!(state(children[1]), b'T');
        end(shell, children);
    }

    #[test]
    fn a_process_that_is_somebody_elses_now_is_left_alone() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mut frozen = Frozen::default();
        frozen.stop(pid, 1);
        assert!(frozen.processes.is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
