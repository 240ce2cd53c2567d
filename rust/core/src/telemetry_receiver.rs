//! Where an extension's telemetry arrives: the platform posts batches of records, and somebody takes them one by one
//! (spec extensions-telemetry 2.4).
//!
//! A batch is accepted as soon as it is kept, so that the platform can go on. What is kept is bounded: when nobody
//! takes batches fast enough, the platform's request waits, then gets 503. The platform keeps, or drops and reports,
//! what comes meanwhile, as it does with every slow subscriber.
//!
//! Whether a batch is JSON shows when it is taken. It is accepted all the same: a refused one comes again and again, and
//! holds up everything behind it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::http1::ParseError;
use crate::http1::request::RequestBuffer;

/// Longest batch, in bytes. A subscription allows twice its `maxBytes`, which is at most 1 MiB, and metadata.
pub const MAX_BATCH: usize = 8 * 1024 * 1024;
/// Connections at the same time; the platform needs one for each batch on its way.
const MAX_CONNECTIONS: usize = 32;
/// Refusals that are kept until somebody takes them; later ones are not told.
const MAX_REFUSALS: usize = 16;
/// A request that has begun must be complete after this time.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// What a receiver does when it is not emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of batches that are kept. One batch is, however large.
    pub waiting_bytes: usize,
    /// How long a request waits for room before it gets 503.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // Four of the batches of a subscription with AWS's largest `maxBytes`, and less than a platform waits.
        Self { waiting_bytes: 4 * 1024 * 1024, patience: Duration::from_secs(2) }
    }
}

/// What a receiver got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The body of a batch: a JSON array of records, if all is well.
    Batch(Vec<u8>),
    /// A request that is none for a receiver was refused; the reason.
    Refused(String),
}

/// An HTTP server that keeps what is posted until it is taken. Its threads run no signal handlers, and end with it.
pub struct TelemetryReceiver {
    shared: Arc<Shared>,
    listener: TcpListener,
    port: u16,
}

struct Shared {
    limits: Limits,
    inbox: Mutex<Inbox>,
    /// A batch was taken, or the receiver is gone.
    room: Condvar,
    connections: AtomicUsize,
    /// Called from a receiver's thread when something has come.
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Inbox {
    received: VecDeque<Received>,
    /// Of the batches in it.
    bytes: usize,
    refusals: usize,
    closed: bool,
}

impl TelemetryReceiver {
    /// Listen on `address`; port 0 takes a free one. `wake` is called, from another thread, after something has come.
    pub fn start(
        address: SocketAddr,
        limits: Limits,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            limits,
            inbox: Mutex::default(),
            room: Condvar::new(),
            connections: AtomicUsize::new(0),
            wake: Box::new(wake),
        });
        let (accepting, accepted) = (listener.try_clone()?, Arc::clone(&shared));
        without_signals(|| {
            thread::Builder::new()
                .name("telemetry".to_owned())
                .spawn(move || accept(&accepting, &accepted))
                .map(drop)
        })?;
        Ok(Self { shared, listener, port })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What has come first and was not taken yet.
    pub fn take(&self) -> Option<Received> {
        let mut inbox = self.shared.inbox();
        let received = inbox.received.pop_front()?;
        match &received {
            Received::Batch(batch) => inbox.bytes -= batch.len(),
            Received::Refused(_) => inbox.refusals -= 1,
        }
        drop(inbox);
        self.shared.room.notify_all();
        Some(received)
    }

    /// How much can be taken now.
    pub fn waiting(&self) -> usize {
        self.shared.inbox().received.len()
    }
}

impl Drop for TelemetryReceiver {
    fn drop(&mut self) {
        self.shared.inbox().closed = true;
        self.shared.room.notify_all();
        // SAFETY: a descriptor that is open; shutting it down wakes the thread in `accept`.
        unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RDWR) };
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keep a batch when there is room for it. `false`: there is none, or the client went away while it waited.
    fn keep(&self, batch: &[u8], client: &TcpStream) -> bool {
        let until = Instant::now() + self.limits.patience;
        let mut inbox = self.inbox();
        while inbox.bytes > 0 && inbox.bytes + batch.len() > self.limits.waiting_bytes {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || inbox.closed {
                return false;
            }
            inbox = self.room.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        // It will send the batch again: kept twice it would be told twice.
        if has_left(client) {
            return false;
        }
        inbox.bytes += batch.len();
        inbox.received.push_back(Received::Batch(batch.to_vec()));
        drop(inbox);
        (self.wake)();
        true
    }

    fn refused(&self, reason: String) {
        let mut inbox = self.inbox();
        if inbox.refusals < MAX_REFUSALS {
            inbox.refusals += 1;
            inbox.received.push_back(Received::Refused(reason));
            drop(inbox);
            (self.wake)();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) if shared.inbox().closed => return,
            Err(_) => {
                // Too many descriptors are open, say. There may be fewer later.
                thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            answer(&stream, 503, false);
            continue;
        }
        let serving = Arc::clone(shared);
        // This thread has no signals, and what it starts inherits that.
        let started = thread::Builder::new().name("telemetry".to_owned()).spawn(move || {
            serve(stream, &serving);
            serving.connections.fetch_sub(1, Ordering::Relaxed);
        });
        if started.is_err() {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Take requests until the client closes the connection or sends what is none.
fn serve(mut stream: TcpStream, shared: &Shared) {
    let mut request = RequestBuffer::new(MAX_BATCH);
    // An answer of two hundred bytes never waits for the client to read it, unless it does not mean to.
    let _ = stream.set_write_timeout(Some(REQUEST_LIMIT));
    loop {
        match read(&mut stream, &mut request) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                let status = match error {
                    ParseError::BodyTooLarge => 413,
                    ParseError::HeadTooLarge => 431,
                    _ => 400,
                };
                shared.refused(format!("a request was refused with {status}: {error}"));
                answer(&stream, status, false);
                return;
            }
        }
        let keep_alive = request.keep_alive();
        let status = if !matches!(request.method(), b"POST" | b"PUT") {
            let method = String::from_utf8_lossy(request.method()).into_owned();
            shared.refused(format!("a request was refused with 405: {method} is neither POST nor PUT"));
            405
        } else if shared.keep(request.body(), &stream) {
            200
        } else {
            503
        };
        request.consume();
        if !answer(&stream, status, keep_alive) || !keep_alive {
            return;
        }
    }
}

/// Read until a request is complete. `false`: the connection is over.
fn read(stream: &mut TcpStream, request: &mut RequestBuffer) -> Result<bool, ParseError> {
    let mut limit = None;
    while !request.advance()? {
        if request.take_expectation() && stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_err() {
            return Ok(false);
        }
        // A connection may rest as long as it likes, a request may not: it would keep its thread and its memory.
        let left = if request.has_started() {
            let until = *limit.get_or_insert_with(|| Instant::now() + REQUEST_LIMIT);
            match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Ok(false),
                left => Some(left),
            }
        } else {
            None
        };
        let received = stream
            .set_read_timeout(left)
            .and_then(|()| request.receive(|space| io::Read::read(stream, space)));
        match received {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// `false`: it could not be sent.
fn answer(mut stream: &TcpStream, status: u16, keep_alive: bool) -> bool {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let connection = if keep_alive { "" } else { "Connection: close\r\n" };
    let answer = format!("HTTP/1.1 {status} {reason}\r\n{connection}Content-Length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).is_ok()
}

/// Whether the client has closed the connection.
fn has_left(stream: &TcpStream) -> bool {
    let mut byte = 0_u8;
    // SAFETY: one byte of valid memory, which outlives the call.
    let count = unsafe {
        libc::recv(stream.as_raw_fd(), (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT)
    };
    count == 0
        || (count < 0
            && !matches!(io::Error::last_os_error().kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted))
}

/// Call `start` with all signals blocked, which a thread that it starts inherits: Python's signal handlers run in the
/// main thread, and only a signal that arrives there wakes it.
pub fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: sigset_t is plain data that sigfillset and pthread_sigmask initialise; the sets outlive the calls.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut original: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut original);
        let result = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const original, std::ptr::null_mut());
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::Ipv4Addr;
    use std::sync::mpsc;

    struct Started {
        receiver: TelemetryReceiver,
        woken: mpsc::Receiver<()>,
    }

    fn start(limits: Limits) -> Started {
        let (sender, woken) = mpsc::channel();
        let wake = move || sender.send(()).unwrap_or_default();
        Started {
            receiver: TelemetryReceiver::start((Ipv4Addr::LOCALHOST, 0).into(), limits, wake).unwrap(),
            woken,
        }
    }

    impl Started {
        fn connect(&self) -> TcpStream {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.receiver.port())).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
        }

        fn next(&self) -> Received {
            self.woken.recv_timeout(Duration::from_secs(20)).expect("something comes");
            self.receiver.take().unwrap()
        }
    }

    fn post(body: &str) -> String {
        format!(
            "POST / HTTP/1.1\r\nHost: sandbox.localdomain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// The status of the next answer.
    fn status(stream: &mut TcpStream) -> u16 {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(
                stream.read(&mut byte).unwrap(),
                1,
                "closed after {:?}",
                String::from_utf8_lossy(&head)
            );
            head.push(byte[0]);
        }
        std::str::from_utf8(&head[9..12]).unwrap().parse().unwrap()
    }

    fn is_closed(stream: &mut TcpStream) -> bool {
        matches!(stream.read(&mut [0]), Ok(0) | Err(_))
    }

    fn batch(body: &str) -> Received {
        Received::Batch(body.as_bytes().to_vec())
    }

    #[test]
    fn batches_are_accepted_and_taken_in_order() {
        let started = start(Limits::default());
        let mut stream = started.connect();
        for body in ["[1]", "[2]"] {
            stream.write_all(post(body).as_bytes()).unwrap();
            assert_eq!(status(&mut stream), 200);
        }
        let mut other = started.connect();
        other
            .write_all(b"PUT /x HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1\r\n]\r\n0\r\n\r\n")
            .unwrap();
        assert_eq!(status(&mut other), 200);
        assert!(is_closed(&mut other));
        assert_eq!(started.receiver.waiting(), 3);
        for body in ["[1]", "[2]", "[]"] {
            assert_eq!(started.next(), batch(body));
        }
        assert_eq!(started.receiver.take(), None);
    }

    #[test]
    fn requests_that_come_together_are_all_answered() {
        let started = start(Limits::default());
        let mut stream = started.connect();
        stream.write_all((post("[1]") + &post("[2]")).as_bytes()).unwrap();
        assert_eq!((status(&mut stream), status(&mut stream)), (200, 200));
        assert_eq!((started.next(), started.next()), (batch("[1]"), batch("[2]")));
    }

    #[test]
    fn a_client_that_waits_for_permission_gets_it() {
        let started = start(Limits::default());
        let mut stream = started.connect();
        stream.write_all(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").unwrap();
        assert_eq!(status(&mut stream), 100);
        stream.write_all(b"[]").unwrap();
        assert_eq!(status(&mut stream), 200);
        assert_eq!(started.next(), batch("[]"));
    }

    #[test]
    fn what_is_no_batch_is_refused_and_told() {
        let started = start(Limits::default());
        let too_large = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", MAX_BATCH + 1);
        for (request, expected, closes) in [
            ("nonsense\r\n\r\n", 400, true),
            (too_large.as_str(), 413, true),
            ("GET / HTTP/1.1\r\n\r\n", 405, false),
        ] {
            let mut stream = started.connect();
            stream.write_all(request.as_bytes()).unwrap();
            assert_eq!(status(&mut stream), expected);
            let Received::Refused(reason) = started.next() else { panic!("a batch") };
            assert!(reason.contains(&expected.to_string()), "{reason}");
            if closes {
                assert!(is_closed(&mut stream));
            } else {
                stream.write_all(post("[]").as_bytes()).unwrap();
                assert_eq!(status(&mut stream), 200);
            }
        }
    }

    #[test]
    fn without_room_a_batch_waits_and_is_refused_when_there_is_none() {
        let started = start(Limits { waiting_bytes: 5, patience: Duration::from_millis(20) });
        let mut stream = started.connect();
        stream.write_all(post("[1,2,3]").as_bytes()).unwrap();
        assert_eq!(status(&mut stream), 200, "one is kept, however large");
        stream.write_all(post("[4]").as_bytes()).unwrap();
        assert_eq!(status(&mut stream), 503);
        assert_eq!(started.next(), batch("[1,2,3]"));
        stream.write_all(post("[4]").as_bytes()).unwrap();
        assert_eq!(status(&mut stream), 200, "the connection is as good as before");
    }

    #[test]
    fn a_batch_is_kept_when_there_is_room_again() {
        let started = start(Limits { waiting_bytes: 5, patience: Duration::from_secs(60) });
        let mut stream = started.connect();
        stream.write_all(post("[1,2,3]").as_bytes()).unwrap();
        assert_eq!(status(&mut stream), 200);
        stream.write_all(post("[4]").as_bytes()).unwrap();
        assert_eq!(started.next(), batch("[1,2,3]"));
        assert_eq!(status(&mut stream), 200);
        assert_eq!(started.next(), batch("[4]"));
    }

    #[test]
    fn a_batch_whose_sender_has_left_is_not_kept() {
        let started = start(Limits { waiting_bytes: 5, patience: Duration::from_secs(60) });
        let mut stream = started.connect();
        stream.write_all(post("[1,2,3]").as_bytes()).unwrap();
        assert_eq!(status(&mut stream), 200);
        let mut impatient = started.connect();
        impatient.write_all(post("[4]").as_bytes()).unwrap();
        drop(impatient);
        assert_eq!(started.next(), batch("[1,2,3]"));
        stream.write_all(post("[5]").as_bytes()).unwrap();
        assert_eq!(status(&mut stream), 200);
        assert_eq!(started.next(), batch("[5]"));
    }

    #[test]
    fn connections_are_bounded_and_their_end_makes_room() {
        let started = start(Limits::default());
        let connections: Vec<_> = (0..MAX_CONNECTIONS).map(|_| started.connect()).collect();
        assert_eq!(status(&mut started.connect()), 503);
        drop(connections);
        let accepted = (0..1000).any(|_| {
            let mut stream = started.connect();
            thread::sleep(Duration::from_millis(5));
            stream.write_all(post("[]").as_bytes()).is_ok() && status(&mut stream) == 200
        });
        assert!(accepted);
    }

    #[test]
    fn nobody_listens_when_it_is_gone() {
        let started = start(Limits::default());
        let port = started.receiver.port();
        drop(started);
        let refused = (0..1000).any(|_| {
            thread::sleep(Duration::from_millis(5));
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()
        });
        assert!(refused);
    }
}
