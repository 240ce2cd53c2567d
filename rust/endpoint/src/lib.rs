//! The server side of one execution environment: Runtime API, state machine, invoke path.
//!
//! An [`ExecutionEnvironment`] is given invocations and hands them to whatever runtime polls its port. It says when a
//! process is wanted and is told what to start, so that the caller decides what a sandbox is. All environments of a
//! process share one thread.
//!
//! | file | subject |
//! |---|---|
//! | `clock` | the time an environment lives in, which a test can put forward |
//! | `environment` | the public handle: port, start requests, invoke, close |
//! | `environment_folder` | what `/tmp` and `/opt` are on AWS |
//! | `lifecycle` | the state machine: Init, Invoke, timeout, exit (spec runtime-api 1.8 and 7) |
//! | `managed` | the state machine of Managed Instances: several invocations at once (spec runtime-api 6.5) |
//! | `state_machine` | the machine that the configuration asks for, behind one face |
//! | `extensions` | the Extensions API: who is registered, what each may call when, what the phases wait for |
//! | `telemetry` | the Telemetry and Logs APIs: subscriptions, events, batches, delivery |
//! | `runtime_api` | routes, status codes and bodies (spec runtime-api 1.2 to 1.7) |
//! | `invoke_path` | invocations over HTTP: what is asked and answered (spec lambda-service 1) |
//! | `http_front` | the same for one function, on a port of its own |
//! | `service_front` | the Lambda service's port: published functions, and the control plane behind it |
//! | `guard` | who may call a port: programs on this machine, and no web page |
//! | `concurrency` | how many invocations may run at once (spec lambda-service 7.1 and 7.3) |
//! | `url_front` | the function behind HTTP, as a function URL has it (spec lambda-service 4) |
//! | `http_event` | the event that a function URL makes of a request |
//! | `http_response` | the response that it makes of a result, or of a stream's prelude |
//! | `http_connection` | hyper on a socket, and what it writes in one piece |
//! | `invocation` | what goes in and what comes out |
//! | `error_document` | the error JSON that the platform itself writes |
//! | `platform_log` | START, END, REPORT, INIT_REPORT, RESTORE_REPORT |
//! | `log_capture` | the function's output: forwarded, and kept for the log tail |
//! | `control_group` | control groups: where they can be made, and freezing what is in one |
//! | `memory` | how much memory an environment's processes use |
//! | `pool` | several environments of one function: who runs what, and when another one is wanted |
//! | `process` | killing and measuring a runtime process, and how it ended |
//! | `process_tree` | all processes below a reaper, and stopping them with signals |
//! | `reaper` | starting a program under a parent that lets nothing of it outlive us |
//! | `response_stream` | the pieces of a streamed response, from the runtime to its caller |
//! | `event_stream` | the messages in which the service streams a response |
//! | `stream_front` | the service's streaming invoke path (spec lambda-service 1.7) |
//! | `runtime_thread` | the one thread behind it all |

mod clock;
mod concurrency;
mod control_group;
mod environment;
mod environment_folder;
mod error;
mod error_document;
mod event_stream;
mod extensions;
mod guard;
mod http_connection;
mod http_event;
mod http_front;
mod http_response;
mod identifiers;
mod invocation;
mod invoke_path;
mod lifecycle;
mod log_capture;
mod managed;
mod memory;
mod platform_log;
mod pool;
mod process;
mod process_tree;
mod reaper;
mod response_stream;
mod runtime_api;
mod runtime_thread;
mod sandbox;
mod service_front;
mod state_machine;
mod stream_front;
mod telemetry;
mod url_front;

pub use clock::VirtualClock;
pub use concurrency::{AccountFigures, FunctionFigures};
pub use control_group::{FreezerChoice, Version as ControlGroupVersion};
pub use environment::{EnvironmentConfig, ExecutionEnvironment};
pub use error::EndpointError;
pub use extensions::ShutdownReason;
pub use http_front::HttpFront;
pub use invocation::{
    Answer, InvocationRequest, InvocationStatus, InvokeResult, Phases, ServiceFailure, Waiter,
};
pub use pool::{Pool, PoolConfig, PoolCounts, Supply, Wanted};
pub use reaper::ProgramSpec;
pub use response_stream::{Piece, PieceReceiver, pieces};
pub use service_front::{ServiceConfig, ServiceFront};
pub use url_front::InvokeMode;
