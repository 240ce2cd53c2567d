//! The service's streaming invoke path: `InvokeWithResponseStream` (spec lambda-service 1.7). What the runtime streams
//! goes to the caller message by message; a response that it does not stream is one message.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::sync::{mpsc, oneshot};

use crate::error::EndpointError;
use crate::error_document;
use crate::event_stream;
use crate::invocation::{Answer, InvocationRequest, Waiter};
use crate::invoke_path::{Answered, EXECUTED_VERSION, TRACE_ID, not_run, refused, trace_of};
use crate::pool::Pool;
use crate::response_stream::{Piece, PieceReceiver, pieces};

/// The type that the runtime declared: that of the response is the messages'.
const REMAPPED_TYPE: HeaderName = HeaderName::from_static("x-amzn-remapped-content-type");

/// Run an invocation and stream its response. Returns when its beginning is known. Fails with the answer to an
/// invocation that is not run.
pub async fn invoke(
    pool: &Pool,
    request: InvocationRequest,
    tail: bool,
) -> Result<Response<MessageBody>, Answered> {
    let begin = async {
        let mut streamed = Streamed::submit(pool, request, tail)?;
        let beginning = streamed.beginning().await?;
        Ok((streamed, beginning))
    };
    let (streamed, beginning) = begin.await.map_err(|error: EndpointError| refused(&error))?;
    if let Beginning::Whole(End { answer, .. }) = &beginning
        && let Some(failure) = &answer.service_error
    {
        return Err(not_run(failure, &answer.request_id));
    }
    let (content_type, trace_id) = match &beginning {
        Beginning::Stream { content_type } => (content_type.clone(), None),
        Beginning::Whole(end) => (end.answer.content_type.clone(), Some(trace_of(&end.answer.trace_id))),
    };
    let (messages, body) = mpsc::channel(1);
    tokio::spawn(write_messages(streamed, beginning, messages));
    let mut response = Response::new(MessageBody(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(event_stream::CONTENT_TYPE));
    headers.insert(REMAPPED_TYPE, content_type);
    headers.insert(EXECUTED_VERSION, pool.executed_version());
    if let Some(trace_id) = trace_id {
        headers.insert(TRACE_ID, trace_id);
    }
    Ok(response)
}

/// An invocation whose response may be streamed.
pub struct Streamed {
    pieces: PieceReceiver,
    end: oneshot::Receiver<End>,
    /// It has ended, so.
    ended: Option<Result<End, EndpointError>>,
}

/// What is known of an invocation at its end.
pub struct End {
    pub answer: Answer,
    /// The end of the log, where it was wanted.
    pub log_tail: Option<Bytes>,
}

/// How a response begins.
pub enum Beginning {
    /// The runtime streams it.
    Stream { content_type: HeaderValue },
    /// It does not: here it is, or why there is none.
    Whole(End),
}

impl Streamed {
    /// Submit the invocation. With `tail`, its end waits for the log to be complete.
    pub fn submit(pool: &Pool, mut request: InvocationRequest, tail: bool) -> Result<Self, EndpointError> {
        let (sender, receiver) = pieces();
        request.pieces = Some(sender);
        let (done, end) = oneshot::channel();
        // A caller that hung up has dropped the receiver.
        let waiter = if tail {
            Waiter::Finish(Box::new(move |result| {
                let _ = done.send(End { answer: result.answer, log_tail: Some(result.log_tail) });
            }))
        } else {
            Waiter::Answer(Box::new(move |answer| {
                let _ = done.send(End { answer, log_tail: None });
            }))
        };
        pool.submit(request, waiter)?;
        Ok(Self { pieces: receiver, end, ended: None })
    }

    /// Wait until the response begins.
    pub async fn beginning(&mut self) -> Result<Beginning, EndpointError> {
        match self.pieces.receive().await {
            Some(Piece::Head { content_type }) => Ok(Beginning::Stream { content_type }),
            // Without a head there is nothing to come.
            Some(Piece::Data(_)) | None => self.end().await.map(Beginning::Whole),
        }
    }

    /// The next bytes of a streamed response; `None` at its end.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            let piece = if self.ended.is_some() {
                self.pieces.receive_now()
            } else {
                tokio::select! {
                    biased;
                    piece = self.pieces.receive() => piece,
                    // Its time was up, say, while the runtime still sends.
                    end = &mut self.end => {
                        self.ended = Some(end.map_err(|_| EndpointError::Closed));
                        continue;
                    }
                }
            };
            match piece? {
                Piece::Data(data) if !data.is_empty() => return Some(data),
                Piece::Data(_) | Piece::Head { .. } => {}
            }
        }
    }

    /// How the invocation ended, to be asked once.
    ///
    /// Fails with [`EndpointError::Closed`] if nobody knows.
    pub async fn end(&mut self) -> Result<End, EndpointError> {
        match self.ended.take() {
            Some(end) => end,
            None => (&mut self.end).await.map_err(|_| EndpointError::Closed),
        }
    }
}

/// Turn a response into messages until it ends, or its reader is gone.
async fn write_messages(mut streamed: Streamed, beginning: Beginning, messages: mpsc::Sender<Bytes>) {
    let end = match beginning {
        Beginning::Whole(end) => {
            if !end.answer.is_error && !end.answer.payload.is_empty() {
                let _ = messages.send(event_stream::payload_chunk(&end.answer.payload)).await;
            }
            Ok(end)
        }
        Beginning::Stream { .. } => {
            while let Some(data) = streamed.next().await {
                if messages.send(event_stream::payload_chunk(&data)).await.is_err() {
                    return;
                }
            }
            streamed.end().await
        }
    };
    let _ = messages.send(event_stream::invoke_complete(&summary(end.as_ref().ok()))).await;
}

/// The object in the last message. A capture of the service found it without the error of a function that failed; the
/// documentation has it, and a caller could not tell otherwise (spec lambda-service 1.7).
fn summary(end: Option<&End>) -> String {
    let mut fields = Vec::new();
    let mut field = |name: &str, value: &str| {
        let mut text = format!("\"{name}\":");
        error_document::push_json_string(&mut text, value);
        fields.push(text);
    };
    match end {
        None => {
            field("ErrorCode", "ServiceException");
            field("ErrorDetails", "the invocation was lost");
        }
        Some(end) => {
            if end.answer.is_error {
                field("ErrorCode", "Unhandled");
                field("ErrorDetails", &String::from_utf8_lossy(&end.answer.payload));
            }
            if let Some(log_tail) = &end.log_tail {
                field("LogResult", &STANDARD.encode(log_tail));
            }
        }
    }
    format!("{{{}}}", fields.join(","))
}

/// A response body of messages, each of which is sent when it is made.
pub struct MessageBody(mpsc::Receiver<Bytes>);

impl Body for MessageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|message| message.map(|message| Ok(Frame::data(message))))
    }
}
