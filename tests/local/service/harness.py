"""The service with functions that are made as a client makes them, for the tests of what is set for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
from starlette.applications import Starlette

from caloric.local.http.downloads import download_route
from caloric.local.service.aliases import create_alias
from caloric.local.service.functions import update_function_configuration
from caloric.local.service.versions import publish_version
from tests.local.service.recording import Lambda, zipped

if TYPE_CHECKING:
    from caloric.local.service.operations import Operation

__all__ = ["ARN", "Harness", "zipped"]

ARN = "arn:aws:lambda:eu-west-1:123456789012"


class Harness(Lambda):
    """The service, to be asked as a client asks."""

    def __call__(self, operation: Operation, **members: Any) -> dict[str, Any]:
        """Return the operation's answer, without members that are `None` as these are not sent."""
        answer = super().__call__(operation, **members)
        return {member: value for member, value in answer.items() if value is not None}

    def function(self, name: str = "orders", *, versions: int = 0, **aliases: str) -> None:
        """Make a function with so many published versions and these aliases, and wait until it is ready."""
        self.created(name)
        for version in range(versions):
            # Without a change there is no new version.
            self(update_function_configuration, FunctionName=name, Description=f"version {version + 1}")
            self.settled(name)
            self(publish_version, FunctionName=name)
        for alias, version_name in aliases.items():
            self(create_alias, FunctionName=name, Name=alias, FunctionVersion=version_name)

    def download(self, address: str) -> httpx.Response:
        """Return what the service answers at an address for downloads."""

        async def get() -> httpx.Response:
            application = Starlette(routes=[download_route(self.service)])
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=application)) as client:
                return await client.get(address)

        return asyncio.run(get())
