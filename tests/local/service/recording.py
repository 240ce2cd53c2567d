"""A service on real files whose environments write down what they are told, for tests of its operations."""

from __future__ import annotations

import io
import time
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from caloric.local.environments.interface import ProvisionedEnvironments
from caloric.local.service.errors import ServiceError
from caloric.local.service.functions import create_function, get_function_configuration
from caloric.local.service.service import LambdaService
from caloric.local.state.data_directory import DataDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from caloric._rust import InvokeResult
    from caloric.local.environments.interface import FunctionVersion
    from caloric.local.service.operations import Operation

ARN = "arn:aws:lambda:eu-west-1:123456789012:function"
ROLE = "arn:aws:iam::123456789012:role/lambda"
WAIT_S = 30


@dataclass
class RecordingEnvironments:
    """Starts nothing: keeps what could be invoked, as the protocol has it."""

    versions: dict[tuple[str, str], FunctionVersion] = field(default_factory=dict)
    routes: dict[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    provisions: dict[tuple[str, str], int] = field(default_factory=dict)
    progress: dict[tuple[str, str], ProvisionedEnvironments] = field(default_factory=dict)
    """What `provisioned` answers; a test sets it."""

    def publish(self, function: FunctionVersion) -> None:
        assert function.code.is_dir()
        assert all(layer.is_dir() for layer in function.layers)
        self.versions[function.function_name, function.version] = function

    def withdraw(self, function_name: str, version: str | None = None) -> None:
        for table in (self.versions, self.routes, self.provisions):
            for key in [key for key in table if key[0] == function_name and version in (None, key[1])]:
                del table[key]
        if version is None:
            self.reserved.pop(function_name, None)

    def route(self, function_name: str, alias: str, weights: Mapping[str, float] | None) -> None:
        if weights is None:
            self.routes.pop((function_name, alias), None)
        else:
            assert sum(weights.values()) == pytest.approx(1)
            self.routes[function_name, alias] = weights

    def reserve(self, function_name: str, concurrency: int | None) -> None:
        if concurrency is None:
            self.reserved.pop(function_name, None)
        else:
            self.reserved[function_name] = concurrency

    def provision(self, function_name: str, qualifier: str, environments: int) -> None:
        if environments:
            self.provisions[function_name, qualifier] = environments
        else:
            self.provisions.pop((function_name, qualifier), None)

    def provisioned(self, function_name: str, qualifier: str) -> ProvisionedEnvironments:
        return self.progress.get((function_name, qualifier), ProvisionedEnvironments())

    def submit(
        self,
        function_name: str,
        qualifier: str | None,
        event: bytes,
        callback: Callable[[InvokeResult], object],
        *,
        request_id: str | None = None,
        trace_id: str | None = None,
        tenant_id: str | None = None,
    ) -> str | None:
        raise AssertionError("invocations are tested with real environments: test_invocations.py")


class Lambda:
    """The service in `folder`, to be asked as a client asks."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.directory = DataDirectory(folder)
        self.environments = RecordingEnvironments()
        self.service = LambdaService(
            region="eu-west-1",
            account="123456789012",
            store=self.directory.store,
            blobs=self.directory.blobs,
            environments=self.environments,
            **options,
        )
        self.service.activation.start()

    def __call__(self, operation: Operation, **members: Any) -> dict[str, Any]:
        return dict(operation(self.service, members))

    def refused(self, operation: Operation, **members: Any) -> tuple[str, str | None]:
        """Return the error's name and message."""
        with pytest.raises(ServiceError) as raised:
            operation(self.service, members)
        return raised.value.name, raised.value.message

    def create(self, name: str = "orders", **members: Any) -> dict[str, Any]:
        """Create a function of one file."""
        return self(create_function, **new(name, **members))

    def settled(self, name: str = "orders", qualifier: str | None = None) -> dict[str, Any]:
        """Return the configuration when nothing is in progress any more."""
        end = time.monotonic() + WAIT_S
        while True:
            answer = self(
                get_function_configuration,
                FunctionName=name,
                **({} if qualifier is None else {"Qualifier": qualifier}),
            )
            if answer["State"] != "Pending" and answer.get("LastUpdateStatus") != "InProgress":
                return answer
            assert time.monotonic() < end, answer
            time.sleep(0.005)

    def created(self, name: str = "orders", **members: Any) -> dict[str, Any]:
        """Create a function, and return its configuration when it is ready."""
        self.create(name, **members)
        return self.settled(name)

    def close(self) -> None:
        self.service.activation.close()
        self.directory.close()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until what a thread of the service does has made the condition true."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.005)


def new(name: str = "orders", **members: Any) -> dict[str, Any]:
    """Return the members of a request that creates a function."""
    return {
        "FunctionName": name,
        "Role": ROLE,
        "Runtime": "python3.13",
        "Handler": "app.handler",
        "Code": {"ZipFile": zipped({"app.py": "def handler(event, context): return event"})},
        **members,
    }


def zipped(files: Mapping[Any, str | bytes]) -> bytes:
    """Return a zip file with these files, by name or `ZipInfo`; the same files make the same bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name, (2021, 5, 4, 3, 2, 2)) if isinstance(name, str) else name
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    return file.getvalue()
