"""The local Lambda: the other side of the wire. Never imported inside Lambda.

`caloric._rust.ExecutionEnvironment` is the server a runtime talks to; `caloric.local.process` starts the runtime.
This package imports nothing at start, because `caloric invoke` pays for every import.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from caloric._rust import ExecutionEnvironment, InvokeResult

__all__ = ["invoke_async"]


async def invoke_async(
    environment: ExecutionEnvironment,
    event: bytes,
    *,
    content_type: str = "application/json",
    request_id: str | None = None,
    client_context: str | None = None,
    cognito_identity: str | None = None,
    trace_id: str | None = None,
    tenant_id: str | None = None,
    timeout_ms: int | None = None,
) -> InvokeResult:
    """Return the finished invocation, as `ExecutionEnvironment.invoke` does, without blocking the event loop.

    Cancelling the task gives up waiting; the invocation itself goes on, as it does in Lambda.

    Raises `RuntimeError` if the environment is closed and `ValueError` for a value that cannot be sent.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    finished: asyncio.Future[InvokeResult] = loop.create_future()

    def settle(result: InvokeResult) -> None:
        if not finished.done():
            finished.set_result(result)

    def callback(result: InvokeResult) -> None:
        # Called on the endpoint's thread. A loop that was closed meanwhile has nobody waiting.
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result)

    environment.submit(
        event,
        callback,
        content_type=content_type,
        request_id=request_id,
        client_context=client_context,
        cognito_identity=cognito_identity,
        trace_id=trace_id,
        tenant_id=tenant_id,
        timeout_ms=timeout_ms,
    )
    return await finished
