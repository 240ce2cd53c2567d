//! The names of the Runtime API and of the Extensions API, each written once (spec runtime-api 1.2 to 1.5, spec
//! extensions-telemetry 1 and 2).
//!
//! Both sides of the wire import them from here: the client in this crate and the endpoint.

/// What all paths of the Runtime API begin with.
pub const RUNTIME_PREFIX: &str = "/2018-06-01/runtime/";
/// Long poll for the next invocation.
pub const NEXT_PATH: &str = "/2018-06-01/runtime/invocation/next";
/// `/<id>/response` and `/<id>/error` follow.
pub const INVOCATION_PREFIX: &str = "/2018-06-01/runtime/invocation/";
/// Report a failed initialisation.
pub const INIT_ERROR_PATH: &str = "/2018-06-01/runtime/init/error";
/// With SnapStart: long poll for the restore; the snapshot is taken while it waits.
pub const RESTORE_NEXT_PATH: &str = "/2018-06-01/runtime/restore/next";
/// Report that a hook failed after the restore.
pub const RESTORE_ERROR_PATH: &str = "/2018-06-01/runtime/restore/error";
/// Liveness probe kept for compatibility, answers `pong`.
pub const PING_PATH: &str = "/2018-06-01/ping";

/// The invocation's id; opaque, normally a UUID.
pub const AWS_REQUEST_ID: &str = "Lambda-Runtime-Aws-Request-Id";
/// Unix time in milliseconds at which the function times out.
pub const DEADLINE_MS: &str = "Lambda-Runtime-Deadline-Ms";
/// ARN as the caller named it.
pub const INVOKED_FUNCTION_ARN: &str = "Lambda-Runtime-Invoked-Function-Arn";
/// X-Ray tracing header.
pub const TRACE_ID: &str = "Lambda-Runtime-Trace-Id";
/// JSON text of the mobile SDK's client context.
pub const CLIENT_CONTEXT: &str = "Lambda-Runtime-Client-Context";
/// JSON text of the caller's Cognito identity.
pub const COGNITO_IDENTITY: &str = "Lambda-Runtime-Cognito-Identity";
/// Tenant of a function with tenant isolation.
pub const TENANT_ID: &str = "Lambda-Runtime-Aws-Tenant-Id";
/// One attempt of an invocation; echoed on its answer.
pub const INVOCATION_ID: &str = "Lambda-Runtime-Invocation-Id";
/// `Category.Reason` of a reported error.
pub const FUNCTION_ERROR_TYPE: &str = "Lambda-Runtime-Function-Error-Type";
/// Base64 of the error document, as the trailer of a streamed response.
pub const FUNCTION_ERROR_BODY: &str = "Lambda-Runtime-Function-Error-Body";
/// X-Ray's cause of an error, JSON on one line.
pub const XRAY_ERROR_CAUSE: &str = "Lambda-Runtime-Function-XRay-Error-Cause";
/// Absent for a buffered response, `streaming` for a streamed one.
pub const RESPONSE_MODE: &str = "Lambda-Runtime-Function-Response-Mode";
/// Not AWS's: with a virtual clock, [`DEADLINE_MS`] in the time that the clock shows.
pub const CALORIC_DEADLINE_MS: &str = "Caloric-Deadline-Ms";

/// The trailers of a streamed response, announced in its head.
pub const STREAM_TRAILERS: &str = "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body";
/// Type of a streamed response that begins with a prelude: status, headers and cookies as JSON, and eight zero bytes.
pub const HTTP_INTEGRATION: &str = "application/vnd.awslambda.http-integration-response";

/// Register an extension.
pub const EXTENSION_REGISTER_PATH: &str = "/2020-01-01/extension/register";
/// Long poll for an extension's next event.
pub const EXTENSION_NEXT_PATH: &str = "/2020-01-01/extension/event/next";
/// An extension failed before its first poll.
pub const EXTENSION_INIT_ERROR_PATH: &str = "/2020-01-01/extension/init/error";
/// An extension failed later.
pub const EXTENSION_EXIT_ERROR_PATH: &str = "/2020-01-01/extension/exit/error";
/// Subscribe to telemetry.
pub const TELEMETRY_PATH: &str = "/2022-07-01/telemetry";
/// Subscribe to logs, the predecessor of telemetry.
pub const LOGS_PATH: &str = "/2020-08-15/logs";

/// An extension's name; an external one's is its file's.
pub const EXTENSION_NAME: &str = "Lambda-Extension-Name";
/// What an extension wants to be told at registration, comma-separated; `accountId` is the only value known.
pub const EXTENSION_ACCEPT_FEATURE: &str = "Lambda-Extension-Accept-Feature";
/// A registered extension's id, a UUID.
pub const EXTENSION_IDENTIFIER: &str = "Lambda-Extension-Identifier";
/// The id of one delivered event.
pub const EXTENSION_EVENT_IDENTIFIER: &str = "Lambda-Extension-Event-Identifier";
/// `Category.Reason` of an error that an extension reports.
pub const EXTENSION_ERROR_TYPE: &str = "Lambda-Extension-Function-Error-Type";

/// Largest event and largest buffered response, in bytes (6 MiB and 100).
pub const MAX_PAYLOAD_SIZE: usize = 6 * 1024 * 1024 + 100;
/// Largest request head the platform reads, which bounds the X-Ray header (1.2 MiB).
pub const MAX_REQUEST_HEAD: usize = 1_258_291;
