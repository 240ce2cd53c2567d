//! The edge to the network: what the client needs of a connection, over TCP. Tests put scripted bytes in its place
//! ([`crate::memory`]).
//!
//! Connections do not block. Whoever calls the client decides how to wait ([`Wait`]): the Python bindings wait in
//! `ppoll` so that signals get through, a benchmark simply polls.

use std::io::{self, IoSlice, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// How long a connection attempt may take. The Runtime API is on the same host: a second is already an outage.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// One connection. Both calls answer [`io::ErrorKind::WouldBlock`] when they would have to wait.
pub trait Transport {
    /// Receive into `space`; 0 means that the other side closed.
    fn receive(&mut self, space: &mut [u8]) -> io::Result<usize>;
    /// Send from `parts`, in order; says how many bytes were taken.
    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// Makes connections to one address.
pub trait Connect {
    /// What it makes.
    type Transport: Transport;
    /// A new connection.
    fn connect(&mut self) -> io::Result<Self::Transport>;
    /// `host:port`, for the Host header and for messages.
    fn address(&self) -> &str;
}

/// What a wait is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Bytes, or a close, have come.
    Readable,
    /// There is room to send.
    Writable,
    /// One of the two: a server may answer a request before it has read all of it.
    Either,
}

impl Interest {
    /// The events of `poll` that it stands for.
    pub fn poll_events(self) -> libc::c_short {
        match self {
            Self::Readable => libc::POLLIN,
            Self::Writable => libc::POLLOUT,
            Self::Either => libc::POLLIN | libc::POLLOUT,
        }
    }
}

/// The wait was given up: a signal handler wants the process to do something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

/// Waits until a connection is ready. There is no time limit: the environment may be frozen for hours while `/next`
/// hangs (spec runtime-api 1.1).
pub trait Wait<T> {
    /// Return once `transport` may be ready. Returning too early is allowed.
    fn wait(&mut self, transport: &T, interest: Interest) -> Result<(), Interrupted>;
}

/// TCP with `TCP_NODELAY`, the transport of the real Runtime API.
#[derive(Debug)]
pub struct Tcp(TcpStream);

impl Transport for Tcp {
    fn receive(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.0.read(space)
    }

    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        // Not `write_vectored`: a SIGPIPE whose default action user code restored would end the process.
        // SAFETY: msghdr is plain data for which all zeroes is a valid value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = parts.as_ptr().cast_mut().cast();
        message.msg_iovlen = parts.len() as _;
        // SAFETY: IoSlice is guaranteed to have the layout of iovec; `parts` outlives the call, which only reads it.
        let sent = unsafe { libc::sendmsg(self.0.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

impl AsRawFd for Tcp {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Connects to `host:port`.
#[derive(Debug, Clone)]
pub struct TcpConnector {
    address: String,
}

impl TcpConnector {
    /// `address` is the value of `AWS_LAMBDA_RUNTIME_API`: `host:port`, no scheme.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into() }
    }
}

impl Connect for TcpConnector {
    type Transport = Tcp;

    fn connect(&mut self) -> io::Result<Tcp> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    // Requests leave in one write each, so waiting for more to send would only cost time.
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(true)?;
                    return Ok(Tcp(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn address(&self) -> &str {
        &self.address
    }
}

/// Waits in `poll`, as a program without Python does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Poll;

impl<T: AsRawFd> Wait<T> for Poll {
    fn wait(&mut self, transport: &T, interest: Interest) -> Result<(), Interrupted> {
        let mut poll = libc::pollfd { fd: transport.as_raw_fd(), events: interest.poll_events(), revents: 0 };
        // SAFETY: `poll` is one valid pollfd that outlives the call. Its result does not matter: an early return, be
        // it for a signal or an error, only makes the caller try, and get the error, itself.
        unsafe { libc::poll(&raw mut poll, 1, -1) };
        Ok(())
    }
}
