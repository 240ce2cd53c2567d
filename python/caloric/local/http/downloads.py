"""The route that code and layers are downloaded from, at the addresses of `caloric.local.service.downloads`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from caloric.local.service.downloads import PATH, download_allowed

if TYPE_CHECKING:
    from starlette.requests import Request

    from caloric.local.service.service import LambdaService

__all__ = ["download_route"]

_DIGEST = re.compile(r"[0-9a-f]{64}")


def download_route(service: LambdaService) -> Route:
    """Return the route, for GET and HEAD. It answers 403 to an address that was not given or has expired."""

    def download(request: Request) -> Response:
        digest = request.path_params["digest"]
        expires, signature = (
            request.query_params.get("Expires", ""),
            request.query_params.get("Signature", ""),
        )
        if not _DIGEST.fullmatch(digest) or not download_allowed(service, digest, expires, signature):
            return PlainTextResponse(
                "This address was not given by the service, or is more than ten minutes old: ask for a new one.\n",
                403,
            )
        path = service.blobs.path(digest)
        if not path.is_file():
            return PlainTextResponse("There is nothing at this address any more.\n", 404)
        return FileResponse(path, media_type="application/zip")

    return Route(f"{PATH}{{digest}}", download, methods=["GET"])
