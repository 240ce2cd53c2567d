"""What the tests of the service's operations share: a service on real files, and environments that write down."""

from __future__ import annotations

import asyncio
import io
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette

from caloric.local.environments.interface import FunctionVersion, ProvisionedEnvironments
from caloric.local.http.downloads import download_route
from caloric.local.service.errors import ServiceError
from caloric.local.service.service import LambdaService
from caloric.local.state.blobs import Blobs
from caloric.local.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from caloric.local.service.operations import Operation

ARN = "arn:aws:lambda:eu-west-1:123456789012"


@dataclass
class RecordingEnvironments:
    """Starts nothing, and remembers what it was asked for."""

    reserved: dict[str, int | None] = field(default_factory=dict)
    provisions: dict[tuple[str, str], int] = field(default_factory=dict)
    progress: dict[tuple[str, str], ProvisionedEnvironments] = field(default_factory=dict)
    """What `provisioned` answers; a test sets it."""

    def publish(self, function: FunctionVersion) -> None: ...

    def withdraw(self, function_name: str, version: str | None = None) -> None: ...

    def route(self, function_name: str, alias: str, weights: Mapping[str, float] | None) -> None: ...

    def reserve(self, function_name: str, concurrency: int | None) -> None:
        self.reserved[function_name] = concurrency

    def provision(self, function_name: str, qualifier: str, environments: int) -> None:
        self.provisions[function_name, qualifier] = environments

    def provisioned(self, function_name: str, qualifier: str) -> ProvisionedEnvironments:
        return self.progress.get((function_name, qualifier), ProvisionedEnvironments())


@dataclass
class Harness:
    """A service in a folder of its own."""

    service: LambdaService
    environments: RecordingEnvironments

    def __call__(self, operation: Operation, **members: Any) -> dict[str, Any]:
        """Return the operation's answer, without members that are `None` as these are not sent."""
        answer = operation(self.service, members)
        return {member: value for member, value in answer.items() if value is not None}

    def refused(self, operation: Operation, **members: Any) -> tuple[str, str | None]:
        """Return the name and message of the operation's error."""
        with pytest.raises(ServiceError) as raised:
            operation(self.service, members)
        return raised.value.name, raised.value.message

    def function(self, name: str = "orders", *, versions: int = 0, **aliases: str) -> str:
        """Make a function with so many published versions and these aliases, and return its ARN."""
        with self.service.store.write() as transaction:
            transaction.put("function", name, document={})
            for version in range(versions + 1):
                document = {
                    "RevisionId": f"{name} {version}",
                    "CodeSize": 100,
                    "LastUpdateStatus": "Successful",
                }
                transaction.put("version", name, version, document=document)
            for alias, target in aliases.items():
                alias_document = {"Name": alias, "FunctionVersion": target, "RevisionId": f"{name} {alias}"}
                transaction.put("alias", name, alias, document=alias_document)
        return f"{ARN}:function:{name}"


def harness(folder: Path) -> Harness:
    """Return a new service whose data are in `folder`."""
    environments = RecordingEnvironments()
    service = LambdaService(
        region="eu-west-1",
        account="123456789012",
        store=Store(folder / "state.db"),
        blobs=Blobs(folder / "blobs"),
        environments=environments,
    )
    return Harness(service, environments)


def download(lambda_: Harness, address: str) -> httpx.Response:
    """Return what the service answers at an address for downloads."""

    async def get() -> httpx.Response:
        application = Starlette(routes=[download_route(lambda_.service)])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=application)) as client:
            return await client.get(address)

    return asyncio.run(get())


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """Return a zip archive with these files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2021, 5, 4, 3, 2, 2)), content)
    return file.getvalue()
