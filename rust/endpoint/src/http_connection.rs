//! One HTTP/1.1 connection: hyper between a socket and a service, with the answers of one turn in one write.
//!
//! A runtime sends its answer and its next poll together. hyper writes each response as it is finished; its own
//! `pipeline_flush` holds them back while unread bytes lie in its buffer, and so keeps a response for ever when a
//! client sends half a request, or a stray line end, behind a whole one. Here what hyper writes is collected, and sent
//! when hyper has nothing more to do at the moment: one system call for a 202 and the event that is already there.
//!
//! There is no time limit on anything: a frozen runtime may take hours in the middle of a request.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// More than this is not collected but written as it comes.
const COLLECT_LIMIT: usize = 64 * 1024;

/// How long a connection is read on after its request was refused.
const LINGER: Duration = Duration::from_millis(500);

/// Serve requests with `answer` until the client closes the connection or sends what is no HTTP.
///
/// A request that is complete is answered even if the client has closed the connection right after it: a runtime's
/// last words count. An answer that waits for something asks [`Client::poll_hung_up`] meanwhile.
///
/// What goes wrong on a connection is the client's loss and reported to nobody.
pub async fn serve<A, B>(
    stream: TcpStream,
    builder: &mut http1::Builder,
    answer: impl Fn(Request<Incoming>, Client) -> A,
) where
    A: Future<Output = Response<B>>,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let (read, write) = stream.into_split();
    let outgoing = Arc::new(Outgoing { write, collected: Mutex::default() });
    let io = CollectingIo { read: TokioIo::new(read), outgoing: Arc::clone(&outgoing) };
    let service = service_fn(|request| {
        let answered = answer(request, Client(Arc::clone(&outgoing)));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let outcome = {
        // hyper looks for the end of the stream before it looks after the request it has just read, and drops it.
        builder.half_close(true).header_read_timeout(None);
        let mut connection = pin!(builder.serve_connection(io, service));
        poll_fn(|context| {
            let outcome = connection.as_mut().poll(context);
            // A failed write shows in the next read; what matters is that hyper's turn is over.
            let sent = outgoing.poll_send(context);
            match outcome {
                Poll::Ready(outcome) => sent.map(|_| outcome),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    };
    if outcome.is_err_and(|error| error.is_parse()) {
        linger(&outgoing.write).await;
    }
}

/// Closing a socket with bytes unread resets the connection under the refusal that was just sent: let the client come
/// to its end first.
async fn linger(write: &OwnedWriteHalf) {
    let stream = write.as_ref();
    let mut rest = vec![0; 16 * 1024];
    let read = async {
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut rest) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    };
    // Too late is as good as done: the client had its chance.
    let _ = tokio::time::timeout(LINGER, read).await;
}

/// Who sent a request.
pub struct Client(Arc<Outgoing>);

impl Client {
    /// `Ready` when the client has closed the connection behind its request, else `Pending` with the task registered.
    /// A client that has sent more is still there.
    pub fn poll_hung_up(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut byte = [0];
        match ready!(self.0.write.as_ref().poll_peek(context, &mut ReadBuf::new(&mut byte))) {
            Ok(length) if length > 0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}

/// The write side of the connection and what is to be written.
struct Outgoing {
    write: OwnedWriteHalf,
    collected: Mutex<Vec<u8>>,
}

impl Outgoing {
    fn collected(&self) -> MutexGuard<'_, Vec<u8>> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Write what is collected. `Pending` with the task registered while the socket takes no more.
    fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut collected = self.collected();
        let mut sent = 0;
        let outcome = loop {
            if sent == collected.len() {
                break Poll::Ready(Ok(()));
            }
            match self.write.try_write(&collected[sent..]) {
                Ok(length) => sent += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.write.as_ref().poll_write_ready(context) {
                        Poll::Ready(Ok(())) => {}
                        other => break other,
                    }
                }
                Err(error) => {
                    // Nothing of this will ever be sent.
                    sent = collected.len();
                    break Poll::Ready(Err(error));
                }
            }
        };
        collected.drain(..sent);
        outcome
    }
}

/// hyper's view of the socket.
struct CollectingIo {
    read: TokioIo<OwnedReadHalf>,
    outgoing: Arc<Outgoing>,
}

impl Read for CollectingIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(context, buffer)
    }
}

impl Write for CollectingIo {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        {
            let mut collected = self.outgoing.collected();
            if collected.len() + length <= COLLECT_LIMIT {
                for slice in slices {
                    collected.extend_from_slice(slice);
                }
                return Poll::Ready(Ok(length));
            }
        }
        ready!(self.outgoing.poll_send(context))?;
        loop {
            match self.outgoing.write.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.outgoing.write.as_ref().poll_write_ready(context))?;
                }
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sent at the end of hyper's turn, in `serve`.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.outgoing.poll_send(context))?;
        shut_down(self.outgoing.write.as_ref());
        Poll::Ready(Ok(()))
    }
}

/// Tell the client that nothing more will come, and leave our reading side open.
fn shut_down(stream: &TcpStream) {
    use std::os::fd::AsRawFd as _;
    // SAFETY: the descriptor is the stream's, which lives across the call.
    unsafe {
        libc::shutdown(stream.as_raw_fd(), libc::SHUT_WR);
    }
}
