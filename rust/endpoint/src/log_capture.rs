//! The log of an environment: what the function prints and what the platform writes, in one order.
//!
//! The function's stdout and stderr come through a pipe. What is read is forwarded unchanged to the environment's log
//! descriptor and kept: the last 4096 bytes for the log tail, all of it where somebody asked. Platform lines take the
//! same way, so that they stand where they belong.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use bytes::Bytes;

/// Length of the log tail that `X-Amz-Log-Type: Tail` returns (spec lambda-service 1.2).
const TAIL_LENGTH: usize = 4096;

/// At most this much is taken from the pipe at once, so that a function that prints without end cannot hold up the
/// thread. Several times what a pipe holds: what was written before a given moment is always taken.
const DRAIN_LIMIT: usize = 4 * 1024 * 1024;

/// Where an environment's log goes.
#[derive(Debug)]
pub struct LogCapture {
    /// Descriptor of the caller, or -1.
    fd: RawFd,
    keep_whole: bool,
    tail: Vec<u8>,
    whole: Vec<u8>,
    /// Bytes since [`Self::begin`].
    written: u64,
    /// How many of them are no longer in `whole`.
    forgotten: u64,
    extensions: Vec<u8>,
    /// The last byte written was no line end: a platform line must begin on its own line.
    mid_line: bool,
    pipe: Option<Pipe>,
}

/// Both ends of the function's output pipe. Ours of the write end keeps it open between processes.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl LogCapture {
    /// A log that is forwarded to `fd` (-1: nowhere).
    pub fn new(fd: RawFd, keep_whole: bool) -> Self {
        Self {
            fd,
            keep_whole,
            tail: Vec::new(),
            whole: Vec::new(),
            written: 0,
            forgotten: 0,
            extensions: Vec::new(),
            mid_line: false,
            pipe: None,
        }
    }

    /// A new descriptor for the write end, close-on-exec; the pipe is made at the first call.
    pub fn open_pipe(&mut self) -> io::Result<OwnedFd> {
        let pipe = match &mut self.pipe {
            Some(pipe) => pipe,
            none => none.insert(Pipe::new()?),
        };
        pipe.write.try_clone()
    }

    /// The read end, for the event loop to watch.
    pub fn pipe_reader(&self) -> Option<RawFd> {
        self.pipe.as_ref().map(|pipe| pipe.read.as_raw_fd())
    }

    /// Take what the function has written so far.
    pub fn drain(&mut self) {
        self.drain_with(|_| {});
    }

    /// Take what the function has written so far, and show it to `observe`.
    pub fn drain_with(&mut self, mut observe: impl FnMut(&[u8])) {
        let Some(reader) = self.pipe_reader() else { return };
        let mut buffer = [0_u8; 16 * 1024];
        let mut taken = 0;
        while taken < DRAIN_LIMIT {
            // SAFETY: the buffer is ours and as long as we say; the read end is non-blocking.
            let got = unsafe { libc::read(reader, buffer.as_mut_ptr().cast(), buffer.len()) };
            match usize::try_from(got) {
                Ok(0) => return,
                Ok(got) => {
                    observe(&buffer[..got]);
                    self.append(&buffer[..got]);
                    taken += got;
                }
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Write platform lines, each ending in a line end. Call [`Self::drain`] before.
    pub fn write_lines(&mut self, lines: &str) {
        if self.mid_line {
            self.append(b"\n");
        }
        self.append(lines.as_bytes());
    }

    /// A line that an extension printed. It is forwarded with the extension's name before it, and kept apart from the
    /// function's log.
    pub fn write_extension_line(&mut self, name: &str, line: &str) {
        let start = if self.mid_line { "\n" } else { "" };
        let end = if line.ends_with('\n') { "" } else { "\n" };
        write_all(self.fd, format!("{start}[{name}] {line}{end}").as_bytes());
        self.mid_line = false;
        if self.keep_whole {
            self.extensions.extend_from_slice(format!("[{name}] {line}{end}").as_bytes());
        }
    }

    /// What extensions printed during the current invocation, where it is kept.
    pub fn take_extensions(&mut self) -> Bytes {
        std::mem::take(&mut self.extensions).into()
    }

    /// Forget what is kept: a new invocation begins.
    pub fn begin(&mut self) {
        self.tail.clear();
        self.whole.clear();
        self.written = 0;
        self.forgotten = 0;
    }

    /// The last bytes of the current invocation's log.
    pub fn tail(&self) -> Bytes {
        Bytes::copy_from_slice(&self.tail[self.tail.len().saturating_sub(TAIL_LENGTH)..])
    }

    /// The whole log of the current invocation, where it is kept.
    pub fn take_whole(&mut self) -> Bytes {
        std::mem::take(&mut self.whole).into()
    }

    // ---- several invocations at once: each has the part since its start ---------------------------------------------

    /// Bytes written since [`Self::begin`]: the place where a new part starts.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The last bytes of the part since `from`.
    pub fn tail_since(&self, from: u64) -> Bytes {
        let length = usize::try_from(self.written - from).unwrap_or(usize::MAX).min(TAIL_LENGTH);
        Bytes::copy_from_slice(&self.tail[self.tail.len().saturating_sub(length)..])
    }

    /// The part since `from`, where the log is kept.
    pub fn whole_since(&self, from: u64) -> Bytes {
        let start = usize::try_from(from.saturating_sub(self.forgotten)).unwrap_or(usize::MAX);
        Bytes::copy_from_slice(self.whole.get(start..).unwrap_or_default())
    }

    /// Nobody needs what was written before `from` any more.
    pub fn forget_before(&mut self, from: u64) {
        let count = usize::try_from(from.saturating_sub(self.forgotten)).unwrap_or(usize::MAX);
        self.whole.drain(..count.min(self.whole.len()));
        self.forgotten = self.forgotten.max(from);
    }

    fn append(&mut self, bytes: &[u8]) {
        write_all(self.fd, bytes);
        self.written += bytes.len() as u64;
        if let Some(last) = bytes.last() {
            self.mid_line = *last != b'\n';
        }
        if self.keep_whole {
            self.whole.extend_from_slice(bytes);
        }
        self.tail.extend_from_slice(bytes);
        // Moving the tail to the front now and then is cheaper than a ring that every reader must unroll.
        if self.tail.len() > 8 * TAIL_LENGTH {
            self.tail.drain(..self.tail.len() - TAIL_LENGTH);
        }
    }
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let mut ends = [0; 2];
        // Close-on-exec: a child gets the write end only where its starter passes it on.
        // SAFETY: the array has room for the two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: pipe2 returned two new descriptors that nothing else owns.
        let (read, write) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
        // Ours alone: each end has its own status flags, the function's writes still block.
        // SAFETY: the descriptor is open.
        if unsafe { libc::fcntl(read.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { read, write })
    }
}

/// Write everything; a log that nobody can take any more is no reason to fail an invocation.
fn write_all(fd: RawFd, mut bytes: &[u8]) {
    if fd < 0 {
        return;
    }
    while !bytes.is_empty() {
        // SAFETY: the pointer and the length describe `bytes`.
        let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        if let Ok(written) = usize::try_from(written) {
            bytes = &bytes[written..];
            continue;
        }
        match io::Error::last_os_error().kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => wait_until_writable(fd),
            _ => return,
        }
    }
}

/// A terminal that another program made non-blocking still gets every line.
fn wait_until_writable(fd: RawFd) {
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd, as the count says.
    unsafe {
        libc::poll(&raw mut poll, 1, -1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    #[test]
    fn output_is_forwarded_unchanged_and_kept() {
        let sink = Pipe::new().unwrap();
        let mut log = LogCapture::new(sink.write.as_raw_fd(), true);
        let mut function = File::from(log.open_pipe().unwrap());
        function.write_all(b"one\ntwo").unwrap();
        log.drain_with(|_| {});
        log.write_lines("END\n");
        let mut forwarded = [0; 64];
        let length = File::from(sink.read).read(&mut forwarded).unwrap();
        assert_eq!(&forwarded[..length], b"one\ntwo\nEND\n");
        assert_eq!(log.tail(), "one\ntwo\nEND\n");
        assert_eq!(log.take_whole(), "one\ntwo\nEND\n");
    }

    #[test]
    fn extensions_are_forwarded_with_their_name_and_kept_apart() {
        let sink = Pipe::new().unwrap();
        let mut log = LogCapture::new(sink.write.as_raw_fd(), true);
        log.write_lines("half");
        log.write_extension_line("obs", "one\n");
        log.write_extension_line("obs", "two");
        log.write_lines("END\n");
        let mut forwarded = [0; 64];
        let length = File::from(sink.read).read(&mut forwarded).unwrap();
        assert_eq!(&forwarded[..length], b"half\n[obs] one\n[obs] two\nEND\n");
        assert_eq!(log.take_whole(), "halfEND\n");
        assert_eq!(log.take_extensions(), "[obs] one\n[obs] two\n");
        assert!(log.take_extensions().is_empty());
    }

    #[test]
    fn the_tail_is_the_last_4096_bytes_of_a_long_log() {
        let mut log = LogCapture::new(-1, false);
        for line in 0..20_000 {
            log.write_lines(&format!("line {line}\n"));
        }
        let tail = log.tail();
        assert_eq!(tail.len(), 4096);
        assert!(tail.ends_with(b"line 19999\n"));
        log.begin();
        assert!(log.tail().is_empty());
    }

    #[test]
    fn the_write_end_does_not_leak_into_programs_by_accident() {
        let mut log = LogCapture::new(-1, false);
        let end = log.open_pipe().unwrap();
        // SAFETY: only reads the descriptor's flags.
        let flags = unsafe { libc::fcntl(end.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
}
