"""The loop over invocations, in Python: slower than the one in Rust, and every step can be patched."""

from __future__ import annotations

import functools
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from caloric._rust import decode_json

if TYPE_CHECKING:
    from typing import NoReturn

    from caloric._rust import RuntimeClient

__all__ = ["after_invoke", "answer", "called_with", "note_context", "post_initialization_error", "run"]

# What the invocation at hand has called its handler with, if it has: for the hooks after it.
_called_with: tuple[Any, Any] | None = None
# Its context, for streams and for what is to be done after the response.
_context: Any = None


def answer(
    client: RuntimeClient,
    request_id: str,
    invocation_id: str | None,
    result: object,
    error: Exception | None,
    arguments: tuple[Any, Any] | None,
) -> None:
    """Answer the invocation that `client.run` has left. Raises what a patch raises, and `RuntimeApiError`."""
    global _called_with
    _called_with = arguments
    note_context(None if arguments is None else arguments[1])

    def outcome() -> object:
        if error is not None:
            raise error
        return result

    bootstrap: Any = import_module("awslambdaric.bootstrap")
    lambda_runtime_client = bootstrap.LambdaRuntimeClient.of_process(client)
    bootstrap.answer(lambda_runtime_client, outcome, request_id, bootstrap.create_log_sink(), invocation_id)


def run(client: RuntimeClient, handler: Any) -> NoReturn:
    """Serve invocations until the process ends.

    Functions are looked up each time they are called, so that a patch takes effect at once. Raises what
    `RuntimeClient.run` raises, and what a patch raises.
    """
    bootstrap: Any = import_module("awslambdaric.bootstrap")
    lambda_runtime_client = bootstrap.LambdaRuntimeClient.of_process(client)
    log_sink = bootstrap.create_log_sink()
    bootstrap.LambdaContext._client = client
    while True:
        request = lambda_runtime_client.wait_next_invocation()
        bootstrap._GLOBAL_AWS_REQUEST_ID = request.invoke_id
        bootstrap._GLOBAL_TENANT_ID = request.tenant_id
        hooks = sys.modules.get("caloric.lifecycle")
        bootstrap.handle_event_request(
            lambda_runtime_client,
            handler if hooks is None else _after_hooks(hooks, handler),
            request.invoke_id,
            request.event_body,
            request.content_type,
            request.client_context,
            request.cognito_identity,
            request.invoked_function_arn,
            request.deadline_time_in_ms,
            request.tenant_id,
            log_sink,
            request.invocation_id,
        )
        del request
        shutdown = sys.modules.get("caloric.shutdown")
        if shutdown is not None:
            # User code may have set another handler for SIGTERM.
            shutdown.watch()


def _after_hooks(lifecycle: Any, handler: Any) -> Any:
    """The handler behind the `before_invoke` hooks: for tools that wrap it, they are a part of it."""

    @functools.wraps(handler)
    def call(event: Any, context: Any) -> object:
        global _called_with
        _called_with = (event, context)
        lifecycle.run_before_invoke(event, context)
        return handler(event, context)

    return call


def note_context(context: Any) -> None:
    """Say whose invocation it is that is to be answered next."""
    global _context
    _context = context


def called_with() -> tuple[Any, Any]:
    """Return event and context of the invocation that is to be answered; without hooks the event is None."""
    return _called_with or (None, _context)


def after_invoke(result: object, error: Exception | None, request_id: str) -> BaseException | None:
    """Run the `after_invoke` hooks. Returns what is to be raised when the answer has been sent, if anything."""
    global _called_with
    arguments, _called_with = _called_with, None
    lifecycle = sys.modules.get("caloric.lifecycle")
    if lifecycle is None or arguments is None:
        return None
    ending: BaseException | None = lifecycle.run_after_invoke(*arguments, result, error, request_id)
    return ending


def post_initialization_error(client: RuntimeClient, error_type: str, body: bytes) -> None:
    """Report that initialization failed, by way of what may have been patched."""
    lambda_runtime_client: Any = import_module("awslambdaric.lambda_runtime_client")
    document = decode_json(body)
    override = () if error_type == document["errorType"] else (error_type,)
    lambda_runtime_client.LambdaRuntimeClient.of_process(client).post_init_error(document, *override)
