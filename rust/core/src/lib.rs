//! The client side of the Lambda Runtime API and of the Extensions API: protocol names, HTTP/1.1 as bytes in and bytes
//! out, a transport trait, and the calls. No Python and no async runtime, so that it can be tested, fuzzed and
//! benchmarked alone.

pub mod client;
pub mod error;
mod exchange;
pub mod extension;
pub mod http1;
pub mod invocation;
mod json_members;
pub mod memory;
pub mod protocol;
pub mod telemetry_receiver;
pub mod transport;

pub use client::stream::{Flow, StreamError, StreamHead};
pub use client::{Answer, AnswerKind, Client, Posted};
pub use error::{Call, Error, Refusal};
pub use extension::{
    EventType, ExtensionClient, ExtensionError, ExtensionEvent, RefusalReason, Registration, Subscribed,
};
pub use invocation::Invocation;
pub use transport::{Interest, Interrupted, Poll, Tcp, TcpConnector, Wait};
