"""Environments made as the service makes them, in a data directory of the test's own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from caloric.local.environments.interface import FunctionVersion
from caloric.local.environments.layer_folders import LayerFolders
from caloric.local.environments.logs import LogStreams
from caloric.local.environments.maker import EnvironmentMaker, RunningEnvironment
from caloric.local.environments.runtimes import OWN_VERSION, Runtimes
from caloric.local.environments.variables import CredentialsSource
from caloric.local.sandbox.process import ProcessSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import WriteFunction

REGION = "eu-west-1"
ACCOUNT = "123456789012"


FAILING = """
import os, time
def handler(event, context):
    if event == "crash":
        os._exit(1)
    if event == "hang":
        time.sleep(100)
    if event == "grow":
        hog = b"x" * (1 << 29)
        time.sleep(100)
    return [context.log_stream_name, os.getpid()]
"""
"""A function that fails in the ways after which Lambda resets an environment."""


def version_of(code: Path, **members: Any) -> FunctionVersion:
    """A function version with the usual settings."""
    name = members.get("function_name", "orders")
    given: dict[str, Any] = {
        "function_name": name,
        "version": "$LATEST",
        "function_arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}",
        "runtime": f"python{OWN_VERSION}",
        "handler": "app.handler",
        "code": code,
        "timeout_s": 20,
        "memory_mb": 256,
        "ephemeral_storage_mb": 512,
        **members,
    }
    return FunctionVersion(**given)


class MakeMaker(Protocol):
    """The type of the `make_maker` fixture."""

    def __call__(self, **settings: Any) -> EnvironmentMaker: ...


@pytest.fixture
def make_maker(tmp_path: Path) -> MakeMaker:
    """Return a function that makes an `EnvironmentMaker` on the test's data directory."""
    data = tmp_path / "data"

    def make(**settings: Any) -> EnvironmentMaker:
        given: dict[str, Any] = {
            "runtimes": Runtimes(data / "runtimes"),
            "layers": LayerFolders(data / "opt"),
            "logs": LogStreams(data / "logs"),
            "sandbox": ProcessSandbox(),
            "credentials": CredentialsSource({"HOME": str(tmp_path)}),
            "region": REGION,
            "account": ACCOUNT,
            **settings,
        }
        return EnvironmentMaker(**given)

    return make


@pytest.fixture
def maker(make_maker: MakeMaker) -> EnvironmentMaker:
    """An `EnvironmentMaker` with the usual settings."""
    return make_maker()


class Make(Protocol):
    """The type of the `make` fixture."""

    def __call__(self, function: FunctionVersion, **how: Any) -> RunningEnvironment: ...


@pytest.fixture
def make(maker: EnvironmentMaker) -> Iterator[Make]:
    """Return a function that makes an environment, which is closed after the test."""
    made: list[RunningEnvironment] = []

    def make(function: FunctionVersion, **how: Any) -> RunningEnvironment:
        made.append(how.pop("maker", maker).make(function, **how))
        return made[-1]

    yield make
    close(*made)


def close(*made: RunningEnvironment) -> None:
    """Close environments at the same time, and wait until nothing of them is left."""
    threads = [threading.Thread(target=running.environment.close) for running in made]
    for thread in threads:
        thread.start()
    for running, thread in zip(made, threads, strict=True):
        thread.join()
        assert running.ended.wait(20)
        assert running.let_go(at_once=True)


@pytest.fixture
def code(write_function: WriteFunction) -> Path:
    """A function that tells what it sees."""
    return write_function(
        """
        import json, os, sys, tempfile
        started = 0
        def handler(event, context):
            global started
            started += 1
            print("called with", json.dumps(event))
            return {
                "event": event,
                "variables": dict(os.environ),
                "cwd": os.getcwd(),
                "pid": os.getpid(),
                "calls": started,
                "executable": sys.executable,
                "version": "%d.%d" % sys.version_info[:2],
                "path": sys.path,
                "tmp": tempfile.gettempdir(),
                "log_stream": context.log_stream_name,
                "log_group": context.log_group_name,
                "arn": context.invoked_function_arn,
                "function_version": context.function_version,
                "memory": context.memory_limit_in_mb,
            }
        """
    )
