"""The `context` argument of a handler (spec runtime-api 4.12).

https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
"""

import sys
from posix import environ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from caloric._rust import RuntimeClient, SlotInvocation
    from caloric.streaming import ResponseStream

if b"CALORIC_CLOCK" in environ:
    # Started for a test with a virtual clock: deadlines come in its time.
    from caloric.virtual_clock import time
else:
    from time import time

__all__ = ["Client", "ClientContext", "CognitoIdentity", "LambdaContext", "time"]

_W3C_FIELDS = ("traceparent", "tracestate", "baggage")


_VARIABLES = (
    b"AWS_LAMBDA_LOG_GROUP_NAME",
    b"AWS_LAMBDA_LOG_STREAM_NAME",
    b"AWS_LAMBDA_FUNCTION_NAME",
    b"AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    b"AWS_LAMBDA_FUNCTION_VERSION",
)
# Their values when they were looked at last, as they are in the environment and as text. They hardly ever change, and
# decoding them each time would take longer than making the rest of the context.
_seen: "tuple[tuple[bytes | None, ...], tuple[str | None, ...]]" = ((), ())


def _environment() -> "tuple[str | None, ...]":
    """Return the values of `_VARIABLES`, None for what is not set."""
    global _seen
    # posix.environ is what os.environ is a view of; importing os would cost more than everything else here.
    values = tuple(map(environ.get, _VARIABLES))
    if values != _seen[0]:
        decoded = (None if value is None else value.decode(errors="surrogateescape") for value in values)
        _seen = (values, tuple(decoded))
    return _seen[1]


class LambdaContext:
    """What a handler is told about its invocation, function and execution environment.

    Attributes that come from the environment are None where the variable is not set, `memory_limit_in_mb` is a str:
    both as AWS has it. Attributes may be added.
    """

    aws_request_id: str
    log_group_name: str | None
    log_stream_name: str | None
    function_name: str | None
    memory_limit_in_mb: str | None
    function_version: str | None
    invoked_function_arn: str | None
    tenant_id: str | None
    client_context: "ClientContext | None"
    identity: "CognitoIdentity"

    # Set by the loop that calls the handler; a property where there are several (`caloric.concurrency`).
    _client: "RuntimeClient | SlotInvocation | None" = None

    def __init__(
        self,
        invoke_id: str,
        client_context: "dict[str, Any] | None",
        cognito_identity: "dict[str, Any] | None",
        epoch_deadline_time_in_ms: int,
        invoked_function_arn: str | None = None,
        tenant_id: str | None = None,
    ) -> None:
        self.aws_request_id = invoke_id
        (
            self.log_group_name,
            self.log_stream_name,
            self.function_name,
            self.memory_limit_in_mb,
            self.function_version,
        ) = _environment()
        self.invoked_function_arn = invoked_function_arn
        self.tenant_id = tenant_id
        self._w3c_fields = {} if client_context is None else _take_w3c_fields(client_context)
        self.client_context = None if client_context is None else ClientContext(client_context)
        self.identity = CognitoIdentity(cognito_identity)
        self._epoch_deadline_time_in_ms = epoch_deadline_time_in_ms

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds that are left before the function times out, never below 0."""
        remaining = self._epoch_deadline_time_in_ms - int(time() * 1000)
        return remaining if remaining > 0 else 0

    def after_response(self, function: "Callable[..., object]", /, *args: object, **kwargs: object) -> None:
        """Call `function(*args, **kwargs)`, or await it, when the caller has its answer and before the next invocation.

        In the order of the calls, within the same time limit, which `get_remaining_time_in_millis` knows. What it
        raises is logged and changes nothing. Raises `TypeError` for what cannot be called.
        """
        from caloric.after_response import schedule

        schedule(self, function, args, kwargs)

    def open_stream(
        self,
        *,
        status: int | None = None,
        headers: "Mapping[str, str] | None" = None,
        cookies: "Iterable[str]" = (),
        content_type: str | None = None,
    ) -> "ResponseStream":
        """Return the invocation's response as something to write to, for code that pushes.

        What the handler returns is not sent then. With a status, headers or cookies it is an HTTP response
        (`caloric.HttpResponse`); `content_type` is otherwise that of the first piece. Raises `RuntimeError` at the
        second call, and where the runtime is another one; what `HttpResponse` raises.
        """
        from caloric.streaming import open_stream

        return open_stream(self, status, headers, cookies, content_type)

    def log(self, msg: object) -> None:
        """Write `msg` to the function's log as it is, without a line end."""
        text = str(msg)
        if "logging" in sys.modules:
            import logging

            for handler in logging.getLogger().handlers:
                if hasattr(handler, "log_sink"):
                    handler.log_sink.log(text)
                    return
            sys.stdout.write(text)
        else:
            # What our handler would have, if there were one.
            from caloric.log_sink import log_sink

            log_sink.log(text)

    def w3c(self) -> dict[str, str]:
        """Return the W3C trace context that came with the invocation: those of traceparent, tracestate and baggage
        that were strings.
        """
        return dict(self._w3c_fields)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}([aws_request_id={self.aws_request_id},log_group_name={self.log_group_name},"
            f"log_stream_name={self.log_stream_name},function_name={self.function_name},"
            f"memory_limit_in_mb={self.memory_limit_in_mb},function_version={self.function_version},"
            f"invoked_function_arn={self.invoked_function_arn},client_context={self.client_context},"
            f"identity={self.identity},tenant_id={self.tenant_id}])"
        )


def _take_w3c_fields(client_context: "Any") -> dict[str, str]:
    """Remove `w3c` from the client context, where it travels, and return what of it is a trace context."""
    if not isinstance(client_context, dict):
        return {}
    fields = client_context.pop("w3c", None)
    if not isinstance(fields, dict):
        return {}
    return {name: fields[name] for name in _W3C_FIELDS if isinstance(fields.get(name), str)}


class _Fields:
    """Base of the helper classes: a fixed set of attributes, None where nothing was sent."""

    __slots__: tuple[str, ...] = ()

    def __repr__(self) -> str:
        fields = ",".join(f"{name}={getattr(self, name)}" for name in type(self).__slots__)
        return f"{type(self).__name__}([{fields}])"


class CognitoIdentity(_Fields):
    """The Amazon Cognito identity that authorised the call."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self, identity: "dict[str, Any] | None" = None) -> None:
        self.cognito_identity_id = self.cognito_identity_pool_id = None
        if identity is not None:
            self.cognito_identity_id = identity.get("cognitoIdentityId")
            self.cognito_identity_pool_id = identity.get("cognitoIdentityPoolId")


class Client(_Fields):
    """The mobile application that made the call."""

    # In the order in which the peer prints them.
    __slots__ = (  # noqa: RUF023
        "installation_id",
        "app_title",
        "app_version_name",
        "app_version_code",
        "app_package_name",
    )

    def __init__(self, client: "dict[str, Any] | None" = None) -> None:
        client = {} if client is None else client
        for name in self.__slots__:
            setattr(self, name, client.get(name))


class ClientContext(_Fields):
    """What a mobile application sent about itself. `custom` and `env` are any JSON value."""

    __slots__ = ("custom", "env", "client")  # noqa: RUF023

    def __init__(self, client_context: "dict[str, Any] | None" = None) -> None:
        client_context = {} if client_context is None else client_context
        self.custom = client_context.get("custom")
        self.env = client_context.get("env")
        client = client_context.get("client")
        self.client = None if client is None else Client(client)
