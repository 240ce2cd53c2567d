//! The names of the Runtime API, each written once (spec runtime-api 1.2 to 1.5).
//!
//! Both sides of the wire import them from here: the client in this crate and the endpoint.

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

/// Largest event and largest buffered response, in bytes (6 MiB and 100).
pub const MAX_PAYLOAD_SIZE: usize = 6 * 1024 * 1024 + 100;
/// Largest request head the platform reads, which bounds the X-Ray header (1.2 MiB).
pub const MAX_REQUEST_HEAD: usize = 1_258_291;
