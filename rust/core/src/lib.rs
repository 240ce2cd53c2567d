//! The client side of the Lambda Runtime API: protocol names, HTTP/1.1 as bytes in and bytes out, a transport
//! trait, and the four calls. No Python and no async runtime, so that it can be tested, fuzzed and benchmarked alone.

pub mod client;
pub mod error;
pub mod http1;
pub mod invocation;
pub mod memory;
pub mod protocol;
pub mod transport;

pub use client::{Answer, AnswerKind, Client, Posted};
pub use error::{Call, Error, Refusal};
pub use invocation::Invocation;
pub use transport::{Interest, Interrupted, Poll, TcpConnector, Wait};
