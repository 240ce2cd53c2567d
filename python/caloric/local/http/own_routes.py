"""Routes of the local Lambda's own beside AWS's: what `caloric local status` and `caloric local stop` ask.

`GET /_caloric/status` answers with the document of `caloric.local.status`. `POST /_caloric/stop` ends the service after
the answer, which says whose process and data directory that is. Where requests must be signed, these two want the token
that `service.json` in the data directory has, as `Authorization: Bearer TOKEN`.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

__all__ = ["own_routes"]


def own_routes(
    status: Callable[[], Mapping[str, Any]], end: Callable[[], object], *, token: str | None
) -> list[BaseRoute]:
    """Return the routes. `status` makes the document, on a thread; `end` has the service end.

    With `token` every request must name it.
    """

    def refused(request: Request) -> Response | None:
        given = request.headers.get("authorization", "")
        if token is None or hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return None
        message = (
            "This service wants signed requests: its commands work where its data directory can be read."
        )
        return JSONResponse(
            {"message": message}, 403, {"x-amzn-ErrorType": "MissingAuthenticationTokenException"}
        )

    async def show(request: Request) -> Response:
        return refused(request) or JSONResponse(await run_in_threadpool(status))

    async def stop(request: Request) -> Response:
        refusal = refused(request)
        if refusal is not None:
            return refusal
        document = await run_in_threadpool(status)
        about = {name: document[name] for name in ("pid", "data", "url")}
        return JSONResponse(about, background=BackgroundTask(end))

    return [
        Route("/_caloric/status", show, methods=["GET"]),
        Route("/_caloric/stop", stop, methods=["POST"]),
    ]
