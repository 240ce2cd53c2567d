//! The endpoint's side of a reaper: the small process between the endpoint and one program it starts.
//!
//! A program can leave its process group, its session and its parent, and the endpoint can be killed before it cleans
//! up. So each program gets a parent of its own (`reaper/main.rs`) that outlives it and the endpoint, is the subreaper
//! of all that it starts, and kills whatever is left when either of the two ends. One for each program rather than for
//! each environment, so that what a runtime leaves behind can be told from what an extension does.
//!
//! It is an executable of 10 kB, carried in this library and executed from memory. To fork without executing anything
//! would cost a copy of the endpoint's page tables (15 ms where it has 300 MB) and then keep that memory; another
//! Python interpreter costs 8 ms; this costs half a millisecond, wherever it is started from.

use std::ffi::{CString, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::identifiers;
use crate::process::{Ended, Exit};
use crate::process_tree::{Held, open_pidfd};

/// The program of the reaper.
static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/caloric-reaper"));

/// What the reaper says, as it defines it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Report {
    kind: i32,
    value: i32,
    detail: i32,
    padding: i32,
    max_rss_kb: i64,
}

const STARTED: i32 = 1;
const FAILED: i32 = 2;
const ENDED: i32 = 3;
const KILL: u8 = b'K';
const RELEASE: u8 = b'R';
/// Followed by the path of a control group.
const GROUP: u8 = b'G';
/// Where the reaper expects its end of the control socket.
const CONTROL: RawFd = 3;

/// A program to start, and how.
#[derive(Debug, Clone, Default)]
pub struct ProgramSpec {
    /// The file to execute.
    pub program: OsString,
    /// Its arguments, the first of which is its name.
    pub arguments: Vec<OsString>,
    /// All of its environment variables.
    pub variables: Vec<(OsString, OsString)>,
    /// Its working directory; this process's by default.
    pub cwd: Option<PathBuf>,
    /// Descriptor for its standard input, `/dev/null` by default.
    pub stdin: Option<RawFd>,
    /// Descriptor for its stdout and stderr, this process's by default.
    pub output: Option<RawFd>,
    /// Whether it leads a process group of its own.
    pub process_group: bool,
}

/// The parent of a running program. Dropping it has the reaper kill all that the program started.
#[derive(Debug)]
pub struct Reaper {
    pid: i32,
    program: i32,
    control: OwnedFd,
}

impl Reaper {
    /// Start a program under a reaper of its own. `temporary` is a folder that the reaper removes if this process ends
    /// without having waited for the end of the program.
    ///
    /// Fails with the system's error if the program cannot be executed, or the reaper cannot.
    pub fn start(spec: &ProgramSpec, temporary: Option<&Path>) -> io::Result<Self> {
        let (ours, theirs) = socket_pair()?;
        let pid = spawn(spec, temporary, &theirs)?;
        drop(theirs);
        let reaper = Self { pid, program: 0, control: ours };
        // The reaper answers when the program runs, or cannot: a millisecond.
        match reaper.receive() {
            Ok(Some(Report { kind: STARTED, value, .. })) => {
                // SAFETY: only changes how the socket behaves.
                unsafe {
                    libc::fcntl(reaper.control.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
                }
                Ok(Self { program: value, ..reaper })
            }
            answer => {
                drop(reaper.control);
                reap(pid, 0);
                Err(match answer {
                    Ok(Some(Report { kind: FAILED, value, .. })) => io::Error::from_raw_os_error(value),
                    Ok(_) => io::Error::other("the process that watches over it ended at once"),
                    Err(error) => error,
                })
            }
        }
    }

    /// The program's pid. It is not another process's before [`Self::release`].
    pub fn program(&self) -> i32 {
        self.program
    }

    /// The reaper's own pid: the root of the tree of all that the program started.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The reaper, held so that it can be told from a later process with its pid.
    pub fn hold(&self) -> io::Result<Held> {
        Held::open(self.pid)
    }

    /// The program is about to be taken into the control group at `path`: before the reaper kills it lets it go on,
    /// and removes the group if this process ends without having done so.
    pub fn tell_group(&self, path: &Path) {
        let mut message = vec![GROUP];
        message.extend_from_slice(path.as_os_str().as_bytes());
        self.send(&message);
    }

    /// End it all, and wait until nothing of it is left.
    pub async fn end(&self) {
        self.kill();
        self.ended().await;
        self.release();
        self.gone().await;
    }

    /// Kill the program and everything it started.
    pub fn kill(&self) {
        self.say(KILL);
    }

    /// The program's pid is not needed any more; the reaper ends.
    pub fn release(&self) {
        self.say(RELEASE);
    }

    /// Wait until the program and all that it started are gone, on the endpoint's thread.
    pub async fn ended(&self) -> Ended {
        let gone = Ended { exit: Exit::Status(0), max_rss_kb: 0 };
        // SAFETY: the descriptor lives as long as `self`, longer than the registration.
        let Ok(socket) =
            (unsafe { AsyncFd::register_with_interest(self.control.as_raw_fd(), Interest::READABLE) })
        else {
            return gone;
        };
        while let Ok(mut ready) = socket.readable().await {
            match self.receive() {
                Ok(Some(Report { kind: ENDED, value: code, detail: status, max_rss_kb, .. })) => {
                    return Ended {
                        exit: Exit::from_child_code(code, status),
                        max_rss_kb: u64::try_from(max_rss_kb).unwrap_or(0),
                    };
                }
                Ok(Some(_)) => {}
                // The reaper itself was killed, and the program with it.
                Ok(None) => {
                    return Ended {
                        exit: Exit::Signal { signal: libc::SIGKILL, core_dumped: false },
                        ..gone
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(_) => return gone,
            }
        }
        gone
    }

    /// Wait until the reaper has ended too, after [`Self::release`]; nothing of it is left then.
    pub async fn gone(&self) {
        if let Ok(pidfd) = open_pidfd(self.pid)
            // SAFETY: the AsyncFd owns the descriptor.
            && let Ok(pidfd) = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }
        {
            let _ = pidfd.readable().await;
        }
        // Before Linux 5.3 there is no pidfd: it is about to end, so this is short.
        reap(self.pid, 0);
    }

    fn say(&self, command: u8) {
        self.send(&[command]);
    }

    fn send(&self, message: &[u8]) {
        let control = self.control.as_raw_fd();
        // SAFETY: the pointer and the length are the message's. A reaper that is gone has nothing left to do.
        unsafe {
            libc::send(control, message.as_ptr().cast(), message.len(), libc::MSG_NOSIGNAL);
        }
    }

    /// The next report; `None` when the reaper is gone.
    fn receive(&self) -> io::Result<Option<Report>> {
        let mut report = Report { kind: 0, value: 0, detail: 0, padding: 0, max_rss_kb: 0 };
        loop {
            // SAFETY: the pointer and the length are the report's, of which any bytes are valid.
            let got = unsafe {
                libc::recv(self.control.as_raw_fd(), (&raw mut report).cast(), size_of::<Report>(), 0)
            };
            match usize::try_from(got) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(report)),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    match error.kind() {
                        io::ErrorKind::Interrupted => {}
                        io::ErrorKind::ConnectionReset => return Ok(None),
                        _ => return Err(error),
                    }
                }
            }
        }
    }
}

/// Reap a child of ours, should nobody else have done so.
fn reap(pid: i32, options: libc::c_int) {
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(pid, std::ptr::null_mut(), options) } == -1
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// Two connected sockets that keep packets apart, close-on-exec.
fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: room for two descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: two new descriptors that nothing else owns.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    Ok((ours, out_of_the_way(&theirs)?))
}

/// A copy of the descriptor at a number that is none of the new process's.
fn out_of_the_way(fd: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: copies a descriptor that is open.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Start the reaper, and through it the program.
fn spawn(spec: &ProgramSpec, temporary: Option<&Path>, control: &OwnedFd) -> io::Result<i32> {
    static ON_DISK: OnceLock<()> = OnceLock::new();
    if ON_DISK.get().is_none() {
        match in_memory()
            .and_then(|file| execute(spec, temporary, control, format!("/proc/self/fd/{}", file.as_raw_fd())))
        {
            // Where files in memory may not be executed (vm.memfd_noexec), or /proc is not mounted.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EACCES | libc::EPERM | libc::ENOSYS | libc::ENOENT)
                ) => {}
            other => return other,
        }
        let _ = ON_DISK.set(());
    }
    let file = on_disk()?;
    let pid = execute(spec, temporary, control, file.display().to_string());
    let _ = fs::remove_file(file);
    pid
}

/// The reaper's program as a file without a name.
fn in_memory() -> io::Result<&'static File> {
    static FILE: OnceLock<File> = OnceLock::new();
    if let Some(file) = FILE.get() {
        return Ok(file);
    }
    // SAFETY: a name and flags; the call returns a new descriptor.
    let fd = unsafe { libc::memfd_create(c"caloric-reaper".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: nothing else owns it.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(PROGRAM)?;
    // Opened for reading only: a file that is open for writing cannot be executed.
    let file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let file = File::from(out_of_the_way(&file)?);
    Ok(FILE.get_or_init(|| file))
}

/// The reaper's program as a file of its own, which the caller removes.
fn on_disk() -> io::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("caloric-reaper-{}", identifiers::request_id()));
    OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path)?.write_all(PROGRAM)?;
    Ok(path)
}

fn execute(
    spec: &ProgramSpec,
    temporary: Option<&Path>,
    control: &OwnedFd,
    reaper: String,
) -> io::Result<i32> {
    let path = |path: Option<&Path>| path.map(Path::as_os_str).unwrap_or_default().to_owned();
    let mode = if spec.process_group { "g" } else { "-" };
    let mut argv = vec![
        c_string("caloric-reaper")?,
        c_string(std::process::id().to_string())?,
        c_string(mode)?,
        c_string(path(spec.cwd.as_deref()))?,
        c_string(path(temporary))?,
        c_string(spec.program.clone())?,
    ];
    for argument in &spec.arguments {
        argv.push(c_string(argument.clone())?);
    }
    let mut envp = Vec::with_capacity(spec.variables.len());
    for (name, value) in &spec.variables {
        let mut variable = OsString::from("=");
        variable.push(name);
        variable.push("=");
        variable.push(value);
        envp.push(c_string(variable)?);
    }
    let reaper = c_string(reaper)?;
    let mut actions = FileActions::new()?;
    match spec.stdin {
        Some(fd) => actions.duplicate(fd, 0)?,
        None => actions.open_null(0)?,
    }
    if let Some(fd) = spec.output {
        actions.duplicate(fd, 1)?;
        actions.duplicate(fd, 2)?;
    }
    actions.duplicate(control.as_raw_fd(), CONTROL)?;
    let (argv, envp) = (pointers(&argv), pointers(&envp));
    let mut pid = 0;
    // SAFETY: both lists end with a null pointer, and everything they point to lives until the call returns.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            reaper.as_ptr(),
            &raw const actions.0,
            std::ptr::null(),
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    if error == 0 { Ok(pid) } else { Err(io::Error::from_raw_os_error(error)) }
}

fn c_string(text: impl Into<OsString>) -> io::Result<CString> {
    CString::new(text.into().into_vec()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "an argument or a variable contains a NUL character")
    })
}

fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
}

/// What `posix_spawn` does to the descriptors of the new process.
struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new() -> io::Result<Self> {
        // SAFETY: plain data that the call initialises.
        unsafe {
            let mut actions = std::mem::zeroed();
            checked(libc::posix_spawn_file_actions_init(&raw mut actions))?;
            Ok(Self(actions))
        }
    }

    fn duplicate(&mut self, from: RawFd, to: RawFd) -> io::Result<()> {
        // SAFETY: the actions are initialised.
        checked(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, from, to) })
    }

    fn open_null(&mut self, to: RawFd) -> io::Result<()> {
        let null = c"/dev/null".as_ptr();
        // SAFETY: as above; the path is copied.
        checked(unsafe {
            libc::posix_spawn_file_actions_addopen(&raw mut self.0, to, null, libc::O_RDONLY, 0)
        })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised, and not used any more.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&raw mut self.0);
        }
    }
}

fn checked(error: libc::c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn shell(script: &str) -> ProgramSpec {
        ProgramSpec {
            program: "/bin/sh".into(),
            arguments: ["sh", "-c", script].map(OsString::from).to_vec(),
            process_group: true,
            ..ProgramSpec::default()
        }
    }

    fn on_a_loop<R>(future: impl Future<Output = R>) -> R {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), future).await.unwrap() })
    }

    fn outcome(script: &str) -> Exit {
        let reaper = Reaper::start(&shell(script), None).unwrap();
        on_a_loop(async {
            let ended = reaper.ended().await;
            assert!(Path::new(&format!("/proc/{}", reaper.program())).exists(), "the pid stays taken");
            reaper.release();
            reaper.gone().await;
            assert!(!Path::new(&format!("/proc/{}", reaper.program())).exists());
            assert!(!Path::new(&format!("/proc/{}", reaper.pid)).exists());
            ended.exit
        })
    }

    #[test]
    fn the_programs_end_is_told_exactly() {
        assert_eq!(outcome("exit 0"), Exit::Status(0));
        assert_eq!(outcome("exit 3"), Exit::Status(3));
        assert_eq!(outcome("kill -TERM $$"), Exit::Signal { signal: libc::SIGTERM, core_dumped: false });
        assert_eq!(outcome("kill -KILL $$"), Exit::Signal { signal: libc::SIGKILL, core_dumped: false });
    }

    #[test]
    fn the_programs_memory_is_its_own() {
        // However much this process has.
        let ballast = vec![1_u8; 200 << 20];
        let reaper = Reaper::start(&shell("exit 0"), None).unwrap();
        let ended = on_a_loop(reaper.ended());
        assert!((200..20_000).contains(&ended.max_rss_kb), "{} kB", ended.max_rss_kb);
        assert_eq!(ballast.iter().step_by(4096).map(|byte| u64::from(*byte)).sum::<u64>(), 200 << 8);
    }

    #[test]
    fn who_leaves_the_family_is_killed_with_it() {
        let (read, write) = std::io::pipe().unwrap();
        let script = "setsid sh -c 'setsid sleep 60 & echo $!'; sleep 60";
        let reaper =
            Reaper::start(&ProgramSpec { output: Some(write.as_raw_fd()), ..shell(script) }, None).unwrap();
        drop(write);
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(read), &mut line).unwrap();
        let stray = PathBuf::from(format!("/proc/{}", line.trim()));
        assert!(stray.exists());
        on_a_loop(reaper.end());
        assert!(!stray.exists());
    }

    #[test]
    fn dropping_the_reaper_ends_everything() {
        let (read, write) = std::io::pipe().unwrap();
        let spec = ProgramSpec { output: Some(write.as_raw_fd()), ..shell("sleep 60 & sleep 60") };
        let reaper = Reaper::start(&spec, None).unwrap();
        drop(write);
        let pid = reaper.pid;
        drop(reaper);
        // The pipe ends when the last one that has it open is gone.
        assert_eq!(std::io::read_to_string(read).unwrap(), "");
        reap(pid, 0);
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_an_error() {
        let spec = |program: &str| ProgramSpec { program: program.into(), ..shell("") };
        let number = |program| Reaper::start(&spec(program), None).unwrap_err().raw_os_error();
        assert_eq!(number("/no/such/program"), Some(libc::ENOENT));
        assert_eq!(number("/etc/passwd"), Some(libc::EACCES));
        let nowhere = ProgramSpec { cwd: Some("/no/such/folder".into()), ..shell("") };
        assert_eq!(Reaper::start(&nowhere, None).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn it_works_from_a_file_too() {
        let (ours, theirs) = socket_pair().unwrap();
        let file = on_disk().unwrap();
        let pid = execute(&shell("exit 0"), None, &theirs, file.display().to_string()).unwrap();
        fs::remove_file(file).unwrap();
        drop((ours, theirs));
        reap(pid, 0);
    }
}
