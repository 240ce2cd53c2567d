//! A Runtime API without sockets: connections that receive a script and remember what was sent. For tests of the
//! client at exact byte boundaries, here and in fuzz targets.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;

use crate::transport::{Connect, Interest, Interrupted, Transport, Wait};

/// What one connection does next when it is read from.
#[derive(Debug, Clone)]
pub enum Event {
    /// These bytes arrive.
    Bytes(Vec<u8>),
    /// Nothing has come yet: the read would have to wait, once.
    Nothing,
    /// The server closes.
    Close,
    /// The connection is reset.
    Reset,
}

/// What one connection does: what it answers, and how much it takes.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// In order; after the last one, the connection stays silent.
    pub events: VecDeque<Event>,
    /// Sending fails after so many bytes.
    pub broken_after: Option<usize>,
    /// Sending would have to wait, once, after so many bytes.
    pub pause_after: Option<usize>,
    /// After so many bytes, sending would have to wait for ever.
    pub full_after: Option<usize>,
    /// Connecting fails.
    pub refused: bool,
}

impl Script {
    /// Answer with these bytes, then stay open.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self { events: [Event::Bytes(bytes.to_vec())].into(), ..Self::default() }
    }

    /// Answer the first read with the first of these, the second with the second, and so on, then stay open.
    pub fn answers(answers: &[&[u8]]) -> Self {
        let events = answers.iter().map(|answer| Event::Bytes(answer.to_vec())).collect();
        Self { events, ..Self::default() }
    }

    /// Then this.
    #[must_use]
    pub fn then(mut self, event: Event) -> Self {
        self.events.push_back(event);
        self
    }

    /// Fail to connect.
    pub fn refused() -> Self {
        Self { refused: true, ..Self::default() }
    }
}

/// Hands out one scripted connection after the other.
#[derive(Debug, Default)]
pub struct Memory {
    scripts: VecDeque<Script>,
    sent: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Memory {
    /// One script per connection that will be made.
    pub fn new(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self { scripts: scripts.into_iter().collect(), sent: Rc::default() }
    }

    /// What was sent, per connection; stays valid while the client runs.
    pub fn sent(&self) -> Rc<RefCell<Vec<Vec<u8>>>> {
        Rc::clone(&self.sent)
    }
}

impl Connect for Memory {
    type Transport = MemoryTransport;

    fn connect(&mut self) -> io::Result<MemoryTransport> {
        match self.scripts.pop_front() {
            Some(script) if !script.refused => {
                let index = self.sent.borrow().len();
                self.sent.borrow_mut().push(Vec::new());
                Ok(MemoryTransport { script, index, sent: Rc::clone(&self.sent) })
            }
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    fn address(&self) -> &'static str {
        "127.0.0.1:9001"
    }
}

/// One scripted connection.
#[derive(Debug)]
pub struct MemoryTransport {
    script: Script,
    index: usize,
    sent: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Transport for MemoryTransport {
    fn receive(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self.script.events.pop_front() {
            Some(Event::Bytes(mut bytes)) => {
                let count = bytes.len().min(space.len());
                space[..count].copy_from_slice(&bytes[..count]);
                if count < bytes.len() {
                    self.script.events.push_front(Event::Bytes(bytes.split_off(count)));
                }
                Ok(count)
            }
            // Neither is ever over.
            Some(Event::Close) => {
                self.script.events.push_front(Event::Close);
                Ok(0)
            }
            Some(Event::Reset) => {
                self.script.events.push_front(Event::Reset);
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Some(Event::Nothing) | None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut sent = self.sent.borrow_mut();
        let sent = &mut sent[self.index];
        let before = sent.len();
        if self.script.pause_after == Some(before) {
            self.script.pause_after = None;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.script.full_after == Some(before) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let limit = self.script.broken_after.or(self.script.pause_after).or(self.script.full_after);
        for part in parts {
            let room = limit.map_or(part.len(), |limit| limit.saturating_sub(sent.len()));
            sent.extend_from_slice(&part[..part.len().min(room)]);
        }
        match sent.len() - before {
            0 if self.script.broken_after.is_some() => Err(io::ErrorKind::BrokenPipe.into()),
            count => Ok(count),
        }
    }
}

/// A wait that never waits: a silent connection is where a script ends, so it interrupts.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoWait;

impl Wait<MemoryTransport> for NoWait {
    fn wait(&mut self, transport: &MemoryTransport, interest: Interest) -> Result<(), Interrupted> {
        let writable = interest != Interest::Readable && transport.script.full_after.is_none();
        if !writable && transport.script.events.is_empty() {
            return Err(Interrupted);
        }
        Ok(())
    }
}
