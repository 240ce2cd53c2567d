"""Make one execution environment of a function version: Runtime API, variables, log stream, processes."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from caloric._rust import ExecutionEnvironment
from caloric.local.environments.layer_folders import UnusableLayersError, installed_extensions
from caloric.local.environments.runtimes import RuntimeUnavailableError
from caloric.local.environments.variables import variables_of
from caloric.local.process import log_stream_name
from caloric.local.sandbox import Launch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from caloric.local.environments.interface import FunctionVersion
    from caloric.local.environments.layer_folders import LayerFolders
    from caloric.local.environments.logs import LogStream, LogStreams
    from caloric.local.environments.runtimes import Program, Runtimes
    from caloric.local.environments.variables import CredentialsSource
    from caloric.local.sandbox import Places, Sandbox, Sandboxed

__all__ = ["CannotMakeError", "EnvironmentMaker", "RunningEnvironment"]

INIT_LIMIT_MS = 10_000
"""Of an on-demand environment's Init phase (spec lambda-service 7.2)."""

INIT_LIMIT_AHEAD_MS = 130_000
"""Of one that is started ahead, whose init nobody waits for; or the function's time limit, if that is longer."""

_DESCRIPTOR_GRACE_S = 2.0

# For code that changes: byte code is told from that of other code by the source's size and time in whole seconds, so
# that of a moment ago would do for what was saved in the same second.
_FRESH_CODE = {"PYTHONDONTWRITEBYTECODE": "1", "CALORIC_TRUST_BYTECODE": "0"}


class CannotMakeError(Exception):
    """An environment cannot be made: an error of the service, with its name in the API model and its HTTP status."""

    def __init__(self, message: str, error_type: str = "ServiceException", status: int = 500) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.status = status


class RunningEnvironment:
    """An environment with its processes and its log stream, until it is closed and nothing of it is left."""

    def __init__(
        self,
        function: FunctionVersion,
        environment: ExecutionEnvironment,
        logs: LogStreams,
        stream: LogStream,
    ) -> None:
        self.function = function
        self.environment = environment
        self.stream = stream
        self.started = time.time()
        """Unix time in seconds."""
        self.ended = threading.Event()
        self._logs = logs
        self._sandboxed: Sandboxed | None = None
        self._ended_at = 0.0
        self._writing = threading.Lock()

    def memory_mb(self) -> float:
        """Return how much memory its processes have now, in MB."""
        sandboxed = self._sandboxed
        return 0.0 if sandboxed is None else sandboxed.memory_mb()

    def write_log(self) -> None:
        """Write what its stream is to get from here. Where the log format is Text, the endpoint writes it itself."""
        if self.function.log_format != "JSON":
            return
        with self._writing:
            events = self.environment.take_telemetry()
            if events:
                # Brings orjson: 20 ms that a service without such functions need not wait for.
                from caloric.local.environments.json_logs import stream_text

                self.stream.write(stream_text(events, self.function.system_log_level))

    def let_go(self, *, at_once: bool = False) -> bool:
        """Close its log stream some time after the end, when the endpoint has no more use for the descriptor.

        Returns whether that is done.
        """
        if not self.ended.is_set():
            return False
        if not at_once and time.monotonic() < self._ended_at + _DESCRIPTOR_GRACE_S:
            return False
        self._logs.close(self.stream)
        return True

    def _begin(self, sandboxed: Sandboxed) -> None:
        self._sandboxed = sandboxed
        if self.ended.is_set():
            self._sandboxed = None

    def _end(self) -> None:
        self.write_log()
        self._ended_at = time.monotonic()
        self.ended.set()
        # The two know each other, and what the environment holds open would wait for the garbage collector.
        self._sandboxed = None


class EnvironmentMaker:
    """Makes environments, for any function, on any thread. `region` and `account` are the service's."""

    def __init__(
        self,
        *,
        runtimes: Runtimes,
        layers: LayerFolders,
        logs: LogStreams,
        sandbox: Sandbox,
        credentials: CredentialsSource,
        region: str,
        account: str,
    ) -> None:
        self.runtimes = runtimes
        self.layers = layers
        self.logs = logs
        self.sandbox = sandbox
        self._credentials = credentials
        self._region = region
        self._account = account

    def make(
        self,
        function: FunctionVersion,
        *,
        ahead: bool = False,
        provisioned: bool = False,
        on_end: Callable[[RunningEnvironment], object] = lambda _: None,
    ) -> RunningEnvironment:
        """Return a new environment, whose processes are started when they are wanted.

        `ahead` says that no invocation waits for it, `provisioned` that it is for provisioned concurrency. `on_end` is
        called, on another thread, when it was closed and nothing of it is left.

        Raises `CannotMakeError`, whose message is for the function's caller. What goes wrong later, a program that
        cannot be started or an init that fails, is the invocation's error, not this one.
        """
        code = function.code
        if not code.is_dir():
            raise CannotMakeError(
                f"the folder {str(code)!r} with the code of {function.function_name} is not there"
                + (": put it back, or deploy the function from another" if function.watched else ""),
                "ResourceNotReadyException",
                502,
            )
        try:
            opt = self.layers.opt(function.layers)
            program = self.runtimes.program(function.runtime, code, opt)
            places = self.sandbox.places(code, opt, writable_code=function.watched)
        except RuntimeUnavailableError as error:
            raise CannotMakeError(str(error), "InvalidRuntimeException", 502) from None
        except UnusableLayersError as error:
            raise CannotMakeError(str(error), "InvalidZipFileException", 502) from None
        except OSError as error:
            raise CannotMakeError(
                f"{error.filename or code} cannot be used: {error.strerror or error}"
            ) from None
        try:
            return self._make(function, program, places, code, opt, ahead, provisioned, on_end)
        except OSError as error:
            raise CannotMakeError(
                f"no environment of {function.function_name} can be made: {error.strerror or error}"
            ) from None
        except ValueError as error:
            raise CannotMakeError(str(error), "InvalidParameterValueException", 400) from None

    def _make(
        self,
        function: FunctionVersion,
        program: Program,
        places: Places,
        code: Path,
        opt: Path | None,
        ahead: bool,
        provisioned: bool,
        on_end: Callable[[RunningEnvironment], object],
    ) -> RunningEnvironment:
        group = function.log_group or f"/aws/lambda/{function.function_name}"
        own_group = group == f"/aws/lambda/{function.function_name}"
        name = log_stream_name(function.version, None if own_group else function.function_name)
        stream = self.logs.open(group, name)
        environment: ExecutionEnvironment | None = None
        try:
            extensions = installed_extensions(opt)
            environment = self._environment(function, stream, extensions, ahead=ahead or provisioned)
            variables = variables_of(
                function,
                environment,
                task_root=places.task_root,
                log_stream=name,
                credentials=self._credentials.current(),
                interpreter=program.command[0] if program.takes_handler else None,
                managed=program.managed,
                initialization_type="provisioned-concurrency" if provisioned else "on-demand",
            )
            if places.opt is not None:
                from caloric.local.layers import layer_variables

                variables.update(layer_variables(places.opt, variables, python_path=not program.knows_layers))
            if function.watched:
                for variable, value in _FRESH_CODE.items():
                    variables.setdefault(variable, value)
            running = RunningEnvironment(function, environment, self.logs, stream)

            def ended(_: Sandboxed) -> None:
                running._end()
                on_end(running)

            inside = {str(code): places.task_root}
            if opt is not None and places.opt is not None:
                inside[str(opt)] = places.opt
            launch = Launch(
                command=[_seen(part, inside) for part in _command(program, function, code, opt)],
                variables=variables,
                places=places,
                extensions={key: _seen(path, inside) for key, path in (extensions or {}).items()},
            )
            running._begin(self.sandbox.start(environment, launch, ended))
            return running
        except BaseException:
            if environment is not None:
                environment.close()
            self.logs.close(stream)
            raise

    def _environment(
        self,
        function: FunctionVersion,
        stream: LogStream,
        extensions: dict[str, str] | None,
        *,
        ahead: bool,
    ) -> ExecutionEnvironment:
        json = function.log_format == "JSON"
        timeout_ms = function.timeout_s * 1000
        return ExecutionEnvironment(
            function_name=function.function_name,
            function_version=function.version,
            region=self._region,
            account_id=self._account,
            memory_size_mb=function.memory_mb,
            timeout_ms=timeout_ms,
            init_timeout_ms=max(INIT_LIMIT_AHEAD_MS, timeout_ms) if ahead else INIT_LIMIT_MS,
            handler=function.handler,
            extensions=None if extensions is None else list(extensions),
            # With JSON the platform's lines are others, and some are filtered: see `RunningEnvironment.write_log`.
            log_fd=-1 if json else stream.descriptor,
            json_logs=json,
            record_telemetry=json,
        )


def _command(program: Program, function: FunctionVersion, code: Path, opt: Path | None) -> list[str]:
    """Return the command that starts the runtime, by the paths of this machine (spec lambda-service 5.5)."""
    command = [*program.command, function.handler] if program.takes_handler else list(program.command)
    wrapper = function.variables.get("AWS_LAMBDA_EXEC_WRAPPER")
    if not wrapper or not program.managed:
        return command
    path = wrapper
    for prefix, folder in (("/opt/", opt), ("/var/task/", code)):
        if folder is not None and wrapper.startswith(prefix):
            path = str(folder / wrapper.removeprefix(prefix))
    if not os.path.isfile(path):
        problem = "does not exist"
    elif not os.access(path, os.X_OK):
        problem = "is not executable"
    else:
        return [path, *command]
    return ["/bin/sh", "-c", f'echo "$0: {problem}" >&2; exit 127', wrapper]


def _seen(path: str, inside: dict[str, str]) -> str:
    """Return where the environment's processes find what is at `path`; folders of ours have other names in there."""
    for folder, name in inside.items():
        if path == folder or path.startswith(folder + os.sep):
            return name + path[len(folder) :]
    return path
