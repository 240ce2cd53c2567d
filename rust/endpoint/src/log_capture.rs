//! The log of an environment: what the function prints and what the platform writes, in one order.
//!
//! The function's stdout and stderr come through a pipe. What is read is forwarded unchanged to the environment's log
//! descriptor and kept: the last 4096 bytes for the log tail, all of it where somebody asked. Platform lines take the
//! same way, so that they stand where they belong.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use bytes::Bytes;

use crate::environment::EnvironmentConfig;

/// Length of the log tail that `X-Amz-Log-Type: Tail` returns (spec lambda-service 1.2).
const TAIL_LENGTH: usize = 4096;

/// At most this much is taken from the pipe at once, so that a function that prints without end cannot hold up the
/// thread. Several times what a pipe holds: what was written before a given moment is always taken.
const DRAIN_LIMIT: usize = 4 * 1024 * 1024;

/// So much of what extensions print waits for the end of a line of the function, and so much of a line waits for its
/// own end where only whole lines are forwarded; then the line is cut after all.
const HELD_LIMIT: usize = 64 * 1024;

/// Where an environment's log goes.
#[derive(Debug)]
pub struct LogCapture {
    /// Descriptor of the caller, or -1.
    fd: RawFd,
    whole_lines: bool,
    /// The line that is not complete yet, where only whole ones are forwarded.
    line: Vec<u8>,
    keep_whole: bool,
    tail: Vec<u8>,
    whole: Vec<u8>,
    /// Bytes since [`Self::begin`].
    written: u64,
    /// How many of them are no longer in `whole`.
    forgotten: u64,
    extensions: Vec<u8>,
    /// Lines of extensions that wait for the end of the function's line.
    held: Vec<u8>,
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
    /// The log that an environment's configuration asks for.
    pub fn of(config: &EnvironmentConfig) -> Self {
        Self { whole_lines: config.whole_lines, ..Self::new(config.log_fd, config.keep_log) }
    }

    /// A log that is forwarded to `fd` (-1: nowhere).
    pub fn new(fd: RawFd, keep_whole: bool) -> Self {
        Self {
            fd,
            whole_lines: false,
            line: Vec::new(),
            keep_whole,
            tail: Vec::new(),
            whole: Vec::new(),
            written: 0,
            forgotten: 0,
            extensions: Vec::new(),
            held: Vec::new(),
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
                    if !self.mid_line {
                        self.release_held();
                    }
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
        self.release_held();
        self.append(lines.as_bytes());
    }

    /// A line that an extension printed. It is forwarded with the extension's name before it, and kept apart from the
    /// function's log. It does not cut a line of the function in two: programs write those in pieces.
    pub fn write_extension_line(&mut self, name: &str, line: &str) {
        let end = if line.ends_with('\n') { "" } else { "\n" };
        let line = format!("[{name}] {line}{end}");
        if self.keep_whole {
            self.extensions.extend_from_slice(line.as_bytes());
        }
        self.held.extend_from_slice(line.as_bytes());
        if self.mid_line && self.held.len() > HELD_LIMIT {
            self.forward(b"\n");
            self.mid_line = false;
        }
        if !self.mid_line {
            self.release_held();
        }
    }

    fn release_held(&mut self) {
        write_all(self.fd, &std::mem::take(&mut self.held));
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

    /// No more will come: forward the line that has no end, with one.
    pub fn end_line(&mut self) {
        if !self.line.is_empty() {
            self.forward(b"\n");
        }
    }

    /// Hand on what was written; where others write to the same place, by whole lines.
    fn forward(&mut self, bytes: &[u8]) {
        if !self.whole_lines {
            return write_all(self.fd, bytes);
        }
        let (whole, rest) = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => bytes.split_at(end + 1),
            None => (&[][..], bytes),
        };
        if !whole.is_empty() {
            if self.line.is_empty() {
                write_all(self.fd, whole);
            } else {
                self.line.extend_from_slice(whole);
                write_all(self.fd, &std::mem::take(&mut self.line));
            }
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > HELD_LIMIT {
            self.line.push(b'\n');
            write_all(self.fd, &std::mem::take(&mut self.line));
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        self.forward(bytes);
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
    use std::os::fd::IntoRawFd;

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

    /// A log, what is forwarded of it, and the function's end of its pipe.
    fn forwarded_log() -> (LogCapture, File, File) {
        let sink = Pipe::new().unwrap();
        let mut log = LogCapture::new(sink.write.into_raw_fd(), true);
        let function = File::from(log.open_pipe().unwrap());
        (log, File::from(sink.read), function)
    }

    fn read(mut forwarded: &File) -> String {
        let mut buffer = [0; 1024];
        let length = forwarded.read(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn extensions_are_forwarded_with_their_name_and_kept_apart() {
        let (mut log, forwarded, _function) = forwarded_log();
        log.write_lines("START\n");
        log.write_extension_line("obs", "one\n");
        log.write_extension_line("obs", "two");
        log.write_lines("END\n");
        assert_eq!(read(&forwarded), "START\n[obs] one\n[obs] two\nEND\n");
        assert_eq!(log.take_whole(), "START\nEND\n");
        assert_eq!(log.take_extensions(), "[obs] one\n[obs] two\n");
        assert!(log.take_extensions().is_empty());
    }

    #[test]
    fn an_extension_does_not_cut_a_line_of_the_function() {
        let (mut log, forwarded, mut function) = forwarded_log();
        function.write_all(b"a line").unwrap();
        log.drain_with(|_| {});
        log.write_extension_line("obs", "one\n");
        function.write_all(b" in pieces\n").unwrap();
        log.drain_with(|_| {});
        assert_eq!(read(&forwarded), "a line in pieces\n[obs] one\n");
        function.write_all(b"no end").unwrap();
        log.drain_with(|_| {});
        log.write_extension_line("obs", "two\n");
        assert_eq!(read(&forwarded), "no end");
        log.write_lines("END\n");
        assert_eq!(read(&forwarded), "\n[obs] two\nEND\n");
    }

    #[test]
    fn a_line_without_end_does_not_hold_extensions_back_for_ever() {
        let mut log = LogCapture::new(-1, false);
        let mut function = File::from(log.open_pipe().unwrap());
        function.write_all(b"no end").unwrap();
        log.drain_with(|_| {});
        for _ in 0..=HELD_LIMIT {
            log.write_extension_line("obs", "x\n");
            assert!(log.held.len() <= HELD_LIMIT + 8);
        }
        assert!(!log.mid_line);
    }

    #[test]
    fn a_descriptor_that_others_write_to_gets_whole_lines() {
        let (mut log, forwarded, mut function) = forwarded_log();
        log.whole_lines = true;
        function.write_all(b"one\ntw").unwrap();
        log.drain_with(|_| {});
        assert_eq!(read(&forwarded), "one\n");
        function.write_all(b"o\nthr").unwrap();
        log.drain_with(|_| {});
        assert_eq!(read(&forwarded), "two\n");
        log.write_lines("END\n");
        assert_eq!(read(&forwarded), "thr\nEND\n");
        function.write_all(b"last").unwrap();
        log.drain_with(|_| {});
        log.end_line();
        assert_eq!(read(&forwarded), "last\n");
        log.end_line();
        assert_eq!(log.take_whole(), "one\ntwo\nthr\nEND\nlast");
    }

    #[test]
    fn a_line_without_end_is_cut_before_it_fills_the_memory() {
        let mut log = LogCapture::new(-1, false);
        log.whole_lines = true;
        for _ in 0..20 {
            log.append(&[b'x'; 16 * 1024]);
            assert!(log.line.len() <= HELD_LIMIT);
        }
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
