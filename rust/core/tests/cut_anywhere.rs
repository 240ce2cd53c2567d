//! A Runtime API that breaks off at any byte: of what it sends, or of what it reads. Whatever the byte, the runtime
//! either serves every invocation, each handler called once and each answer accepted once, or ends with an error that
//! says so; it never waits for what cannot come.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;

use caloric_core::transport::{Connect, Transport};
use caloric_core::{Answer, AnswerKind, Client, Error, Interest, Interrupted, Posted, Wait};

/// How the answers are written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Framing {
    Length,
    Chunked,
    /// `Connection: close` behind each, with the length.
    Closing,
    /// HTTP/1.0: the close is the end of the body.
    UntilClose,
}

/// Where one connection, the `connection`-th, breaks off.
#[derive(Debug, Clone, Copy)]
struct Cut {
    connection: usize,
    side: Side,
    at: usize,
    reset: bool,
}

#[derive(Debug, Clone, Copy)]
enum Side {
    /// It ends after so many bytes of what the server sends.
    Sent,
    /// The server reads so many bytes and no more.
    Read,
}

/// The server: the states of the Runtime API (spec runtime-api 1.8), and what has happened.
#[derive(Debug, Default)]
struct Server {
    framing: Option<Framing>,
    cut: Option<Cut>,
    /// How many invocations there are.
    total: usize,
    /// How many were accepted; the one at hand has this number.
    accepted: Vec<String>,
    delivered: bool,
    connections: usize,
    /// Most bytes that one connection sent and read.
    longest: (usize, usize),
}

impl Server {
    /// What it says to one request; `None` while there is nothing to be said.
    fn handle(&mut self, head: &str, body: &str) -> Option<Vec<u8>> {
        if head.starts_with("GET ") {
            let number = self.accepted.len();
            if number == self.total {
                return None;
            }
            self.delivered = true;
            let headers = format!("Lambda-Runtime-Aws-Request-Id: id-{number}\r\n");
            return Some(self.frame("200 OK", &headers, &format!("{{\"event\":{number}}}")));
        }
        let id = head.split('/').nth(4).expect("the id in the path");
        assert!(head.contains("/response HTTP/1.1\r\n"), "{head}");
        if !self.delivered || id != format!("id-{}", self.accepted.len()) {
            return Some(self.frame("400 Bad Request", "", "{\"errorType\":\"InvalidRequestID\"}"));
        }
        assert_eq!(body, answer_of(id), "the answer to this invocation, and all of it");
        self.accepted.push(id.to_owned());
        self.delivered = false;
        Some(self.frame("202 Accepted", "", "{\"status\":\"OK\"}\n"))
    }

    fn frame(&self, status: &str, headers: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        let (half, rest) = body.split_at(length / 2);
        match self.framing.expect("a framing") {
            Framing::Length => {
                format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
            }
            Framing::Closing => {
                format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}")
            }
            Framing::UntilClose => format!("HTTP/1.0 {status}\r\n{headers}\r\n{body}"),
            Framing::Chunked => format!(
                "HTTP/1.1 {status}\r\n{headers}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{half}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
                half.len(),
                rest.len(),
            ),
        }
        .into_bytes()
    }
}

fn answer_of(id: &str) -> String {
    format!("\"the answer to {id}\"")
}

#[derive(Clone)]
struct Network(Rc<RefCell<Server>>);

struct Connection {
    server: Rc<RefCell<Server>>,
    cut: Option<Cut>,
    read: Vec<u8>,
    handled: usize,
    outgoing: VecDeque<u8>,
    sent: usize,
    read_count: usize,
    /// The server will say no more.
    closing: bool,
}

impl Connect for Network {
    type Transport = Connection;

    fn connect(&mut self) -> io::Result<Connection> {
        let mut server = self.0.borrow_mut();
        let number = server.connections;
        server.connections += 1;
        assert!(number < 20, "connections without end");
        Ok(Connection {
            server: Rc::clone(&self.0),
            cut: server.cut.filter(|cut| cut.connection == number),
            read: Vec::new(),
            handled: 0,
            outgoing: VecDeque::new(),
            sent: 0,
            read_count: 0,
            closing: false,
        })
    }

    fn address(&self) -> &'static str {
        "127.0.0.1:9001"
    }
}

impl Connection {
    fn limit(&self, side: Side) -> usize {
        match (self.cut, side) {
            (Some(Cut { side: Side::Sent, at, .. }), Side::Sent)
            | (Some(Cut { side: Side::Read, at, .. }), Side::Read) => at,
            _ => usize::MAX,
        }
    }

    fn is_cut(&self) -> bool {
        self.sent == self.limit(Side::Sent) || self.read_count == self.limit(Side::Read)
    }

    /// Answer the requests that have been read.
    fn serve(&mut self) {
        while !self.closing {
            let rest = &self.read[self.handled..];
            let Some(head_length) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return };
            let head = String::from_utf8(rest[..head_length + 4].to_vec()).expect("ASCII");
            let length = head
                .split("\r\n")
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |length| length.parse::<usize>().expect("a length"));
            let Some(body) = rest.get(head_length + 4..head_length + 4 + length) else { return };
            let body = String::from_utf8(body.to_vec()).expect("UTF-8");
            let mut server = self.server.borrow_mut();
            let Some(answer) = server.handle(&head, &body) else { return };
            self.handled += head_length + 4 + length;
            self.outgoing.extend(answer);
            self.closing = matches!(server.framing, Some(Framing::Closing | Framing::UntilClose));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut server = self.server.borrow_mut();
        server.longest = (server.longest.0.max(self.sent), server.longest.1.max(self.read_count));
    }
}

impl Transport for Connection {
    fn receive(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.is_cut() && (self.outgoing.is_empty() || self.sent == self.limit(Side::Sent)) {
            let reset = self.cut.is_some_and(|cut| cut.reset);
            return if reset { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(0) };
        }
        if self.outgoing.is_empty() {
            return if self.closing { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = self.outgoing.len().min(space.len()).min(self.limit(Side::Sent) - self.sent);
        for byte in &mut space[..count] {
            *byte = self.outgoing.pop_front().expect("counted");
        }
        self.sent += count;
        Ok(count)
    }

    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_cut() || self.closing {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = self.limit(Side::Read) - self.read_count;
        let before = self.read.len();
        for part in parts {
            let left = room - (self.read.len() - before);
            self.read.extend_from_slice(&part[..part.len().min(left)]);
        }
        let count = self.read.len() - before;
        self.read_count += count;
        self.serve();
        Ok(count)
    }
}

/// Gives up where nothing will come any more.
struct Idle;

impl Wait<Connection> for Idle {
    fn wait(&mut self, connection: &Connection, interest: Interest) -> Result<(), Interrupted> {
        let silent = connection.outgoing.is_empty() && !connection.closing && !connection.is_cut();
        if interest == Interest::Readable && silent { Err(Interrupted) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct Outcome {
    /// The ids that the handler was called with, in order.
    calls: Vec<String>,
    /// What was done when it ended.
    doing: &'static str,
    error: Error,
}

/// The runtime's loop.
fn run(network: &Network, pipelining: bool) -> Outcome {
    let mut client = Client::new(network.clone(), "caloric/test");
    client.set_pipelining(pipelining);
    let mut calls = Vec::new();
    loop {
        let invocation = match client.next_invocation(&mut Idle) {
            Ok(invocation) => invocation,
            Err(error) => return Outcome { calls, doing: "next", error },
        };
        let id = invocation.request_id;
        assert_eq!(client.event(), format!("{{\"event\":{}}}", &id[3..]).as_bytes(), "the event of {id}");
        client.release_event();
        calls.push(id.clone());
        let body = answer_of(&id);
        let kind = AnswerKind::Response { content_type: "application/json" };
        let answer = Answer { request_id: &id, invocation_id: None, body: body.as_bytes(), kind };
        match client.post(&answer, true, &mut Idle) {
            Ok(posted) => {
                let cut = network.0.borrow().cut;
                assert_eq!(posted, Posted::Accepted, "{id}, {cut:?}");
            }
            Err(error) => return Outcome { calls, doing: "post", error },
        }
    }
}

fn network(framing: Framing, cut: Option<Cut>) -> Network {
    let server = Server { framing: Some(framing), cut, total: 3, ..Server::default() };
    Network(Rc::new(RefCell::new(server)))
}

const FRAMINGS: [Framing; 4] = [Framing::Length, Framing::Chunked, Framing::Closing, Framing::UntilClose];

#[test]
fn whatever_the_byte_at_which_it_breaks_off_nothing_is_lost_or_done_twice() {
    let ids = ["id-0", "id-1", "id-2"];
    let (mut complete, mut ended) = (0, 0);
    for framing in FRAMINGS {
        for pipelining in [true, false] {
            let whole = network(framing, None);
            let outcome = run(&whole, pipelining);
            assert!(matches!(outcome.error, Error::Interrupted) && outcome.doing == "next", "{outcome:?}");
            assert_eq!(outcome.calls, ids);
            let (connections, longest) = (whole.0.borrow().connections, whole.0.borrow().longest);
            for connection in 0..connections {
                for (side, length) in [(Side::Sent, longest.0), (Side::Read, longest.1)] {
                    for (at, reset) in (0..=length).flat_map(|at| [(at, false), (at, true)]) {
                        if framing == Framing::UntilClose && !reset {
                            // Here a close is the end of the body, wherever it comes: nobody can tell.
                            continue;
                        }
                        let cut = Cut { connection, side, at, reset };
                        let network = network(framing, Some(cut));
                        let outcome = run(&network, pipelining);
                        let context = format!("{framing:?}, pipelining {pipelining}, {cut:?}: {outcome:?}");
                        let server = network.0.borrow();
                        let accepted = server.accepted.len();
                        assert_eq!(server.accepted, ids[..accepted], "in order, each once: {context}");
                        assert_eq!(outcome.calls, ids[..outcome.calls.len()], "called once: {context}");
                        match outcome.error {
                            Error::Interrupted => {
                                assert_eq!(
                                    (outcome.doing, accepted),
                                    ("next", 3),
                                    "waits for nothing: {context}"
                                );
                                complete += 1;
                            }
                            Error::EndedEarly { .. } | Error::NoAnswer { .. } | Error::Io { .. } => {
                                // At most the answer that was under way is open, and no invocation was begun meanwhile.
                                assert!(outcome.calls.len() <= accepted + 1, "{context}");
                                ended += 1;
                            }
                            _ => panic!("{context}"),
                        }
                    }
                }
            }
        }
    }
    assert!(complete > 1000 && ended > 1000, "{complete} served all, {ended} ended");
}
