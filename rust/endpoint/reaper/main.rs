//! The reaper: parent of one program and of everything it leaves behind.
//!
//! It starts the program, tells the endpoint how that ended, and sees to it that nothing the program started lives
//! longer than the program or the endpoint, however the endpoint ended. As a subreaper it becomes the parent of
//! every orphan below it, of those too that left their process group and session. It only ever signals its own
//! children, whose pids cannot be another's before it reaps them; who is killed leaves it the next generation.
//!
//! `caloric-reaper ENDPOINT_PID MODE CWD TEMPORARY PROGRAM ARGUMENT...`
//!
//! - `MODE`: `g` puts the program into a process group of its own, `-` into the endpoint's, as a terminal needs it.
//! - `CWD`: where the program runs; empty: here.
//! - `TEMPORARY`: a folder to remove when the endpoint ended without a goodbye; empty: none. So is the control group
//!   that the endpoint has named later.
//! - Descriptors 0, 1, 2 are the program's; 3 is the control socket (packets, see `src/reaper.rs`).
//! - The environment is the program's, with `=` before each name: the dynamic linker must not see a function's
//!   `LD_PRELOAD` here.
//!
//! Compiled twice: without the standard library for use (`build.rs`), and with it as a target that Cargo checks.

#![cfg_attr(embedded, no_std)]
#![no_main]

use core::ffi::{c_char, c_int, c_long, c_short, c_uint, c_ulong, c_void};
use core::ptr;

// ---- the C library, as far as it is needed (Linux, 64 bit) -----------------------------------------------------

type SignalSet = [u64; 16];

#[repr(C)]
struct PollFd {
    fd: c_int,
    events: c_short,
    revents: c_short,
}

/// `siginfo_t` as `waitid` fills it.
#[repr(C)]
struct ChildInfo {
    signal: c_int,
    errno: c_int,
    code: c_int,
    padding: c_int,
    pid: c_int,
    uid: c_uint,
    status: c_int,
    rest: [c_int; 25],
}

#[repr(C)]
struct ResourceUse {
    times: [c_long; 4],
    max_rss: c_long,
    rest: [c_long; 13],
}

/// `struct sigaction` of glibc and musl.
#[repr(C)]
struct SignalAction {
    handler: usize,
    mask: SignalSet,
    flags: c_int,
    restorer: usize,
}

#[link(name = "c")]
unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
    fn _exit(status: c_int) -> !;
    fn chdir(path: *const c_char) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn dup2(old: c_int, new: c_int) -> c_int;
    fn execve(path: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn fork() -> c_int;
    fn getpgid(pid: c_int) -> c_int;
    fn getpid() -> c_int;
    fn getppid() -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn openat(folder: c_int, path: *const c_char, flags: c_int, ...) -> c_int;
    fn pipe2(ends: *mut c_int, flags: c_int) -> c_int;
    fn poll(fds: *mut PollFd, count: c_ulong, timeout_ms: c_int) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn read(fd: c_int, buffer: *mut c_void, length: usize) -> isize;
    fn recv(fd: c_int, buffer: *mut c_void, length: usize, flags: c_int) -> isize;
    fn rmdir(path: *const c_char) -> c_int;
    fn send(fd: c_int, buffer: *const c_void, length: usize, flags: c_int) -> isize;
    fn setpgid(pid: c_int, group: c_int) -> c_int;
    fn sigaction(signal: c_int, new: *const SignalAction, old: *mut SignalAction) -> c_int;
    fn sigfillset(set: *mut SignalSet) -> c_int;
    fn signalfd(fd: c_int, mask: *const SignalSet, flags: c_int) -> c_int;
    fn sigprocmask(how: c_int, new: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn write(fd: c_int, buffer: *const c_void, length: usize) -> isize;
}

#[cfg(target_arch = "x86_64")]
const SYS_WAITID: c_long = 247;
#[cfg(not(target_arch = "x86_64"))]
const SYS_WAITID: c_long = 95;
const SYS_PIDFD_OPEN: c_long = 434;
const SYS_CLOSE_RANGE: c_long = 436;

const PR_SET_PDEATHSIG: c_int = 1;
const PR_SET_NAME: c_int = 15;
const PR_SET_CHILD_SUBREAPER: c_int = 36;
const P_PID: c_int = 1;
const WNOHANG: c_int = 1;
const WEXITED: c_int = 4;
const WNOWAIT: c_int = 0x0100_0000;
const SIG_DFL: usize = 0;
const SIG_SETMASK: c_int = 2;
const SA_NOCLDSTOP: c_int = 1;
const SIGKILL: c_int = 9;
const SIGPIPE: c_int = 13;
const SIGCHLD: c_int = 17;
const SIGXFSZ: c_int = 25;
const O_RDONLY: c_int = 0;
const O_WRONLY: c_int = 1;
const O_RDWR: c_int = 2;
const O_NONBLOCK: c_int = 0o4000;
const O_CLOEXEC: c_int = 0o2_000_000;
const F_SETFD: c_int = 2;
const F_DUPFD_CLOEXEC: c_int = 1030;
const FD_CLOEXEC: c_int = 1;
const POLLIN: c_short = 1;
const MSG_DONTWAIT: c_int = 0x40;
const MSG_NOSIGNAL: c_int = 0x4000;
const EINTR: c_int = 4;
const EAGAIN: c_int = 11;
const EBUSY: c_int = 16;

// ---- what is said on the control socket ------------------------------------------------------------------------

const CONTROL: c_int = 3;

/// A packet to the endpoint; `src/reaper.rs` reads it.
#[repr(C)]
struct Report {
    kind: i32,
    value: i32,
    detail: i32,
    padding: i32,
    max_rss_kb: i64,
}

/// `value` is the program's pid.
const STARTED: i32 = 1;
/// `value` is the error's number.
const FAILED: i32 = 2;
/// `value` is waitid's code, `detail` its status. Nothing the program started is left.
const ENDED: i32 = 3;

/// A byte from the endpoint: end it all.
const KILL: u8 = b'K';
/// A byte from the endpoint: nobody needs the pid any more.
const RELEASE: u8 = b'R';
/// This byte and a path: the control group that the program's processes are in, or about to be.
const GROUP: u8 = b'G';

/// A packet from the endpoint has at most a path.
const PACKET: usize = 4096;

/// A group of which others are still leaving is tried again so often, every 10 ms.
const REMOVAL_ATTEMPTS: c_int = 50;

/// The end is reported after this time even if something cannot be killed (a hung device, say).
const LEFTOVERS_MS: c_int = 1000;

/// The entry point: the C library calls it, and nothing of Rust's own is set up before.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, argv: *const *const c_char, envp: *mut *const c_char) -> c_int {
    // SAFETY: the strings are the process's own and live as long as it does; the endpoint passes at least six.
    unsafe {
        if count < 6 {
            return 2;
        }
        run(argv, envp)
    }
}

/// SAFETY: `argv` has the arguments named above and ends with a null pointer, as `envp` does.
unsafe fn run(argv: *const *const c_char, envp: *mut *const c_char) -> c_int {
    // SAFETY: calls of the C library on values of ours; one thread.
    unsafe {
        let endpoint = number(*argv.add(1));
        let mut all: SignalSet = [0; 16];
        let mut before: SignalSet = [0; 16];
        sigfillset(&raw mut all);
        // Nothing but SIGKILL ends the reaper: a terminal's Ctrl-C is for the endpoint.
        sigprocmask(SIG_SETMASK, &raw const all, &raw mut before);
        prctl(PR_SET_CHILD_SUBREAPER, 1 as c_ulong, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong);
        prctl(PR_SET_NAME, c"caloric-reaper".as_ptr());
        let quiet = SignalAction { handler: SIG_DFL, mask: [0; 16], flags: SA_NOCLDSTOP, restorer: 0 };
        let mut inherited = SignalAction { handler: SIG_DFL, mask: [0; 16], flags: 0, restorer: 0 };
        sigaction(SIGCHLD, &raw const quiet, &raw mut inherited);
        let group = getpgid(0);
        // What kills the endpoint's whole group must not take the reaper along.
        setpgid(0, 0);
        fcntl(CONTROL, F_SETFD, FD_CLOEXEC);
        let parent = out_of_the_way(c_int::try_from(syscall(SYS_PIDFD_OPEN, endpoint, 0)).unwrap_or(-1));
        if getppid() != endpoint {
            return 0;
        }
        let program = match start(argv, envp, if is(*argv.add(2), b'g') { 0 } else { group }, &before) {
            Ok(pid) => pid,
            Err(error) => {
                report(FAILED, error, 0, 0);
                return 1;
            }
        };
        report(STARTED, program, 0, 0);
        let signals = out_of_the_way(signalfd(-1, &raw const all, O_NONBLOCK | O_CLOEXEC));
        let_go(signals, parent);
        let mut reaper = Reaper { program, endpoint: parent, signals, group: [0; PACKET] };
        let orphaned = reaper.watch();
        if orphaned {
            reaper.remove_group();
        }
        if orphaned && !is(*argv.add(4), 0) {
            let rm = [c"rm".as_ptr(), c"-rf".as_ptr(), c"--".as_ptr(), *argv.add(4), ptr::null()];
            let environment = [ptr::null()];
            execve(c"/bin/rm".as_ptr(), rm.as_ptr(), environment.as_ptr());
        }
        0
    }
}

/// Start the program; its pid, or the error's number.
///
/// SAFETY: as `run`.
unsafe fn start(
    argv: *const *const c_char,
    envp: *mut *const c_char,
    group: c_int,
    mask: &SignalSet,
) -> Result<c_int, c_int> {
    // SAFETY: as in `run`; the child of a process with one thread may call anything.
    unsafe {
        let reaper = getpid();
        let mut ends = [-1; 2];
        if pipe2(ends.as_mut_ptr(), O_CLOEXEC) != 0 {
            return Err(errno());
        }
        let pid = fork();
        if pid < 0 {
            return Err(errno());
        }
        if pid == 0 {
            // Should the reaper be killed, at least the program goes with it.
            prctl(PR_SET_PDEATHSIG, SIGKILL as c_ulong);
            if getppid() != reaper {
                _exit(127);
            }
            setpgid(0, group);
            // Python ignores these two, and a program must not inherit that.
            let default = SignalAction { handler: SIG_DFL, mask: [0; 16], flags: 0, restorer: 0 };
            sigaction(SIGPIPE, &raw const default, ptr::null_mut());
            sigaction(SIGXFSZ, &raw const default, ptr::null_mut());
            sigaction(SIGCHLD, &raw const default, ptr::null_mut());
            sigprocmask(SIG_SETMASK, mask, ptr::null_mut());
            let mut variable = envp;
            while !(*variable).is_null() {
                *variable = (*variable).add(1);
                variable = variable.add(1);
            }
            let moved = is(*argv.add(3), 0) || chdir(*argv.add(3)) == 0;
            if moved {
                execve(*argv.add(5), argv.add(6), envp.cast_const());
            }
            let error = errno();
            write(ends[1], (&raw const error).cast(), size_of::<c_int>());
            _exit(127);
        }
        close(ends[1]);
        let mut bytes = [0; 4];
        let got = read_retrying(ends[0], &mut bytes);
        close(ends[0]);
        if got == 4 {
            wait(P_PID, pid, WEXITED);
            return Err(c_int::from_ne_bytes(bytes));
        }
        Ok(pid)
    }
}

struct Reaper {
    program: c_int,
    /// A pidfd of the endpoint, or -1: its control socket may live on in a process it forked.
    endpoint: c_int,
    signals: c_int,
    /// The path of the control group, a C string; empty: none.
    group: [u8; PACKET],
}

impl Reaper {
    /// Stay until nothing is left and the endpoint has taken note. Returns whether the endpoint is gone.
    fn watch(&mut self) -> bool {
        let mut killing = false;
        let mut ended = None;
        let mut waited = 0;
        let mut reported = false;
        let mut released = false;
        let mut orphaned = false;
        loop {
            let (program_ended, left) = self.reap();
            if ended.is_none() && program_ended.is_some() {
                ended = program_ended;
                killing = true;
            }
            if let Some((code, status, max_rss)) = ended {
                if !reported && (!left || waited >= LEFTOVERS_MS) {
                    report(ENDED, code, status, max_rss);
                    reported = true;
                }
                if !left && (released || orphaned) {
                    wait(P_PID, self.program, WEXITED);
                    return orphaned;
                }
            }
            let mut patience = -1;
            if killing && (left || ended.is_none()) {
                self.thaw_group();
                self.kill_children();
                // A child that is not gone at once, or has just become ours, is looked at again.
                patience = 10;
                waited += if ended.is_some() { patience } else { 0 };
            }
            // Of an endpoint that is gone nothing more is to be heard: a closed socket would wake us for ever.
            let listening = if orphaned { -1 } else { 0 };
            let mut fds = [
                PollFd { fd: self.signals, events: POLLIN, revents: 0 },
                PollFd { fd: CONTROL | listening, events: POLLIN, revents: 0 },
                PollFd { fd: self.endpoint | listening, events: POLLIN, revents: 0 },
            ];
            // SAFETY: three entries, as the count says.
            unsafe {
                poll(fds.as_mut_ptr(), 3, patience);
            }
            self.drain_signals();
            orphaned |= fds[2].revents != 0;
            while !orphaned {
                let mut packet = [0_u8; PACKET];
                // SAFETY: the pointer and the length are the buffer's, of which one byte stays zero.
                let got = unsafe { recv(CONTROL, packet.as_mut_ptr().cast(), PACKET - 1, MSG_DONTWAIT) };
                match got {
                    0 => orphaned = true,
                    1.. => match packet[0] {
                        KILL => killing = true,
                        RELEASE => released = true,
                        GROUP => self.group = packet,
                        _ => {}
                    },
                    _ => match errno() {
                        EINTR => {}
                        EAGAIN => break,
                        _ => orphaned = true,
                    },
                }
            }
            killing |= orphaned;
        }
    }

    /// SIGKILL every child; theirs become ours then.
    fn kill_children(&self) {
        // SAFETY: a child's pid is not another's before it is reaped, which only this thread does.
        let end = |pid| unsafe {
            kill(pid, SIGKILL);
        };
        if !each_child(end) {
            end(self.program);
        }
    }

    /// What is frozen by a group of version 1 is not killed; one of version 2 has no such file, and needs none.
    fn thaw_group(&self) {
        let state = c"freezer.state";
        let thawed = b"THAWED";
        // SAFETY: the path is a C string, and the descriptors are ours. Without a group, or where it has not been made,
        // there is nothing to open.
        unsafe {
            let folder = open(self.group(), O_RDONLY | O_CLOEXEC);
            if folder < 0 {
                return;
            }
            let file = openat(folder, state.as_ptr(), O_WRONLY | O_CLOEXEC);
            close(folder);
            if file >= 0 {
                write(file, thawed.as_ptr().cast(), thawed.len());
                close(file);
            }
        }
    }

    /// Nobody else will. The last of an environment's reapers succeeds.
    fn remove_group(&self) {
        for _ in 0..REMOVAL_ATTEMPTS {
            // SAFETY: the path is a C string; nobody is waited for.
            unsafe {
                if rmdir(self.group()) == 0 || errno() != EBUSY {
                    return;
                }
                poll(ptr::null_mut(), 0, 10);
            }
        }
    }

    fn group(&self) -> *const c_char {
        // After the byte that says what it is.
        self.group[1..].as_ptr().cast()
    }

    fn drain_signals(&self) {
        let mut info = [0_u8; 128];
        // SAFETY: room for one record; the descriptor does not block.
        while unsafe { read(self.signals, info.as_mut_ptr().cast(), info.len()) } > 0 {}
    }

    /// Reap every ended child but the program, whose pid stays taken. Returns the program's end, if it has ended, and
    /// whether any other child is left.
    fn reap(&self) -> (Option<(c_int, c_int, c_long)>, bool) {
        let program_ended = wait(P_PID, self.program, WEXITED | WNOHANG | WNOWAIT)
            .filter(|(info, _)| info.pid == self.program)
            .map(|(info, used)| (info.code, info.status, used.max_rss));
        let mut left = false;
        each_child(|pid| {
            left |= pid != self.program
                && wait(P_PID, pid, WEXITED | WNOHANG).is_some_and(|(info, _)| info.pid == 0);
        });
        (program_ended, left)
    }
}

/// Call `with` for every child, those included that have ended. `false` on a kernel that has no such list.
fn each_child(mut with: impl FnMut(c_int)) -> bool {
    // The kernel's list is of one thread's children, and there is one thread.
    // SAFETY: reading a file into a buffer of ours.
    unsafe {
        let file = open(c"/proc/thread-self/children".as_ptr(), O_RDONLY | O_CLOEXEC);
        if file < 0 {
            return false;
        }
        let mut buffer = [0_u8; 4096];
        let mut pid: c_int = 0;
        loop {
            let got = read_retrying(file, &mut buffer);
            let Some(bytes) =
                usize::try_from(got).ok().filter(|got| *got > 0).and_then(|got| buffer.get(..got))
            else {
                break;
            };
            for byte in bytes {
                if byte.is_ascii_digit() {
                    pid = pid.wrapping_mul(10).wrapping_add(c_int::from(*byte - b'0'));
                } else if pid != 0 {
                    with(pid);
                    pid = 0;
                }
            }
        }
        close(file);
    }
    true
}

/// `waitid`, with what the child used; `None` if there is no such child.
fn wait(kind: c_int, id: c_int, options: c_int) -> Option<(ChildInfo, ResourceUse)> {
    loop {
        // SAFETY: both records are plain data that the kernel fills; zeros are valid in each.
        unsafe {
            let mut info: ChildInfo = core::mem::zeroed();
            let mut used: ResourceUse = core::mem::zeroed();
            // The C library's waitid has no parameter for the usage.
            if syscall(SYS_WAITID, kind, id, &raw mut info, options, &raw mut used) == 0 {
                return Some((info, used));
            }
        }
        if errno() != EINTR {
            return None;
        }
    }
}

/// The descriptor, moved to a number that is none of the program's.
fn out_of_the_way(fd: c_int) -> c_int {
    // SAFETY: the descriptor is ours, and the old number is not used any more.
    unsafe {
        let moved = fcntl(fd, F_DUPFD_CLOEXEC, 10);
        close(fd);
        moved
    }
}

/// Hold on to nothing of the function's: its pipes must end when it does.
///
/// SAFETY: the descriptors given are the only ones that are used after this.
unsafe fn let_go(signals: c_int, endpoint: c_int) {
    // SAFETY: descriptors are closed that nothing of ours refers to.
    unsafe {
        let null = open(c"/dev/null".as_ptr(), O_RDWR | O_CLOEXEC);
        for fd in 0..3 {
            dup2(null, fd);
        }
        let (low, high) = if signals < endpoint { (signals, endpoint) } else { (endpoint, signals) };
        let mut from = CONTROL + 1;
        for kept in [low, high] {
            if kept >= from {
                close_between(from, kept - 1);
                from = kept + 1;
            }
        }
        close_between(from, c_int::MAX);
        chdir(c"/".as_ptr());
    }
}

/// SAFETY: as `let_go`.
unsafe fn close_between(first: c_int, last: c_int) {
    if first > last {
        return;
    }
    // SAFETY: as above. Kernels before 5.9 do not know the call; a process has few descriptors there as elsewhere.
    unsafe {
        if syscall(SYS_CLOSE_RANGE, first, last, 0) != 0 {
            for fd in first..=last.min(1023) {
                close(fd);
            }
        }
    }
}

fn report(kind: i32, value: i32, detail: i32, max_rss_kb: i64) {
    let report = Report { kind, value, detail, padding: 0, max_rss_kb };
    // SAFETY: the pointer and the length are the report's. An endpoint that is gone needs no report.
    unsafe {
        send(CONTROL, (&raw const report).cast(), size_of::<Report>(), MSG_NOSIGNAL);
    }
}

fn read_retrying(fd: c_int, buffer: &mut [u8]) -> isize {
    loop {
        // SAFETY: the pointer and the length are the buffer's.
        let got = unsafe { read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        if got >= 0 || errno() != EINTR {
            return got;
        }
    }
}

fn errno() -> c_int {
    // SAFETY: the C library's own, always there.
    unsafe { *__errno_location() }
}

/// The first byte of a string is this one.
///
/// SAFETY: `text` is a C string.
unsafe fn is(text: *const c_char, byte: u8) -> bool {
    // SAFETY: a C string has at least its end.
    unsafe { text.cast::<u8>().read() == byte }
}

/// SAFETY: `text` is a C string.
unsafe fn number(text: *const c_char) -> c_int {
    let mut text = text.cast::<u8>();
    let mut value: c_int = 0;
    // SAFETY: read up to the string's end.
    unsafe {
        while (*text).is_ascii_digit() {
            value = value.wrapping_mul(10).wrapping_add(c_int::from(*text - b'0'));
            text = text.add(1);
        }
    }
    value
}

#[cfg(embedded)]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Nothing here panics; if it did, PR_SET_PDEATHSIG ends the program.
    // SAFETY: ends the process.
    unsafe { _exit(101) }
}
