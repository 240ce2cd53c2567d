//! The server side of one execution environment: Runtime API, state machine, invoke path.
//!
//! An [`ExecutionEnvironment`] is given invocations and hands them to whatever runtime polls its port. It says when a
//! process is wanted and is told what to start, so that the caller decides what a sandbox is. All environments of a
//! process share one thread.
//!
//! | file | subject |
//! |---|---|
//! | `environment` | the public handle: port, start requests, invoke, close |
//! | `environment_folder` | what `/tmp` and `/opt` are on AWS |
//! | `lifecycle` | the state machine: Init, Invoke, timeout, exit (spec runtime-api 1.8 and 7) |
//! | `managed` | the state machine of Managed Instances: several invocations at once (spec runtime-api 6.5) |
//! | `state_machine` | the machine that the configuration asks for, behind one face |
//! | `extensions` | the Extensions API: who is registered, what each may call when, what the phases wait for |
//! | `telemetry` | the Telemetry and Logs APIs: subscriptions, events, batches, delivery |
//! | `runtime_api` | routes, status codes and bodies (spec runtime-api 1.2 to 1.7) |
//! | `http_front` | the invoke path of the Lambda service (spec lambda-service 1) |
//! | `http_connection` | hyper on a socket, and what it writes in one piece |
//! | `invocation` | what goes in and what comes out |
//! | `error_document` | the error JSON that the platform itself writes |
//! | `platform_log` | START, END, REPORT, INIT_REPORT, RESTORE_REPORT |
//! | `log_capture` | the function's output: forwarded, and kept for the log tail |
//! | `memory` | how much memory an environment's processes use |
//! | `process` | killing and measuring a runtime process, and how it ended |
//! | `process_tree` | all processes below a reaper, and stopping them |
//! | `reaper` | starting a program under a parent that lets nothing of it outlive us |
//! | `runtime_thread` | the one thread behind it all |

mod environment;
mod environment_folder;
mod error;
mod error_document;
mod extensions;
mod http_connection;
mod http_front;
mod identifiers;
mod invocation;
mod lifecycle;
mod log_capture;
mod managed;
mod memory;
mod platform_log;
mod process;
mod process_tree;
mod reaper;
mod runtime_api;
mod runtime_thread;
mod state_machine;
mod telemetry;

pub use environment::{EnvironmentConfig, ExecutionEnvironment};
pub use error::EndpointError;
pub use http_front::HttpFront;
pub use invocation::{Answer, InvocationRequest, InvocationStatus, InvokeResult, Phases, Waiter};
pub use reaper::ProgramSpec;
