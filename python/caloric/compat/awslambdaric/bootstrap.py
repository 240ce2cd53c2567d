"""What becomes of an invocation, step by step, under the peer's names and with its signatures: Sentry and others
replace these functions, and each is looked up when it is called.
"""

from __future__ import annotations

import logging
import os
import traceback
from typing import TYPE_CHECKING, Any

from caloric import answers, compat, error_report, log_sink, runtime
from caloric._rust import decode_json
from caloric.compat import loop
from caloric.errors import InitializationError
from caloric.log_sink import FramedTelemetryLogSink, StandardLogSink
from caloric.logs import LambdaLoggerHandler, LambdaLoggerHandlerWithFrameType
from caloric.runtime import Unbuffered

from .lambda_context import LambdaContext
from .lambda_runtime_client import LambdaRuntimeClient
from .lambda_runtime_exception import FaultException
from .lambda_runtime_log_utils import JsonFormatter
from .lambda_runtime_marshaller import LambdaMarshaller, to_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = [
    "FaultException",
    "FramedTelemetryLogSink",
    "JsonFormatter",
    "LambdaContext",
    "LambdaLoggerFilter",
    "LambdaLoggerHandler",
    "LambdaLoggerHandlerWithFrameType",
    "LambdaMarshaller",
    "LambdaRuntimeClient",
    "StandardLogSink",
    "Unbuffered",
    "build_fault_result",
    "create_lambda_context",
    "create_log_sink",
    "extract_traceback",
    "handle_event_request",
    "log_error",
    "make_error",
    "make_xray_fault",
    "parse_json_header",
    "to_json",
]

Frame = tuple[str, int, str, "str | None"]

# The ids of the invocation at hand.
_GLOBAL_AWS_REQUEST_ID: str | None = getattr(compat.client, "aws_request_id", None)
_GLOBAL_TENANT_ID: str | None = getattr(compat.client, "tenant_id", None)


def _get_handler(handler: str) -> Any:
    """Return the function that a handler's name refers to. Raises `FaultException` where there is none."""
    try:
        return runtime.load_handler(handler)
    except InitializationError as error:
        fault = FaultException(error.error_type, str(error), error.stack_trace)
    raise fault


def handle_event_request(
    lambda_runtime_client: Any,
    request_handler: Callable[[Any, LambdaContext], object],
    invoke_id: str,
    event_body: bytes,
    content_type: str,
    client_context_json: str | None,
    cognito_identity_json: str | None,
    invoked_function_arn: str,
    epoch_deadline_time_in_ms: int,
    tenant_id: str | None,
    log_sink: Any,
    invocation_id: str | None = None,
) -> None:
    """Call the handler and post its result, or log and post its error."""
    loop.note_context(None)

    def outcome() -> object:
        # In the peer's order: a context that cannot be made is reported even if the event is broken too.
        context = create_lambda_context(
            client_context_json,
            cognito_identity_json,
            epoch_deadline_time_in_ms,
            invoke_id,
            invoked_function_arn,
            tenant_id,
        )
        loop.note_context(context)
        event = lambda_runtime_client.marshaller.unmarshal_request(event_body, content_type)
        return request_handler(event, context)

    answer(lambda_runtime_client, outcome, invoke_id, log_sink, invocation_id)


def answer(
    lambda_runtime_client: Any,
    outcome: Callable[[], object],
    invoke_id: str,
    log_sink: Any,
    invocation_id: str | None,
) -> None:
    """Post what `outcome` returns, or log and post what it raises. Caloric's own: the second half of
    `handle_event_request`, and what awslambdaric's handlers cannot do.
    """
    failure: Exception | None = None
    document: dict[str, Any] = {}
    cause: dict[str, Any] = {}
    marshalled: tuple[Any, str] | None = None
    result: Any = None
    try:
        result = answers.awaited(outcome())
        if not answers.is_for_python(result, loop.called_with()[1]):
            marshalled = lambda_runtime_client.marshaller.marshal_response(result)
    except FaultException as fault:
        failure = fault
        document = make_error(fault.msg, fault.exception_type, fault.trace, invoke_id)
        cause = make_xray_fault("LambdaValidationError", fault.msg, _working_directory(), [])
    except Exception as error:
        failure = error
        if not answers.has_begun(loop.called_with()[1]):
            document, cause = _describe(error, invoke_id)
    if marshalled is not None:
        ending = loop.after_invoke(result, None, invoke_id)
        lambda_runtime_client.post_invocation_result(invoke_id, *marshalled, invocation_id)
    elif not document:
        # A stream, or a response that is no data.
        client = lambda_runtime_client._client
        answers.answer(client, invoke_id, invocation_id, result, failure, loop.called_with())
        return
    else:
        log_error(document, log_sink)
        answer, xray_cause = to_json(document), to_json(cause)
        ending = loop.after_invoke(None, failure, invoke_id)
        lambda_runtime_client.post_invocation_error(invoke_id, answer, xray_cause, invocation_id)
    if ending is not None:
        raise ending
    answers.work_after(loop.called_with()[1])


def _describe(error: Exception, invoke_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    frames = error_report.handler_frames(error.__traceback__)
    message, error_type = error_report.message_of(error), type(error).__name__
    document = _Document(make_error(message, error_type, traceback.format_list(frames), invoke_id))
    document.details = error_report.details_of(error)
    return document, make_xray_fault(error_type, message, _working_directory(), frames)


class _Document(dict[str, Any]):
    """An error document that brings along what is only logged."""

    details: dict[str, Any]


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def create_lambda_context(
    client_context_json: str | None,
    cognito_identity_json: str | None,
    epoch_deadline_time_in_ms: int,
    invoke_id: str,
    invoked_function_arn: str,
    tenant_id: str | None,
) -> LambdaContext:
    """Return the handler's context. Raises `FaultException` for a header that is no JSON."""
    return LambdaContext(
        invoke_id,
        parse_json_header(client_context_json, "Client Context") if client_context_json else None,
        parse_json_header(cognito_identity_json, "Cognito Identity") if cognito_identity_json else None,
        epoch_deadline_time_in_ms,
        invoked_function_arn,
        tenant_id,
    )


def parse_json_header(header: str, name: str) -> Any:
    """Return what the header `name` says. Raises `FaultException` if it is no JSON."""
    try:
        return decode_json(header.encode())
    except Exception as error:
        message = f"Unable to parse {name} JSON: {error}"
    raise FaultException(FaultException.LAMBDA_CONTEXT_UNMARSHAL_ERROR, message)


def make_error(
    error_message: str | None,
    error_type: str | None,
    stack_trace: list[str] | None,
    invoke_id: str | None = None,
) -> dict[str, Any]:
    """Return the error document (spec runtime-api 4.3)."""
    return {
        "errorMessage": error_message or "",
        "errorType": error_type or "",
        "requestId": invoke_id or "",
        "stackTrace": stack_trace or [],
    }


def make_xray_fault(ex_type: str, ex_msg: str, working_dir: str, tb_tuples: list[Frame]) -> dict[str, Any]:
    """Return X-Ray's cause of an error (spec runtime-api 1.6)."""
    return error_report.xray_cause(ex_type, ex_msg, working_dir, tb_tuples)


def extract_traceback(tb: TracebackType | None) -> list[Frame]:
    """Return file name, line number, function and source line of each frame."""
    return [(frame.filename, frame.lineno or 0, frame.name, frame.line) for frame in traceback.extract_tb(tb)]


def build_fault_result(exc_info: Any, msg: str | None) -> dict[str, Any]:
    """Return the error document for an exception, with `msg` for its message if there is one."""
    kind, error, trace = exc_info
    stack_trace = traceback.format_list(error_report.handler_frames(trace))
    return make_error(msg or error_report.message_of(error), kind.__name__, stack_trace)


def log_error(error_result: dict[str, Any], log_sink: Any) -> None:
    """Write an error document to the log."""
    try:
        log_sink.log_error(error_report.log_lines(error_result, getattr(error_result, "details", {})))
    except (OSError, ValueError):
        # A closed stream, say: the error is reported all the same.
        pass


class LambdaLoggerFilter(logging.Filter):
    """Puts the ids of the invocation at hand on records."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add `aws_request_id` and `tenant_id`; every record passes."""
        record.aws_request_id = _GLOBAL_AWS_REQUEST_ID or ""
        record.tenant_id = _GLOBAL_TENANT_ID
        return True


def create_log_sink() -> StandardLogSink | FramedTelemetryLogSink:
    """Return the sink of this process."""
    return log_sink.log_sink
