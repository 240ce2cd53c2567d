"""The handler in the calling thread, on the same protocol: for coverage, breakpoints and monkeypatching.

A `RuntimeClient` speaks to the environment as a runtime process would; what a process has of its own is lent to the
function while it runs: environment variables, working directory, search path, output streams.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from caloric import answers, error_report, logs, runtime
from caloric._rust import RuntimeClient, __version__, decode_json, encode_json
from caloric.context import LambdaContext

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

    from caloric._rust import ExecutionEnvironment

__all__ = ["NO_LIMIT_MS", "InProcessRuntime", "Modules"]

NO_LIMIT_MS = 365 * 86_400_000
"""The time limit, for the environment, of what runs here."""

_TRACE_ID = "_X_AMZN_TRACE_ID"
# These belong to the process: time zone and temporary files of whoever runs the tests.
_NOT_LENT = frozenset(("TZ", "TMPDIR", "PYTHONPATH"))


class InProcessRuntime:
    """The runtime of one environment. `variables` is what a process of the function would have for its environment."""

    def __init__(
        self,
        environment: ExecutionEnvironment,
        handler: str,
        variables: Mapping[str, str],
        modules: Modules,
    ) -> None:
        self._environment = environment
        self._timeouts_ms: dict[str, int] = {}
        clock = environment.clock
        self._now: Callable[[], float] = time.time
        self._context_class = LambdaContext
        if clock is not None:
            self._now = lambda: time.time() + clock.advanced
            self._context_class = _context_by(self._now)
        self._handler_name = handler
        self._handler: Callable[[Any, LambdaContext], object] | None = None
        self._client: RuntimeClient | None = None
        # What the function changes in these stays changed for it, and only for it.
        self._variables: dict[str, str | None] = {
            name: value
            for name, value in variables.items()
            if os.environ.get(name) != value and name not in _NOT_LENT
        }
        self._modules = modules
        self._folder = modules.task_root
        search_path = variables.get("PYTHONPATH", "").split(os.pathsep) if "CALORIC_OPT" in variables else []
        self._first_paths = [modules.task_root]
        self._last_paths = [path for path in search_path if path]
        self._output = environment.open_log_pipe()
        self.exceptions: dict[str, BaseException] = {}
        """What handlers raised, by request id."""
        self.exited = False
        """The handler ended its process, as far as it can here: the environment is to be ended."""

    def begun(self, request_id: str, timeout_ms: int) -> None:
        """An invocation was submitted, without a time limit for the environment: nothing here can be ended by one.

        `timeout_ms` is what its context counts down.
        """
        self._timeouts_ms[request_id] = timeout_ms
        # That of an init.
        self._environment.pause_timeout()

    def serve(self, request_id: str, finished: threading.Event) -> None:
        """Serve invocations until the one called `request_id` was, or is `finished` without us: its init failed.

        Raises what a handler raises that is no `Exception`, but for `SystemExit`.
        """
        while not finished.is_set():
            client = self._client or self._start()
            if client is None:
                # Init is run again within the invocation; if that fails too, the environment has answered who waits.
                self._environment.pause_timeout()
                continue
            trace_id = os.environ.get(_TRACE_ID)
            try:
                # Sets the variable, as it does in a runtime.
                request = client.next_invocation()
                self._serve(client, request)
            finally:
                _update({_TRACE_ID: trace_id})
            if request["invoke_id"] == request_id:
                return

    def end(self) -> None:
        """Let go of what is held: to be called before the environment is closed."""
        self._client = None
        os.close(self._output)

    def _start(self) -> RuntimeClient | None:
        version = ".".join(map(str, sys.version_info[:3]))
        client = RuntimeClient(self._environment.address, f"caloric-python/{version}-{__version__}")
        with self._surroundings(client):
            try:
                self._handler = self._modules.load(self._handler_name)
            except Exception as error:
                self.exceptions[""] = error
                report = error_report.report_initialization_error(error)
                client.post_initialization_error(report.error_type, report.body)
                self._modules.forget()
                return None
        self._client = client
        client.request_next()
        return client

    def _serve(self, client: RuntimeClient, request: Mapping[str, Any]) -> None:
        request_id, invocation_id = request["invoke_id"], request["invocation_id"]
        escaped: BaseException | None = None
        report: error_report.ErrorReport | None = None
        with self._surroundings(client):
            try:
                self._answer(client, request)
            except _FaultError as fault:
                report = error_report.report_fault(fault.error_type, str(fault), request_id)
            except SystemExit as error:
                self.exited = True
                report = _report_of_exit(error, request_id)
            except BaseException as error:
                # Ctrl-C, or a test's own outcome: it goes on to whoever called.
                escaped = error
                report = error_report.report_exception(error, request_id)
        if report is not None:
            client.post_invocation_error(
                request_id, report.body, report.error_type, report.xray_cause, invocation_id
            )
        client.request_next()
        if escaped is not None:
            raise escaped

    def _answer(self, client: RuntimeClient, request: Mapping[str, Any]) -> None:
        """Call the handler and answer as `caloric.runtime` does where the loop leaves the answer to Python.

        Raises `_FaultError` where the handler cannot be called, and what is no `Exception`.
        """
        request_id = request["invoke_id"]
        arguments = self._arguments(client, request)
        result: object = None
        failure: Exception | None = None
        assert self._handler is not None
        try:
            result = self._handler(*arguments)
        except Exception as error:
            failure = error

        def raised(error: Exception) -> None:
            self.exceptions[request_id] = error

        answers.answer(
            client,
            request_id,
            request["invocation_id"],
            result,
            failure,
            arguments,
            # A module that is imported twice in one process has registered them twice.
            hooks=False,
            raised=raised,
        )

    def _arguments(self, client: RuntimeClient, request: Mapping[str, Any]) -> tuple[object, LambdaContext]:
        """Return event and context."""
        # In the order of the loop in Rust: a context that cannot be made is reported even if the event is broken too.
        deadline_ms = int(self._now() * 1000) + self._timeouts_ms.pop(request["invoke_id"])
        context = self._context_class(
            request["invoke_id"],
            _header(request["client_context"], "Client Context"),
            _header(request["cognito_identity"], "Cognito Identity"),
            deadline_ms,
            request["invoked_function_arn"],
            request["tenant_id"],
        )
        context._client = client
        event: object = request["event_body"]
        if request["content_type"] == "application/json":
            try:
                event = decode_json(request["event_body"])
            except Exception as error:
                raise _FaultError("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None
        return event, context

    @contextmanager
    def _surroundings(self, client: RuntimeClient) -> Iterator[None]:
        """Lend the function what a process of its own would have, and take back what it has made of it."""
        variables, path, folder = dict(os.environ), list(sys.path), os.getcwd()
        streams = sys.stdout, sys.stderr
        log_settings = runtime.log_format, runtime.log_level
        root = logging.getLogger()
        level = root.level
        _update(self._variables)
        lent = dict(os.environ)
        sys.path[:] = [*self._first_paths, *path, *self._last_paths]
        os.chdir(self._folder)
        sys.stdout, sys.stderr = _Tee(streams[0], self._output), _Tee(streams[1], self._output)
        runtime.log_format = os.environb.get(b"AWS_LAMBDA_LOG_FORMAT", b"")
        runtime.log_level = os.environb.get(b"AWS_LAMBDA_LOG_LEVEL", b"")
        handler = logs.root_handler(client)
        if handler.formatter is not None:
            handler.formatter.converter = time.gmtime
        root.addHandler(handler)
        logs.set_level(root)
        try:
            yield
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
            runtime.log_format, runtime.log_level = log_settings
            sys.stdout, sys.stderr = streams
            self._folder = os.getcwd()
            os.chdir(folder)
            self._first_paths = [
                place for place in sys.path if place not in path and place not in self._last_paths
            ]
            sys.path[:] = path
            for name in lent.keys() | os.environ.keys():
                if lent.get(name) != os.environ.get(name) and name != _TRACE_ID:
                    self._variables[name] = os.environ.get(name)
            _update({name: variables.get(name) for name in variables.keys() | os.environ.keys()})


def _context_by(now: Callable[[], float]) -> type[LambdaContext]:
    """Return the class of contexts that go by a virtual clock. A process finds it in a file; here it is at hand."""

    class ContextWithClock(LambdaContext):
        def get_remaining_time_in_millis(self) -> int:
            """Return the milliseconds that are left before the function times out, never below 0."""
            return max(0, self._epoch_deadline_time_in_ms - int(now() * 1000))

    return ContextWithClock


class _FaultError(Exception):
    """`Runtime.*`: the handler was not called, or its result is nothing that can be sent."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


def _header(text: str | None, name: str) -> Any:
    if text is None:
        return None
    try:
        return decode_json(text.encode())
    except Exception as error:
        raise _FaultError(
            "Runtime.LambdaContextUnmarshalError", f"Unable to parse {name} JSON: {error}"
        ) from None


def _report_of_exit(error: SystemExit, request_id: str) -> error_report.ErrorReport:
    """Return the document with which the platform answers for a process that has ended."""
    code = 0 if error.code is None else error.code if isinstance(error.code, int) else 1
    if code & 0xFF:
        reason = f"Runtime exited with error: exit status {code & 0xFF}"
    else:
        reason = "Runtime exited without providing a reason"
    document = {"errorType": "Runtime.ExitError", "errorMessage": f"RequestId: {request_id} Error: {reason}"}
    return error_report.ErrorReport(encode_json(document), "Runtime.ExitError", "")


def _update(variables: Mapping[str, str | None]) -> None:
    """Set the variables whose value is another one, and remove those that have none."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        elif os.environ.get(name) != value:
            os.environ[name] = value


class _Tee:
    """A stream of the test's own whose text also goes to the environment's log."""

    def __init__(self, stream: Any, log: int) -> None:
        self._stream = stream
        self._log = log

    def write(self, text: str) -> int:
        """Write `text` to both."""
        written: int = self._stream.write(text)
        data = text.encode(errors="backslashreplace")
        try:
            while data:
                data = data[os.write(self._log, data) :]
        except OSError:
            # Somebody kept the stream, and writes to it when the function is gone.
            pass
        return written

    def writelines(self, lines: Any) -> None:
        """Write all `lines` to both."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Modules:
    """The modules of a function in this process, where they are shared with everybody.

    The first start takes a handler's module that is imported already, so that a test may patch it before. What was
    there when the function came is there again when it is gone.
    """

    def __init__(self, task_root: str) -> None:
        self.task_root = task_root
        self._imported: set[str] = set()
        self._originals: dict[str, ModuleType] = {}
        self._handler_module = ""

    def load(self, handler: str) -> Any:
        """Return the handler, as `caloric.runtime.load_handler` does."""
        importlib.invalidate_caches()
        name = handler.rpartition(".")[0].replace("/", ".")
        top = name.partition(".")[0]
        if self._is_ours_to_be(top) and not self._is_ours(sys.modules.get(top)):
            self._hide(lambda other: other == top or other.startswith(f"{top}."))
        before = set(sys.modules)
        try:
            return runtime.load_handler(handler)
        finally:
            new = [other for other in sys.modules.keys() - before if self._is_ours(sys.modules[other])]
            self._imported.update(new)
            if name in sys.modules and self._is_ours(sys.modules[name]):
                self._handler_module = name

    def forget(self) -> None:
        """Have the next start import the handler's module, and what it brought along, anew."""
        self._hide(lambda name: name == self._handler_module or name in self._imported)

    def restore(self) -> None:
        """Leave `sys.modules` as it was."""
        for name in self._imported:
            sys.modules.pop(name, None)
        sys.modules.update(self._originals)
        self._imported.clear()
        self._originals.clear()

    def _hide(self, chosen: Callable[[str], bool]) -> None:
        for name in [name for name in sys.modules if chosen(name)]:
            module = sys.modules.pop(name)
            if name not in self._imported:
                self._originals.setdefault(name, module)

    def _is_ours(self, module: ModuleType | None) -> bool:
        file = getattr(module, "__file__", None)
        # A package without an __init__.py has folders only.
        places = [file] if isinstance(file, str) else list(getattr(module, "__path__", ()))
        root = os.path.join(os.path.realpath(self.task_root), "")
        return any(os.path.realpath(place).startswith(root) for place in places)

    def _is_ours_to_be(self, name: str) -> bool:
        path = os.path.join(self.task_root, name)
        return name in sys.modules and (os.path.isfile(f"{path}.py") or os.path.isdir(path))
