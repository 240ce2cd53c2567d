//! What can go wrong on our side of the endpoint. A function that fails is no error here: it is a result.

use std::fmt;
use std::io;

use crate::concurrency::Throttled;

/// Everything the endpoint's public functions fail with.
#[derive(Debug)]
#[non_exhaustive]
pub enum EndpointError {
    /// The address could not be listened on: in use, not ours, or not an address.
    Bind {
        /// `host:port` as it was asked for.
        address: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The endpoint's thread or its event loop could not be started.
    Thread(io::Error),
    /// The pipe for the function's output could not be made.
    Pipe(io::Error),
    /// The folder for temporary files could not be made, or a file of ours in it could not be written.
    Temporary(io::Error),
    /// A virtual clock was to be put forward by more than it can be.
    TooFar,
    /// The environment was closed.
    Closed,
    /// The pool takes no more invocations.
    Retired,
    /// So many invocations may not run at once.
    Throttled(Throttled),
    /// The function keeps its tenants apart, and no tenant is named.
    TenantMissing,
    /// A tenant is named, and the function does not keep them apart.
    TenantUnexpected,
    /// A process was announced while another one is still running.
    ProcessRunning {
        /// The process the environment has.
        running: i32,
        /// The process that was announced.
        announced: i32,
    },
    /// The process could not be started.
    Start {
        /// The file that was to be executed.
        program: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The extensions an environment is to launch are not possible; the text says why.
    Extensions(String),
    /// What stops the processes is not known, or cannot be used; the text says why.
    Freezer(String),
    /// A value given with an invocation cannot be sent as an HTTP header.
    InvalidHeader {
        /// The field as the caller named it.
        field: &'static str,
    },
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, source } => write!(f, "cannot listen on {address}: {}", reason(source)),
            Self::Thread(source) => {
                write!(f, "cannot start the endpoint's thread: {}", reason(source))
            }
            Self::Pipe(source) => {
                write!(f, "cannot make a pipe for the function's output: {}", reason(source))
            }
            Self::Temporary(source) => {
                write!(f, "cannot make a folder for temporary files: {}", reason(source))
            }
            Self::TooFar => f.write_str("a virtual clock cannot be advanced by more than a hundred years"),
            Self::Closed => f.write_str("the execution environment is closed"),
            Self::Retired => f.write_str("the pool is retired: it takes no more invocations"),
            Self::Throttled(_) => f.write_str("Rate Exceeded."),
            Self::TenantMissing => f.write_str(
                "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request \
                 and try again.",
            ),
            Self::TenantUnexpected => f.write_str(
                "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your \
                 request and try again.",
            ),
            Self::ProcessRunning { running, announced } => {
                write!(f, "process {announced} was announced while process {running} is still running")
            }
            Self::Start { program, source } => write!(f, "cannot start '{program}': {}", reason(source)),
            Self::Extensions(problem) | Self::Freezer(problem) => f.write_str(problem),
            Self::InvalidHeader { field } => {
                write!(f, "{field} holds control characters and cannot be sent as a header")
            }
        }
    }
}

/// The system's sentence without the number that Rust appends: the exception has it as `errno`.
pub(crate) fn reason(source: &io::Error) -> String {
    let text = source.to_string();
    match text.split_once(" (os error ") {
        Some((sentence, _)) => sentence.to_owned(),
        None => text,
    }
}

impl std::error::Error for EndpointError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. }
            | Self::Thread(source)
            | Self::Pipe(source)
            | Self::Temporary(source)
            | Self::Start { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named() {
        let source = io::Error::from_raw_os_error(libc::EADDRINUSE);
        let error = EndpointError::Bind { address: "0.0.0.0:8080".to_owned(), source };
        assert_eq!(error.to_string(), "cannot listen on 0.0.0.0:8080: Address already in use");
    }
}
