//! Sending batches to a subscriber, one after another (spec extensions-telemetry 2.4).
//!
//! A batch that is not accepted is sent again until it is: the platform retries without a documented end. Meanwhile
//! [`Queue`] bounds what waits, so that a sink that is slow, dead, or answers nonsense costs its own events and
//! nothing else.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::event::Event;
use super::queue::{Batch, Queue};
use super::subscription::{Destination, Subscription};

/// A sink that has not taken a batch after this time is asked again.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);
/// The first pause between two attempts; each is twice the one before it, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// At the end of an environment its subscribers are waited for so long, all together.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// The head of an answer, and what is read of its body, is not longer than this.
const ANSWER_LIMIT: usize = 64 * 1024;
/// After a good answer its body is waited for so long: a server whose client leaves early may complain.
const BODY_LIMIT: Duration = Duration::from_millis(100);

/// One subscriber: who it is, what waits for it.
#[derive(Debug)]
pub struct Subscriber {
    /// The extension's name.
    pub name: String,
    /// What it asked for.
    pub subscription: Subscription,
    state: Mutex<State>,
    /// There is something to send, or it is to be sent at once.
    changed: Notify,
    /// Everything was sent, or could not be.
    settled: Notify,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// A batch is on its way.
    sending: bool,
    pace: Pace,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Batches that are full or due.
    Batches,
    /// All there is, at once.
    Everything,
    /// Nothing for now: the extension stands still.
    Paused,
    /// Nothing any more.
    Ended,
}

impl Subscriber {
    /// A subscriber to whom nothing was sent yet.
    pub fn new(name: &str, subscription: Subscription) -> Self {
        let queue = Queue::new(subscription.buffering, subscription.schema, subscription.streams.platform);
        Self {
            name: name.to_owned(),
            subscription,
            state: Mutex::new(State { queue, sending: false, pace: Pace::Batches }),
            changed: Notify::new(),
            settled: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queue an event, if it is in one of the subscriber's streams.
    pub fn push(&self, event: &Event, now: Instant) {
        // Batches are due in the machine's time, of which a virtual clock is ahead.
        let now = now.min(Instant::now());
        if event.is_in(self.subscription.streams) && self.state().queue.push(event, now) {
            self.changed.notify_one();
        }
    }

    /// Send nothing until told otherwise.
    pub fn pause(&self, paused: bool) {
        let (from, to) = if paused { (Pace::Batches, Pace::Paused) } else { (Pace::Paused, Pace::Batches) };
        self.change_pace(from, to);
        self.changed.notify_one();
    }

    fn change_pace(&self, from: Pace, to: Pace) {
        let mut state = self.state();
        if state.pace == from {
            state.pace = to;
        }
    }

    /// Whether nothing is sent for now.
    pub fn is_paused(&self) -> bool {
        self.state().pace == Pace::Paused
    }

    /// Send everything now. Returns when that is done, or has failed once: with no subscriber left to take it, waiting
    /// does not help.
    pub async fn flush(&self) {
        self.change_pace(Pace::Batches, Pace::Everything);
        self.changed.notify_one();
        loop {
            let settled = self.settled.notified();
            {
                let state = self.state();
                if state.pace != Pace::Everything || (!state.sending && state.queue.is_empty()) {
                    return;
                }
            }
            settled.await;
        }
    }

    /// The subscription is over: what was not sent is not sent any more.
    pub fn end(&self) {
        self.state().pace = Pace::Ended;
        self.changed.notify_one();
        self.settled.notify_waiters();
    }

    /// Whether the subscription has ended.
    pub fn is_over(&self) -> bool {
        self.state().pace == Pace::Ended
    }

    /// The next batch, when it is due; `None` when the subscription is over.
    async fn next_batch(&self) -> Option<Batch> {
        loop {
            let due = {
                let mut state = self.state();
                let all = match state.pace {
                    Pace::Ended => return None,
                    Pace::Paused => None,
                    Pace::Batches => Some(false),
                    Pace::Everything => Some(true),
                };
                let batch = all.and_then(|all| state.queue.take(Instant::now(), SystemTime::now(), all));
                if let Some(batch) = batch {
                    state.sending = true;
                    return Some(batch);
                }
                if state.pace == Pace::Everything {
                    state.pace = Pace::Batches;
                }
                state.queue.due().filter(|_| all.is_some())
            };
            self.settled.notify_waiters();
            match due {
                None => self.changed.notified().await,
                Some(due) => {
                    // Whichever comes first; then look again.
                    let _ = tokio::time::timeout_at(due.into(), self.changed.notified()).await;
                }
            }
        }
    }

    /// Everything that waits, whether it is due or not.
    #[cfg(test)]
    pub fn take_all(&self) -> Vec<Batch> {
        let mut state = self.state();
        std::iter::from_fn(|| state.queue.take(Instant::now(), SystemTime::now(), true)).collect()
    }

    fn sent(&self) {
        self.state().sending = false;
    }

    /// An attempt failed: who waits for a flush is not kept waiting.
    fn failed(&self) {
        self.change_pace(Pace::Everything, Pace::Batches);
        self.settled.notify_waiters();
    }
}

/// Send a subscriber its batches until the subscription is over; the environment's end ends it, too.
pub async fn deliver(subscriber: Arc<Subscriber>) {
    let mut sink = Sink::new(subscriber.subscription.destination.clone());
    while let Some(batch) = subscriber.next_batch().await {
        let mut pause = FIRST_PAUSE;
        while !attempt(&subscriber, &mut sink, &batch).await {
            sink.give_up();
            subscriber.failed();
            if subscriber.is_over() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = LAST_PAUSE.min(2 * pause);
        }
        subscriber.sent();
    }
}

/// One attempt. A sink that stands still is not late.
async fn attempt(subscriber: &Subscriber, sink: &mut Sink, batch: &Batch) -> bool {
    let mut sending = pin!(sink.send(batch));
    loop {
        match tokio::time::timeout(ATTEMPT_LIMIT, &mut sending).await {
            Ok(sent) => return sent.is_ok(),
            Err(_) if subscriber.is_paused() => {}
            Err(_) => return false,
        }
    }
}

/// Where a subscriber listens.
enum Sink {
    Http { port: u16, path: String, method: &'static str },
    Tcp { port: u16, stream: Option<TcpStream> },
}

impl Sink {
    fn new(destination: Destination) -> Self {
        match destination {
            Destination::Http { port, path, method } => Self::Http { port, path, method },
            Destination::Tcp { port } => Self::Tcp { port, stream: None },
        }
    }

    async fn send(&mut self, batch: &Batch) -> io::Result<()> {
        match self {
            Self::Http { port, path, method } => send_http(*port, path, method, &batch.array()).await,
            Self::Tcp { port, stream } => {
                let connected = match stream.take() {
                    Some(connected) => stream.insert(connected),
                    None => stream.insert(connect(*port).await?),
                };
                connected.write_all(batch.lines().as_bytes()).await
            }
        }
    }

    /// A connection on which something went wrong is not used again.
    fn give_up(&mut self) {
        if let Self::Tcp { stream, .. } = self {
            *stream = None;
        }
    }
}

async fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request on a connection of its own: an environment may be frozen between two batches, and what becomes of a
/// connection then is nobody's business.
async fn send_http(port: u16, path: &str, method: &str, body: &str) -> io::Result<()> {
    let mut stream = connect(port).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: sandbox.localdomain:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut request = head.into_bytes();
    request.extend_from_slice(body.as_bytes());
    // A server may answer before it has read everything; the answer is what counts.
    let written = stream.write_all(&request).await;
    let mut answer = Vec::new();
    let end = loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if answer.len() > ANSWER_LIMIT || stream.read_buf(&mut answer).await? == 0 {
            written?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"));
        }
    };
    if !accepted(&answer[..end]) {
        return Err(io::Error::other("the sink refused the batch"));
    }
    let rest = async {
        let mut read = answer.len() - end;
        let mut chunk = [0; 4096];
        while read < ANSWER_LIMIT {
            match stream.read(&mut chunk).await {
                Ok(length) if length > 0 => read += length,
                _ => return,
            }
        }
    };
    // The batch is delivered whatever comes of the rest.
    let _ = tokio::time::timeout(BODY_LIMIT, rest).await;
    Ok(())
}

/// Whether the head of an answer is that of an HTTP response with a status below 400.
fn accepted(head: &[u8]) -> bool {
    let Some(rest) = head.strip_prefix(b"HTTP/1.") else { return false };
    matches!(rest, [b'0' | b'1', b' ', b'1'..=b'3', b'0'..=b'9', b'0'..=b'9', rest @ ..]
        if matches!(rest.first(), None | Some(b' ' | b'\r')))
}

#[cfg(test)]
mod tests {
    use super::super::event::{Origin, Record};
    use super::super::subscription::{Api, Buffering, Schema, Streams};
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::time::UNIX_EPOCH;

    fn subscriber(destination: Destination) -> Arc<Subscriber> {
        let subscription = Subscription {
            api: Api::Telemetry,
            schema: Schema::V2022_07_01,
            streams: Streams { platform: true, function: true, extension: false },
            buffering: Buffering { max_items: 1000, max_bytes: 262_144, timeout: Duration::from_millis(25) },
            destination,
        };
        Arc::new(Subscriber::new("obs", subscription))
    }

    fn http(listener: &TcpListener) -> Arc<Subscriber> {
        let port = listener.local_addr().unwrap().port();
        subscriber(Destination::Http { port, path: "/t".to_owned(), method: "PUT" })
    }

    fn push(subscriber: &Subscriber, text: &str) {
        let record = Record::Line { origin: Origin::Function, text: text.to_owned(), json: false };
        subscriber.push(&Event { time: UNIX_EPOCH, record }, Instant::now());
    }

    fn array_of(text: &str) -> String {
        format!(r#"[{{"time":"1970-01-01T00:00:00.000Z","type":"function","record":"{text}"}}]"#)
    }

    /// Deliver for as long as `body` runs, on a thread of its own.
    fn while_delivering(subscriber: &Arc<Subscriber>, body: impl FnOnce()) {
        let stop = Arc::new(Notify::new());
        let (stopped, subscriber) = (Arc::clone(&stop), Arc::clone(subscriber));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.spawn(deliver(subscriber));
            runtime.block_on(stopped.notified());
        });
        body();
        stop.notify_one();
        thread.join().unwrap();
    }

    /// The next connection, which must come soon.
    fn accept(listener: &TcpListener) -> std::net::TcpStream {
        listener.set_nonblocking(true).unwrap();
        for _ in 0..1000 {
            if let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false).unwrap();
                return stream;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nobody connects");
    }

    /// One request, head and body; nothing is answered yet.
    fn request(listener: &TcpListener) -> (std::net::TcpStream, String) {
        let mut stream = accept(listener);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut text = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let length = stream.read(&mut chunk).unwrap();
            assert!(length > 0, "the request broke off");
            text.extend_from_slice(&chunk[..length]);
            let Some(head) = text.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let length: usize = std::str::from_utf8(&text[..head])
                .unwrap()
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .unwrap()
                .parse()
                .unwrap();
            if text.len() == head + 4 + length {
                return (stream, String::from_utf8(text).unwrap());
            }
        }
    }

    #[test]
    fn an_http_sink_gets_a_json_array_in_a_request() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let subscriber = http(&listener);
        push(&subscriber, "hello");
        while_delivering(&subscriber, || {
            let (mut stream, text) = request(&listener);
            let port = listener.local_addr().unwrap().port();
            let body = array_of("hello");
            assert_eq!(
                text,
                format!(
                    "PUT /t HTTP/1.1\r\nHost: sandbox.localdomain:{port}\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                )
            );
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").unwrap();
            push(&subscriber, "again");
            let (_, text) = request(&listener);
            assert!(text.ends_with(&array_of("again")), "{text}");
        });
    }

    #[test]
    fn what_is_not_accepted_is_sent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let subscriber = http(&listener);
        push(&subscriber, "precious");
        while_delivering(&subscriber, || {
            for answer in [&b"HTTP/1.1 500 Oops\r\n\r\n"[..], b"220 mail.example.com\r\n\r\n", b""] {
                let (mut stream, text) = request(&listener);
                assert!(text.ends_with(&array_of("precious")), "{text}");
                stream.write_all(answer).unwrap();
            }
            let (mut stream, text) = request(&listener);
            assert!(text.ends_with(&array_of("precious")), "{text}");
            stream.write_all(b"HTTP/1.0 204 \r\n\r\n").unwrap();
            drop(stream);
            push(&subscriber, "next");
            assert!(request(&listener).1.ends_with(&array_of("next")));
        });
    }

    #[test]
    fn a_sink_that_is_not_there_yet_gets_everything_later() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let subscriber = subscriber(Destination::Http { port, path: "/".to_owned(), method: "POST" });
        push(&subscriber, "early");
        while_delivering(&subscriber, || {
            let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
            assert!(request(&listener).1.ends_with(&array_of("early")));
        });
    }

    #[test]
    fn nothing_is_sent_to_an_extension_that_stands_still() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let subscriber = http(&listener);
        subscriber.pause(true);
        push(&subscriber, "later");
        while_delivering(&subscriber, || {
            listener.set_nonblocking(true).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            assert!(listener.accept().is_err(), "it is due, and not sent");
            subscriber.pause(false);
            assert!(request(&listener).1.ends_with(&array_of("later")));
        });
    }

    #[test]
    fn a_tcp_sink_gets_lines_on_one_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let subscriber = subscriber(Destination::Tcp { port: listener.local_addr().unwrap().port() });
        push(&subscriber, "one");
        while_delivering(&subscriber, || {
            let stream = accept(&listener);
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream));
            let expected = |text| array_of(text).trim_matches(['[', ']']).to_owned();
            assert_eq!(lines.next().unwrap().unwrap(), expected("one"));
            push(&subscriber, "two");
            assert_eq!(lines.next().unwrap().unwrap(), expected("two"));
        });
    }

    /// Flush on the runtime's own thread; the receiver hears of its end.
    fn flush(subscriber: &Arc<Subscriber>) -> mpsc::Receiver<()> {
        let (sender, receiver) = mpsc::channel();
        let subscriber = Arc::clone(subscriber);
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(subscriber.flush());
            let _ = sender.send(());
        });
        receiver
    }

    #[test]
    fn a_flush_sends_what_is_not_due_and_waits_for_the_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let subscriber = http(&listener);
        while_delivering(&subscriber, || {
            push(&subscriber, "last");
            let flushed = flush(&subscriber);
            let (mut stream, text) = request(&listener);
            assert!(text.ends_with(&array_of("last")), "{text}");
            assert!(flushed.try_recv().is_err(), "it is not accepted yet");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            drop(stream);
            flushed.recv_timeout(Duration::from_secs(10)).expect("the flush ended");
            flush(&subscriber).recv_timeout(Duration::from_secs(10)).expect("there is nothing left to flush");
        });
    }

    #[test]
    fn a_flush_waits_for_what_is_on_its_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let subscriber = http(&listener);
        while_delivering(&subscriber, || {
            push(&subscriber, "due");
            let (mut stream, _) = request(&listener);
            let flushed = flush(&subscriber);
            assert!(flushed.recv_timeout(Duration::from_millis(50)).is_err(), "it is not accepted yet");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            drop(stream);
            flushed.recv_timeout(Duration::from_secs(10)).expect("the flush ended");
        });
    }

    #[test]
    fn a_flush_does_not_wait_for_a_dead_sink() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let subscriber = subscriber(Destination::Tcp { port });
        while_delivering(&subscriber, || {
            push(&subscriber, "lost");
            flush(&subscriber).recv_timeout(Duration::from_secs(10)).expect("the flush ended");
        });
    }

    #[test]
    fn answers_are_told_from_nonsense() {
        for good in ["HTTP/1.1 200 OK\r\nA: b", "HTTP/1.0 204", "HTTP/1.1 301 Moved"] {
            assert!(accepted(good.as_bytes()), "{good}");
        }
        for bad in
            ["", "HTTP/1.1 400 Bad", "HTTP/1.1 2000 OK", "HTTP/2 200", "HTTP/1.1 20", "SSH-2.0-OpenSSH"]
        {
            assert!(!accepted(bad.as_bytes()), "{bad}");
        }
    }
}
