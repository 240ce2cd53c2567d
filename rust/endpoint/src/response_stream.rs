//! A response on its way from the runtime to its caller while it is made (spec runtime-api 2.6): the pieces go through a
//! short channel, so that a slow caller slows the function down and memory stays bounded. A caller who is gone holds
//! nobody up: the rest is read and forgotten, as in Lambda.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;
use tokio::sync::mpsc;

use crate::runtime_thread;

/// Longest streamed response, in bytes (spec lambda-service 1.7). The caller gets no more than this.
pub const MAX_STREAM: u64 = 200 * 1024 * 1024;

/// So many pieces wait for a caller who reads slowly. One is what the runtime's connection gave at once, 400 kB at most.
const WAITING_PIECES: usize = 4;

/// A part of a streamed response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The response begins; comes first, and once.
    Head {
        /// The type that the runtime declared.
        content_type: HeaderValue,
    },
    /// Bytes of the body. A border between two of them has no meaning.
    Data(Bytes),
}

/// The end that a runtime's upload writes to.
#[derive(Debug, Clone)]
pub struct PieceSender(mpsc::Sender<Piece>);

/// The end that the caller reads from.
#[derive(Debug)]
pub struct PieceReceiver(mpsc::Receiver<Piece>);

/// A channel for the pieces of one response.
pub fn pieces() -> (PieceSender, PieceReceiver) {
    let (sender, receiver) = mpsc::channel(WAITING_PIECES);
    (PieceSender(sender), PieceReceiver(receiver))
}

impl PieceSender {
    /// Hand on a piece when there is room for it. That nobody reads any more is no failure.
    pub async fn send(&self, piece: Piece) {
        let _ = self.0.send(piece).await;
    }
}

impl PieceReceiver {
    /// The next piece; `None` when none is to come.
    pub async fn receive(&mut self) -> Option<Piece> {
        self.0.recv().await
    }

    /// The next piece, if it is there.
    pub fn receive_now(&mut self) -> Option<Piece> {
        self.0.try_recv().ok()
    }

    /// The next piece, for a thread that is not the endpoint's; `None` when none is to come. Fails with the time that was
    /// given when that has passed.
    pub fn receive_within(&mut self, time: Duration) -> Result<Option<Piece>, Duration> {
        let Ok(handle) = runtime_thread::handle() else { return Ok(None) };
        handle.block_on(async { tokio::time::timeout(time, self.0.recv()).await }).map_err(|_| time)
    }
}
