"""A function that runs on a pair: started, invoked, read and stopped alike, whoever plays Lambda.

Endpoints differ in how they are reached; that is hidden here. What else they differ in is in `differences`.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from caloric._rust import ExecutionEnvironment
from caloric.local.process import function_environment, supervise
from tests.pairs import managed_rie
from tests.parts import rie
from tests.ports import free_port
from tests.runtimes import COMMANDS, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from tempfile import _TemporaryFileWrapper
    from typing import TypeAlias

    LogFile: TypeAlias = _TemporaryFileWrapper[bytes]

INVOKE_PATH = "/2015-03-31/functions/function/invocations"
FUNCTION_NAME = "test_function"
FUNCTION_ARN = "arn:aws:lambda:us-east-1:012345678912:function:test_function"
MEMORY_SIZE_MB = 512
# Seconds. Nothing here takes so long unless it is broken.
PATIENCE = 20.0


@dataclass(frozen=True)
class Answer:
    """What the caller of an invocation gets."""

    payload: bytes
    marked_as_error: bool | None
    """Whether the endpoint says that the function failed; None where it has no way to say so."""

    def json(self) -> Any:
        return json.loads(self.payload)


class Function(Protocol):
    """A function on one endpoint. Its process starts with the first invocation."""

    log_file: Path

    def invoke_bytes(
        self,
        event: bytes,
        *,
        client_context: str | None = None,
        cognito_identity: str | None = None,
        tenant_id: str | None = None,
        trace_id: str | None = None,
    ) -> Answer:
        """Invoke with an event as it is on the wire."""

    def invoke(self, event: object = None) -> Answer:
        """Invoke with an event."""

    def wait_for_log(self, condition: Callable[[str], bool], since: int = 0) -> str:
        """Wait until what was logged from offset `since` on satisfies `condition`, and return it."""

    def invoke_logged(self, event: object = None) -> tuple[Answer, str]:
        """Invoke, and return what the function logged meanwhile, without the platform's lines."""


class _Logged:
    """What both endpoints share: a log file that holds the function's output and the platform's lines."""

    log_file: Path

    def invoke_bytes(
        self,
        event: bytes,
        *,
        client_context: str | None = None,
        cognito_identity: str | None = None,
        tenant_id: str | None = None,
        trace_id: str | None = None,
    ) -> Answer:
        raise NotImplementedError

    def invoke(self, event: object = None) -> Answer:
        return self.invoke_bytes(json.dumps(event).encode())

    def wait_for_log(self, condition: Callable[[str], bool], since: int = 0) -> str:
        deadline = time.monotonic() + PATIENCE
        while not condition(text := self.log_file.read_bytes()[since:].decode(errors="replace")):
            assert time.monotonic() < deadline, f"the log never came to be as expected: {text}"
            time.sleep(0.002)
        return text

    def invoke_logged(self, event: object = None) -> tuple[Answer, str]:
        since = self.log_file.stat().st_size
        answer = self.invoke(event)
        ended = re.compile(r"^END RequestId: .*\n", re.MULTILINE)
        text = self.wait_for_log(lambda text: ended.search(text) is not None, since)
        text = re.split(r"^START RequestId: .*\n", text, maxsplit=1, flags=re.MULTILINE)[1]
        text = ended.split(text)[0]
        return answer, re.sub(r"^.* \(rapid\) .*\n", "", text, flags=re.MULTILINE)


class RieFunction(_Logged):
    """A function behind AWS's emulator, reached over HTTP as its users do."""

    def __init__(self, address: tuple[str, int], log_file: Path) -> None:
        self.address = address
        self.log_file = log_file

    def invoke_bytes(
        self,
        event: bytes,
        *,
        client_context: str | None = None,
        cognito_identity: str | None = None,
        tenant_id: str | None = None,
        trace_id: str | None = None,
    ) -> Answer:
        assert cognito_identity is None, "AWS's emulator has no way to send one"
        headers = {"Content-Type": "application/json"}
        if client_context is not None:
            headers["X-Amz-Client-Context"] = base64.b64encode(client_context.encode()).decode()
        if tenant_id is not None:
            headers["X-Amz-Tenant-Id"] = tenant_id
        if trace_id is not None:
            headers["X-Amzn-Trace-Id"] = trace_id
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("POST", INVOKE_PATH, event, headers)
            response = connection.getresponse()
            payload = response.read()
        return Answer(payload, None if response.status == 200 else True)


class EndpointFunction(_Logged):
    """A function in an execution environment of ours."""

    def __init__(self, environment: ExecutionEnvironment, log_file: Path) -> None:
        self.environment = environment
        self.log_file = log_file

    def invoke_bytes(
        self,
        event: bytes,
        *,
        client_context: str | None = None,
        cognito_identity: str | None = None,
        tenant_id: str | None = None,
        trace_id: str | None = None,
    ) -> Answer:
        result = self.environment.invoke(
            event,
            client_context=client_context,
            cognito_identity=cognito_identity,
            tenant_id=tenant_id,
            trace_id=trace_id,
        )
        return Answer(result.payload, result.function_error is not None)


@dataclass(frozen=True)
class Pair:
    """An endpoint and a runtime."""

    endpoint: Literal["rie", "caloric"]
    runtime: str

    def __str__(self) -> str:
        return f"{self.endpoint}-{self.runtime}"

    @contextlib.contextmanager
    def start(
        self,
        folder: Path,
        handler: str,
        *,
        timeout_s: int = 15,
        snapstart: bool = False,
        max_concurrency: int | None = None,
        **variables: str,
    ) -> Iterator[RieFunction | EndpointFunction]:
        """Set up the function in `folder`, with variables of its own, and take everything down at the end.

        With `max_concurrency` it is one on Lambda Managed Instances.
        """
        command = [*COMMANDS[self.runtime], handler]
        with tempfile.NamedTemporaryFile(suffix=".log") as log:
            start = _start_rie if self.endpoint == "rie" else _start_ours
            with start(command, folder, log, timeout_s, snapstart, max_concurrency, variables) as function:
                yield function


# awslambdaric under AWS's emulator is the control: it shows that a test is about Lambda, not about us.
PAIRS = [Pair(endpoint, runtime) for endpoint in ("rie", "caloric") for runtime in COMMANDS]


@contextlib.contextmanager
def _start_rie(
    command: list[str],
    folder: Path,
    log: LogFile,
    timeout_s: int,
    snapstart: bool,
    max_concurrency: int | None,
    variables: dict[str, str],
) -> Iterator[RieFunction]:
    address, api_address = ("127.0.0.1", free_port()), f"127.0.0.1:{free_port()}"
    options = [
        "--runtime-interface-emulator-address",
        "{}:{}".format(*address),
        "--runtime-api-address",
        api_address,
    ]
    if snapstart:
        # It offers the routes then, but tells the runtime nothing.
        options.append("--enable-init-caching")
        variables = {**variables, "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
    settings = {
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout_s),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_SIZE_MB),
        "AWS_LAMBDA_FUNCTION_NAME": FUNCTION_NAME,
    }
    if max_concurrency is not None:
        # What switches the emulator's mode, and reaches the runtime from there.
        settings["AWS_LAMBDA_MAX_CONCURRENCY"] = str(max_concurrency)
        settings.update(managed_rie.variables(command, folder))
    emulator = [str(rie())] if max_concurrency is None else managed_rie.emulator(rie())
    process = subprocess.Popen(
        [*emulator, *options, *command],
        cwd=folder,
        env=environment(api_address, **settings, **variables),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    try:
        _wait_until_listening(address, process)
        yield RieFunction(address, Path(log.name))
    finally:
        # It kills its runtime, which is in a process group of its own, when it is told to end.
        process.terminate()
        process.wait(PATIENCE)


def _wait_until_listening(address: tuple[str, int], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(address, timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.002)
        else:
            return
    raise AssertionError(f"AWS's emulator does not listen on {address}, exit status {process.poll()}")


@contextlib.contextmanager
def _start_ours(
    command: list[str],
    folder: Path,
    log: LogFile,
    timeout_s: int,
    snapstart: bool,
    max_concurrency: int | None,
    variables: dict[str, str],
) -> Iterator[EndpointFunction]:
    with ExecutionEnvironment(
        function_name=FUNCTION_NAME,
        memory_size_mb=MEMORY_SIZE_MB,
        timeout_ms=timeout_s * 1000,
        snap_start=snapstart,
        max_concurrency=max_concurrency,
        log_fd=log.fileno(),
    ) as execution_environment:
        env = function_environment(
            execution_environment,
            handler=command[-1],
            task_root=os.fspath(folder),
            base=environment(execution_environment.address),
            user=variables,
        )
        with supervise(execution_environment, command, env, cwd=os.fspath(folder)):
            yield EndpointFunction(execution_environment, Path(log.name))
