"""The REST API as an ASGI application: HTTP around the operations of `caloric.local.service`."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from caloric.local.http import errors, limits, messages, validation
from caloric.local.http import model as api_model
from caloric.local.http.downloads import download_route
from caloric.local.http.routes import Routes
from caloric.local.service.errors import ServiceError
from caloric.local.service.operations import CALL, OPERATIONS, Call
from caloric.local.state.errors import StateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import Receive, Scope, Send

    from caloric.local.http.authentication import Authentication
    from caloric.local.http.messages import Answer
    from caloric.local.http.model import Model
    from caloric.local.http.routes import Match, Query
    from caloric.local.service.operations import Operation
    from caloric.local.service.service import LambdaService

__all__ = ["application"]

_log = logging.getLogger(__name__)

_THREADS = 32
"""So many operations run at a time; others wait. Most wait for the disk or for each other."""


def application(
    service: LambdaService,
    *,
    operations: Mapping[str, Operation] = OPERATIONS,
    model: Model | None = None,
    authentication: Authentication | None = None,
) -> Starlette:
    """Return the application that answers AWS's Lambda API with `operations` on `service`.

    Each operation runs on a thread, to its end even when its caller is gone. Whatever has no other route in the
    application is taken for the API. With `authentication` every request must be signed.

    Raises `ModelError` if there is no API model.
    """
    api = _Api(service, operations, model or api_model.load(), authentication)

    @asynccontextmanager
    async def lifespan(_application: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            # What was begun is finished: its caller may be gone, its effect is half done.
            api.close()

    starlette = Starlette(routes=[download_route(service)], lifespan=lifespan)
    # Not a route with a pattern: a path may have anything in it.
    starlette.router.default = api
    return starlette


class _Received(NamedTuple):
    """What a request says, once all of it is here."""

    method: str
    path: str
    """Percent-encoded, as it came."""
    query_string: str
    query: Query
    headers: Mapping[str, str]
    body: bytes


class _Api:
    """The ASGI application behind `application`."""

    def __init__(
        self,
        service: LambdaService,
        operations: Mapping[str, Operation],
        model: Model,
        authentication: Authentication | None,
    ) -> None:
        self._service = service
        self._operations = operations
        self._model = model
        self._routes = Routes(model.operations.values())
        self._authentication = authentication
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="operation")

    def close(self) -> None:
        """Wait for the operations that run."""
        self._threads.shutdown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the Lambda API speaks HTTP, not {scope['type']}")
        request = Request(scope, receive)
        request_id = str(uuid.uuid4())
        try:
            answer = await self._answer(request, request_id)
        except ClientDisconnect:
            # It left before its request was complete, so nothing was done.
            return
        headers = {"x-amzn-RequestId": request_id, **answer.headers}
        await Response(answer.body, answer.status, headers)(scope, receive, send)

    async def _answer(self, request: Request, request_id: str) -> Answer:
        path = _raw_path(request.scope)
        query_string = request.scope["query_string"].decode("latin-1")
        query = parse_qsl(query_string, keep_blank_values=True, errors="replace")
        match = self._routes.match(request.method, path, query)
        try:
            body = await _body(request, match)
        except ServiceError as error:
            return errors.answer(error, self._model)
        headers = {name: ",".join(request.headers.getlist(name)) for name in request.headers}
        received = _Received(request.method, path, query_string, query, headers, body)
        call = contextvars.copy_context().run
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, call, self._work, match, received, request_id
        )

    def _work(self, match: Match | None, received: _Received, request_id: str) -> Answer:
        """Return the answer, whatever happens. Runs on a thread: a body of 70 MB takes a while."""
        name = "a request" if match is None else match.operation.name
        try:
            return self._operate(match, received, request_id)
        except ServiceError as error:
            return errors.answer(error, self._model)
        except StateError as error:
            # A full disk or a damaged file: what it says is all there is to know.
            _log.error("%s failed (request id %s): %s", name, request_id, error)
            return errors.answer(ServiceError("ServiceException", f"{error}."), self._model)
        except Exception:
            _log.exception("%s failed (request id %s)", name, request_id)
            message = (
                f"The local Lambda failed at {name}. Its log has the reason, with request id {request_id}."
            )
            return errors.answer(ServiceError("ServiceException", message), self._model)

    def _operate(self, match: Match | None, received: _Received, request_id: str) -> Answer:
        access_key = None
        if self._authentication is not None:
            access_key = self._authentication.verify(
                received.method, received.path, received.query_string, received.headers, received.body
            )
        if match is None:
            raise ServiceError(
                "UnknownOperationException", f"Lambda has no operation at {received.method} {received.path}."
            )
        operation = self._operations.get(match.operation.name)
        if operation is None:
            raise ServiceError(
                "NotImplementedException",
                f"{match.operation.name} is an operation of AWS Lambda that the local Lambda does not offer.",
            )
        members = messages.parse(
            match.operation, match.path_members, received.query, received.headers, received.body
        )
        validation.validate(match.operation, members)
        call = Call(request_id, received.headers.get("x-amzn-trace-id"), access_key)
        CALL.set(call)
        answer = messages.write(match.operation, operation(self._service, members))
        answer.headers.update(call.answer_headers)
        return answer


def _raw_path(scope: Scope) -> str:
    raw = scope.get("raw_path")
    # Optional in ASGI. Without it an encoded slash cannot be told from another.
    return raw.decode("latin-1") if raw else quote(scope["path"], safe="/:$")


async def _body(request: Request, match: Match | None) -> bytes:
    """Return the body, looking at its length while it comes in.

    A body that is too large is read on, up to 6 MB above the limit, and thrown away: most clients send all of theirs
    before they look at the answer. Raises `ServiceError` if it is too large, and `ClientDisconnect`.
    """
    name = "" if match is None else match.operation.name
    event = name == "InvokeAsync" or (
        name == "Invoke" and request.headers.get("x-amz-invocation-type") == "Event"
    )
    limit = limits.EVENT_BYTES if event else limits.REQUEST_BYTES.get(name, limits.REQUEST_BYTES_OTHERWISE)
    announced = _announced(request)
    waits = request.headers.get("expect", "").lower() == "100-continue"
    chunks: list[bytes] = []
    length = 0
    if not (announced > limit and waits):
        async for chunk in request.stream():
            length += len(chunk)
            if max(length, announced) <= limit:
                chunks.append(chunk)
            elif length > limit + limits.REQUEST_BYTES_OTHERWISE:
                break
    length = max(length, announced)
    if length <= limit:
        return b"".join(chunks)
    if event:
        message = f"{length} byte payload is too large for the Event invocation type (limit {limit} bytes)"
    else:
        # AWS calls Invoke by the name of its permission.
        shown = {"": "requested", "Invoke": "InvokeFunction"}.get(name, name)
        message = f"Request must be smaller than {limit} bytes for the {shown} operation"
    raise ServiceError("RequestEntityTooLargeException", message)


def _announced(request: Request) -> int:
    # A server lets no other value through; 0 for a body in chunks.
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0
