"""A Lambda function under test: a real runtime process behind a real Runtime API, or the handler in this process."""

from __future__ import annotations

import os
import sys
import threading
import time
from argparse import Namespace
from collections import deque
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import uuid4

from caloric._rust import encode_json
from caloric.cli import UserMistake
from caloric.cli.function import Function
from caloric.cli.options import FAST_WAY_IN, PUBLISHED_VERSION, external_extensions, merged_layers
from caloric.testing import processes
from caloric.testing.in_process import NO_LIMIT_MS, InProcessRuntime, Modules
from caloric.testing.result import InvocationResult
from caloric.testing.stream import InvocationStream
from caloric.testing.telemetry import ExtensionEvent, Recording, TelemetryEvent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from caloric._rust import ExecutionEnvironment, InvokeResult, InvokeStream, VirtualClock
    from caloric.local.process import RuntimeProcess

    Path = str | os.PathLike[str]

__all__ = ["Invocation", "LambdaFunction", "LambdaFunctionError"]

_LOG_LIMIT = 1_000_000
_SLICE_S = 0.05


class LambdaFunctionError(Exception):
    """A function cannot be set up, or is not there any more; the message says what to do."""


class LambdaFunction:
    """A function under test, as `lambda_function("app.handler")` makes it.

    Its environment starts with the first invocation and lives until `cold_start`, `shutdown` or `close`. It is also a
    context manager, which closes it.

    Arguments: `handler` is `module.function` as configured on Lambda. `env` are the function's environment variables,
    on top of this process's own. `layers` are folders or zip files; `extensions` are executables, started as from
    `/opt/extensions`. `timeout` (seconds, fractions allowed) and `memory` (MB) are the function's limits,
    `init_timeout` that of the Init phase. `task_root` is the folder with the function's code, by default the current
    one. With `snapstart` it is a published version with SnapStart, with `max_concurrency` a function on Managed
    Instances that serves so many invocations at once. `runtime` is `"caloric"`, `"awslambdaric"` or the command line of
    another runtime. Without `freeze` the environment's processes go on between invocations. `clock` is what time limits
    and `get_remaining_time_in_millis` go by. With `in_process` the handler runs in the calling thread.

    Raises `LambdaFunctionError` for what cannot be, with what to do about it.
    """

    def __init__(
        self,
        handler: str,
        *,
        env: Mapping[str, str] | None = None,
        layers: Sequence[Path] = (),
        extensions: Sequence[Path] = (),
        timeout: float = 3,
        memory: int = 128,
        init_timeout: float | None = None,
        task_root: Path | None = None,
        snapstart: bool = False,
        max_concurrency: int | None = None,
        runtime: Literal["caloric", "awslambdaric"] | str | Sequence[str] = "caloric",
        freeze: bool = True,
        clock: VirtualClock | None = None,
        in_process: bool = False,
        function_name: str = "test_function",
    ) -> None:
        self.handler = handler
        """`module.function`."""
        self.task_root = os.path.abspath(os.getcwd() if task_root is None else task_root)
        """The folder with the function's code."""
        self.in_process = in_process
        """Whether the handler runs in the calling thread."""
        self._env = {name: _text(value, name) for name, value in (env or {}).items()}
        self._command = _command(runtime, handler)
        self._knows_layers = runtime == "caloric"
        self._memory = memory
        self._freeze = freeze
        self._max_concurrency = max_concurrency
        self._local = Namespace(
            layer=[os.fspath(layer) for layer in layers],
            extension=[os.fspath(extension) for extension in extensions],
            max_concurrency=max_concurrency,
        )
        _check(timeout, memory, init_timeout, self.task_root)
        if in_process:
            _check_in_process(runtime, snapstart, max_concurrency, self._local.extension)
        self._options: dict[str, Any] = {
            "function_name": function_name,
            "function_version": PUBLISHED_VERSION if snapstart else "$LATEST",
            "memory_size_mb": memory,
            "timeout_ms": round(timeout * 1000),
            "init_timeout_ms": None if init_timeout is None else round(init_timeout * 1000),
            "snap_start": snapstart,
            "max_concurrency": max_concurrency,
            "keep_log": True,
            "freeze": freeze and not in_process,
            "json_logs": self._env.get("AWS_LAMBDA_LOG_FORMAT", os.environ.get("AWS_LAMBDA_LOG_FORMAT"))
            == "JSON",
            "clock": clock,
            "record_telemetry": True,
        }
        self._recording = Recording()
        self._environment: ExecutionEnvironment | None = None
        self._process: RuntimeProcess | None = None
        self._in_process: InProcessRuntime | None = None
        self._modules = Modules(self.task_root)
        self._closed = False
        # What a failing test shows; the oldest go.
        self._logs: deque[bytes] = deque()
        self._logs_size = 0
        # What can be wrong shows now, not at the first invocation.
        self._open()

    # ---- invocations -------------------------------------------------------------------------------------------

    def invoke(
        self,
        event: object = None,
        *,
        client_context: Mapping[str, Any] | None = None,
        cognito_identity: Mapping[str, Any] | None = None,
        trace_id: str | None = None,
        tenant_id: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
        content_type: str = "application/json",
    ) -> InvocationResult:
        """Invoke the function and return what came of it, once the runtime is done. A failure is a result, too.

        `event` is anything that has a form in JSON, by default `{}`; bytes are handed on as they are.
        `client_context` and `cognito_identity` are what the handler finds in its context; `timeout` (seconds) is in
        place of the function's; `request_id` and `trace_id` are made up unless given.

        Raises `LambdaFunctionError` if the function is closed, `TypeError` for an event without a form in JSON, and
        `ValueError` for a value that cannot be sent.
        """
        return self.begin(
            event,
            client_context=client_context,
            cognito_identity=cognito_identity,
            trace_id=trace_id,
            tenant_id=tenant_id,
            request_id=request_id,
            timeout=timeout,
            content_type=content_type,
        ).result()

    def begin(
        self,
        event: object = None,
        *,
        client_context: Mapping[str, Any] | None = None,
        cognito_identity: Mapping[str, Any] | None = None,
        trace_id: str | None = None,
        tenant_id: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
        content_type: str = "application/json",
    ) -> Invocation:
        """Begin an invocation and return at once. Arguments and exceptions are those of `invoke`.

        Invocations of one function run one after another, but for `max_concurrency`. In-process, one runs when its
        `result` is asked for.
        """
        environment = self._open()
        call = self._call(
            event,
            client_context=client_context,
            cognito_identity=cognito_identity,
            trace_id=trace_id,
            tenant_id=tenant_id,
            request_id=request_id,
            timeout=timeout,
            content_type=content_type,
        )
        invocation = Invocation(self, environment, call.request_id or "")
        environment.submit(call.event, invocation._finish, **call.options)
        self._begun(call)
        return invocation

    def stream(
        self,
        event: object = None,
        *,
        client_context: Mapping[str, Any] | None = None,
        cognito_identity: Mapping[str, Any] | None = None,
        trace_id: str | None = None,
        tenant_id: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
        content_type: str = "application/json",
    ) -> InvocationStream:
        """Begin an invocation and return its response, to be read while the function makes it.

        Arguments and exceptions are those of `invoke`. In-process the handler runs to its end when the first piece is
        asked for.
        """
        environment = self._open()
        call = self._call(
            event,
            client_context=client_context,
            cognito_identity=cognito_identity,
            trace_id=trace_id,
            tenant_id=tenant_id,
            request_id=request_id,
            timeout=timeout,
            content_type=content_type,
        )
        invocation = Invocation(self, environment, call.request_id or "")
        invocation._stream = environment.invoke_with_response_stream(
            call.event, callback=invocation._finish, **call.options
        )
        self._begun(call)
        return InvocationStream(invocation, invocation._stream)

    def _call(
        self,
        event: object,
        *,
        client_context: Mapping[str, Any] | None,
        cognito_identity: Mapping[str, Any] | None,
        trace_id: str | None,
        tenant_id: str | None,
        request_id: str | None,
        timeout: float | None,
        content_type: str,
    ) -> _Call:
        timeout_ms = self._options["timeout_ms"] if timeout is None else round(timeout * 1000)
        if self.in_process and request_id is None:
            # By which the invocation is told from others that wait.
            request_id = str(uuid4())
        if not isinstance(event, (bytes, bytearray)):
            event = encode_json({} if event is None else event)
        return _Call(
            bytes(event),
            request_id,
            timeout_ms,
            {
                "content_type": content_type,
                "request_id": request_id,
                "client_context": None if client_context is None else encode_json(client_context).decode(),
                "cognito_identity": None
                if cognito_identity is None
                else encode_json(cognito_identity).decode(),
                "trace_id": trace_id,
                "tenant_id": tenant_id,
                "timeout_ms": NO_LIMIT_MS if self.in_process else timeout_ms,
            },
        )

    def _begun(self, call: _Call) -> None:
        if self._in_process is not None:
            self._in_process.begun(call.request_id or "", call.timeout_ms)

    # ---- the environment ---------------------------------------------------------------------------------------

    def cold_start(self) -> None:
        """Make the next invocation a cold start: end the environment as AWS ends one that nobody needs any more."""
        self.shutdown()

    def shutdown(
        self, reason: Literal["spindown", "timeout", "failure"] = "spindown"
    ) -> list[ExtensionEvent]:
        """End the environment and return the SHUTDOWN events that extensions got, which have `reason` in them.

        Returns when all processes are gone. The next invocation is a cold start. Invocations that wait fail.

        Raises `ValueError` for another reason.
        """
        environment, self._environment = self._environment, None
        if environment is None:
            return []
        told = len(self._recording.extension_events)
        if self._in_process is not None:
            self._in_process.end()
            self._in_process = None
            self._modules.forget()
        try:
            environment.close(reason=reason)
        except BaseException:
            environment.close()
            raise
        finally:
            if self._process is not None:
                self._process.join(3)
                self._process = None
            self._recording.add(environment.take_telemetry())
        events = self._recording.extension_events[told:]
        return [event for event in events if event.type == "SHUTDOWN"]

    def close(self) -> None:
        """End the environment for good. Idempotent."""
        self._closed = True
        self.shutdown()
        self._modules.restore()

    @property
    def pid(self) -> int | None:
        """The pid of the runtime's process, this one's if `in_process`; None before the first invocation."""
        if self.in_process:
            return os.getpid()
        return None if self._process is None else self._process.pid

    @property
    def environment(self) -> ExecutionEnvironment:
        """The environment itself, for what has no method here. A new one takes its place after a shutdown."""
        return self._open()

    # ---- what happened -----------------------------------------------------------------------------------------

    def telemetry(self, *types: str) -> list[TelemetryEvent]:
        """Return what a subscriber to all streams of the Telemetry API would have been told so far.

        With `types` only events of these types: `function.telemetry("platform.report")`. Nobody has to subscribe, and
        events of all environments that this function has had are there, in order.
        """
        events = self._recorded().events
        return [event for event in events if not types or event.type in types]

    def extension_events(self, name: str | None = None) -> list[ExtensionEvent]:
        """Return what extensions, or the one called `name`, were told so far: INVOKE and SHUTDOWN events, in order.

        An event is there when the extension has fetched it.
        """
        events = self._recorded().extension_events
        return [event for event in events if name is None or event.extension == name]

    def registered_extensions(self) -> dict[str, list[str]]:
        """Return what each extension registered for at the last init, internal and external ones: events by name."""
        registered: dict[str, list[str]] = {}
        for event in self._recorded().events:
            if event.type == "platform.initStart":
                registered.clear()
            elif event.type == "platform.extension":
                registered[event.record["name"]] = event.record["events"]
        return registered

    def shutdown_reasons(self) -> list[str]:
        """Return why the environments of this function ended: `spindown`, `timeout` or `failure`, in order."""
        return list(self._recorded().shutdown_reasons)

    def _recorded(self) -> Recording:
        if self._environment is not None:
            self._recording.add(self._environment.take_telemetry())
        return self._recording

    # ---- what runs ---------------------------------------------------------------------------------------------

    def processes(self) -> list[processes.ProcessInfo]:
        """Return what the processes of the environment do: the runtime, extensions, and all that they started."""
        return processes.processes(self._process_ids())

    def _process_ids(self) -> list[int]:
        return [] if self._environment is None else self._environment.process_ids()

    @contextmanager
    def assert_frozen(self) -> Iterator[None]:
        """Check that the environment is frozen in the whole `with` block.

        That is: all its processes stand still when the block begins, which is waited for, and when it ends; none is
        gone or new; and no thread of theirs was on a processor in between, to the nanosecond that the kernel counts.
        No invocation may run in the block.

        Raises `AssertionError` that names what ran, and `LambdaFunctionError` where nothing is ever frozen: without
        `freeze`, with `in_process` or `max_concurrency`, and before the first invocation.
        """
        self._check_processes()
        if not self._freeze or self._max_concurrency is not None:
            reason = "freeze=False" if not self._freeze else "max_concurrency"
            raise LambdaFunctionError(f"this function is never frozen ({reason})")
        with processes.assert_frozen(self._process_ids):
            yield

    @contextmanager
    def assert_no_background_work(self) -> Iterator[None]:
        """Check that nothing in the environment runs while the `with` block does, though it could.

        For a function made with `freeze=False`: its threads and processes may go on between invocations, and what is
        found here is what would stand still on AWS, and would go on in the middle of the next invocation. The runtime's
        own thread, which waits for that, is given the time to come to rest first.

        Raises `AssertionError` that names what ran, and `LambdaFunctionError` for a function that is frozen, with
        `in_process`, and before the first invocation.
        """
        self._check_processes()
        if self._options["freeze"] and self._max_concurrency is None:
            raise LambdaFunctionError(
                "nothing can run between invocations of a frozen function: use freeze=False"
            )
        with processes.assert_no_background_work(self._process_ids, self.pid):
            yield

    def _check_processes(self) -> None:
        if self.in_process:
            raise LambdaFunctionError("a function in this process (in_process) has no processes of its own")
        if self.pid is None or not self._process_ids():
            raise LambdaFunctionError(
                "there is no process before the first invocation: invoke the function first"
            )

    # ---- inside ------------------------------------------------------------------------------------------------

    def _open(self) -> ExecutionEnvironment:
        if self._in_process is not None and self._in_process.exited:
            self.shutdown("failure")
        if self._environment is not None:
            return self._environment
        if self._closed:
            raise LambdaFunctionError(
                f"{self!r} was closed: a function lives as long as the fixture that made it"
            )
        try:
            layers = merged_layers(self._local)
            # Anew for each environment: on AWS too its layers are as they were.
            function = Function(
                self._command,
                handler=self.handler,
                layers=layers,
                extensions=external_extensions(self._local, layers),
                user=self._env,
                knows_layers=self._knows_layers and not self.in_process,
                settings=self._options,
                process={"cwd": self.task_root},
                task_root=self.task_root,
            )
            if self.in_process:
                environment, variables = function.make_environment()
                self._in_process = InProcessRuntime(environment, self.handler, variables, self._modules)
            else:
                self._process = function.start_environment()
                environment = self._process.environment
        except UserMistake as error:
            raise LambdaFunctionError(str(error)) from None
        self._environment = environment
        return environment

    def _result(
        self, finished: InvokeResult, runtime: InProcessRuntime | None, *, streamed: bool
    ) -> InvocationResult:
        exceptions = {} if runtime is None else runtime.exceptions
        return InvocationResult(
            finished,
            function=self.handler,
            memory_size_mb=self._memory,
            hint=self._hint(finished),
            exception=exceptions.pop(finished.request_id, None) or exceptions.pop("", None),
            streamed=streamed,
        )

    def _hint(self, finished: InvokeResult) -> str:
        if finished.error_type != "Runtime.ImportModuleError":
            return ""
        path = os.path.join(self.task_root, *self.handler.rpartition(".")[0].replace("/", ".").split("."))
        if os.path.exists(f"{path}.py") or os.path.isdir(path):
            return ""
        return (
            f"There is no {os.path.relpath(path, self.task_root)}.py in the task root {self.task_root}: name another "
            "one with task_root=…, or for all tests with lambda_task_root in pytest's configuration"
        )

    def _keep_log(self, finished: InvokeResult) -> None:
        """Called on the endpoint's thread."""
        log = finished.log + finished.extension_log
        self._logs.append(log)
        self._logs_size += len(log)
        while self._logs_size > _LOG_LIMIT and len(self._logs) > 1:
            self._logs_size -= len(self._logs.popleft())

    def _take_logs(self) -> str:
        """Return the logs of what has finished since the last call, for a test's report."""
        logs = b"".join(self._logs.popleft() for _ in range(len(self._logs)))
        self._logs_size = 0
        # An error's record is one line to CloudWatch, and several to a reader.
        return logs.decode(errors="replace").replace("\r", "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ", in process" if self.in_process else ""
        return f"<LambdaFunction {self.handler} in {self.task_root}{state}>"


class _Call(NamedTuple):
    """What an environment is given."""

    event: bytes
    request_id: str | None
    timeout_ms: int
    """What the function's context counts down."""
    options: dict[str, Any]


class Invocation:
    """An invocation that was begun."""

    def __init__(self, function: LambdaFunction, environment: ExecutionEnvironment, request_id: str) -> None:
        self._function = function
        self._request_id = request_id
        self._environment = environment
        self._runtime = function._in_process
        self._finished: InvokeResult | None = None
        self._event = threading.Event()
        self._result: InvocationResult | None = None
        self._stream: InvokeStream | None = None

    def _finish(self, finished: InvokeResult) -> None:
        """Called on the endpoint's thread."""
        self._finished = finished
        self._function._keep_log(finished)
        self._event.set()

    @property
    def done(self) -> bool:
        """Whether it has finished."""
        return self._event.is_set()

    def wait_until_running(self, timeout: float = 60) -> None:
        """Wait until the runtime has an invocation, this one or one before it: its time limit runs from then on.

        A virtual clock that is put forward before that leaves the time limit as it is. `timeout` is in seconds of real
        time. An invocation that has finished meanwhile is not waited for.

        Raises `TimeoutError` if it comes to nothing, and `LambdaFunctionError` in-process, where nothing runs before
        its result is asked for.
        """
        if self._runtime is not None:
            raise LambdaFunctionError("in-process, an invocation runs when its result is asked for")
        deadline = time.monotonic() + timeout
        while not self.done:
            # In slices: it may fail before it is handed out.
            if self._environment.wait_until_handed_out(timeout_s=_SLICE_S):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._function.handler} has not been given its event after {timeout} s")

    def result(self, timeout: float | None = None) -> InvocationResult:
        """Return what came of it, waiting for it up to `timeout` seconds of real time. In-process it runs now.

        Raises `TimeoutError` if it has not finished by then; it goes on.
        """
        if self._result is None:
            if self._runtime is not None:
                self._runtime.serve(self._request_id, self._event)
            if not self._event.wait(timeout):
                raise TimeoutError(
                    f"the invocation of {self._function.handler} has not finished after {timeout} s"
                )
            assert self._finished is not None
            streamed = self._stream is not None and self._stream.content_type is not None
            self._result = self._function._result(self._finished, self._runtime, streamed=streamed)
        return self._result

    def __repr__(self) -> str:
        state = "finished" if self.done else "not finished"
        return f"<Invocation of {self._function.handler}, {state}>"


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise LambdaFunctionError(f"the environment variable {name} must be a str, not {value!r}")
    return value


def _command(runtime: str | Sequence[str], handler: str) -> list[str]:
    if not isinstance(runtime, str):
        if not runtime:
            raise LambdaFunctionError("the runtime's command line is empty")
        return list(runtime)
    if "." not in handler:
        raise LambdaFunctionError(
            f"the handler {handler!r} has no dot: name module and function, for example {handler or 'app'}.handler"
        )
    if runtime == "caloric":
        return [*FAST_WAY_IN, handler]
    if runtime == "awslambdaric":
        if find_spec("awslambdaric") is None:
            raise LambdaFunctionError(
                "runtime='awslambdaric' needs AWS's package in this environment: pip install awslambdaric"
            )
        return [sys.executable, "-m", "awslambdaric", handler]
    raise LambdaFunctionError(
        f"there is no runtime {runtime!r}: it is 'caloric', 'awslambdaric' or a command line as a list of arguments"
    )


def _check(timeout: float, memory: int, init_timeout: float | None, task_root: str) -> None:
    if not 0.001 <= timeout <= 900:
        raise LambdaFunctionError(f"timeout={timeout} is out of range: 0.001 to 900 seconds")
    if init_timeout is not None and not 0.001 <= init_timeout <= 900:
        raise LambdaFunctionError(f"init_timeout={init_timeout} is out of range: 0.001 to 900 seconds")
    if not 128 <= memory <= 10240:
        raise LambdaFunctionError(f"memory={memory} is out of range: 128 to 10240 MB")
    if not os.path.isdir(task_root):
        raise LambdaFunctionError(f"the task root {task_root} is no folder")


def _check_in_process(
    runtime: object, snapstart: bool, max_concurrency: int | None, extensions: Sequence[str]
) -> None:
    without = [
        name
        for name, given in (
            ("runtime", runtime != "caloric"),
            ("snapstart", snapstart),
            ("max_concurrency", max_concurrency is not None),
            ("extensions", bool(extensions)),
        )
        if given
    ]
    if without:
        raise LambdaFunctionError(
            f"in_process and {without[0]} exclude each other: that takes a process of the function's own"
        )
