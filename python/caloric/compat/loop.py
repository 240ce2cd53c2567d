"""The loop over invocations, in Python: slower than the one in Rust, and every step can be patched."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from caloric._rust import decode_json

if TYPE_CHECKING:
    from typing import NoReturn

    from caloric._rust import RuntimeClient

__all__ = ["answer", "post_initialization_error", "run"]


def answer(
    client: RuntimeClient, request_id: str, invocation_id: str | None, result: object, error: Exception | None
) -> None:
    """Answer the invocation that `client.run` has left. Raises what a patch raises, and `RuntimeApiError`."""

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
    while True:
        request = lambda_runtime_client.wait_next_invocation()
        bootstrap._GLOBAL_AWS_REQUEST_ID = request.invoke_id
        bootstrap._GLOBAL_TENANT_ID = request.tenant_id
        bootstrap.handle_event_request(
            lambda_runtime_client,
            handler,
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


def post_initialization_error(client: RuntimeClient, error_type: str, body: bytes) -> None:
    """Report that initialization failed, by way of what may have been patched."""
    lambda_runtime_client: Any = import_module("awslambdaric.lambda_runtime_client")
    document = decode_json(body)
    override = () if error_type == document["errorType"] else (error_type,)
    lambda_runtime_client.LambdaRuntimeClient.of_process(client).post_init_error(document, *override)
