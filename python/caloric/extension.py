"""Write an external extension of a Lambda function: a program beside it that hears of its invocations, of its end, and
of what it logs (spec extensions-telemetry 1 and 2).

All callbacks run on the main thread, one at a time. What waits for events and telemetry meanwhile is Rust. The guide is
docs/extension-sdk.md.

An extension's start is part of the function's cold start, so nothing is imported here that is not needed.
"""

from __future__ import annotations

import os
import sys
from time import time

from caloric.errors import ExtensionError, RuntimeApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TypeVar

    from caloric._rust import ExtensionClient

    Record = dict[str, Any]
    Callback = Callable[..., object]
    Decorated = TypeVar("Decorated", bound=Callback)

__all__ = ["Extension", "ExtensionError", "InvokeEvent", "ShutdownEvent"]

_TYPES = ("platform", "function", "extension")
_BUFFERING = {
    "max_items": ("maxItems", 1000, 10_000),
    "max_bytes": ("maxBytes", 262_144, 1_048_576),
    "timeout_ms": ("timeoutMs", 25, 30_000),
}
"""AWS's names and ranges (spec extensions-telemetry 2.1)."""
_SCHEMA_VERSION = "2022-12-13"
_MANAGED_INSTANCES = "lambda-managed-instances"
_MANAGED_SCHEMA_VERSION = "2025-01-29"
"""The only one that Managed Instances know."""
_QUIET_MS = 300
"""At shutdown a function's last lines are waited for so long where nothing tells which is the last."""
_LAST_MS = 50
"""The process is to be gone so long before it would be killed."""


class _Event:
    """What the events have in common."""

    __slots__ = ("deadline_ms", "raw")

    def __init__(self, document: Record) -> None:
        self.raw = document
        """The event as the platform sent it."""
        deadline = document.get("deadlineMs")
        self.deadline_ms: int = deadline if isinstance(deadline, int) else 0
        """Unix time in milliseconds."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the deadline; 0 when it has passed."""
        return max(0, int(self.deadline_ms - time() * 1000))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.raw!r})"


class InvokeEvent(_Event):
    """The function is invoked. At `deadline_ms` its time is up, and with it that of its extensions."""

    __slots__ = ("invoked_function_arn", "request_id", "trace_id")

    def __init__(self, document: Record) -> None:
        super().__init__(document)
        self.request_id: str = document.get("requestId") or ""
        self.invoked_function_arn: str = document.get("invokedFunctionArn") or ""
        tracing = document.get("tracing")
        self.trace_id: str | None = tracing.get("value") if isinstance(tracing, dict) else None
        """X-Ray's tracing header; None without tracing."""


class ShutdownEvent(_Event):
    """The environment ends. At `deadline_ms` this process is killed."""

    __slots__ = ("reason",)

    def __init__(self, document: Record) -> None:
        super().__init__(document)
        # AWS documents capitals and sends small letters.
        self.reason: str = str(document.get("shutdownReason") or "").lower()
        """`spindown`; `timeout`: an invocation took too long; `failure`: something crashed."""


class Extension:
    """An external extension: register callbacks with the decorators, then call `run`.

    `name` has to be that of the file in `/opt/extensions` that Lambda starts, which is this script's by default: give
    it where a wrapper starts the script.

    What the platform says of the function is there from `on_init` on: `function_name`, `function_version`, `handler`,
    and `account_id`, which is None where the platform does not tell. `receives_telemetry` says whether `on_telemetry`
    has a platform that delivers.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = os.path.basename(sys.argv[0]) if name is None else name
        if not self.name or "/" in self.name:
            raise ValueError(
                f"{self.name!r} is no name for an extension: it is that of a file in /opt/extensions"
            )
        self.function_name = ""
        self.function_version = ""
        self.handler = ""
        self.account_id: str | None = None
        self.receives_telemetry = False
        self._init: list[Callback] = []
        self._invoke: list[Callback] = []
        self._shutdown: list[Callback] = []
        self._telemetry: list[tuple[frozenset[str], Callback]] = []
        self._subscription: dict[str, Any] = {}
        # Invocations of which the platform has not told the end, and the report.
        self._running: set[str] = set()
        self._unreported: set[str] = set()

    # ---- callbacks ---------------------------------------------------------------------------------------------------

    def on_init(self, function: Decorated) -> Decorated:
        """Call `function()` when the extension is registered, while the function's own initialisation runs.

        What it raises is reported (`Extension.` and the exception's name), and fails the function's initialisation.
        """
        self._init.append(_checked(function))
        return function

    def on_invoke(self, function: Decorated) -> Decorated:
        """Call `function(event)`, an `InvokeEvent`, for each invocation, beside the function.

        The invocation is over, and billed, only when it has returned. What it raises is logged.
        """
        self._invoke.append(_checked(function))
        return function

    def on_shutdown(self, function: Decorated) -> Decorated:
        """Call `function(event)`, a `ShutdownEvent`, once, at the end, when all telemetry has been delivered.

        What it raises is logged, and the process ends with 1.
        """
        self._shutdown.append(_checked(function))
        return function

    def on_telemetry(
        self,
        *types: str,
        max_items: int | None = None,
        max_bytes: int | None = None,
        timeout_ms: int | None = None,
        schema_version: str | None = None,
    ) -> Callable[[Decorated], Decorated]:
        """Call the decorated function with each batch of telemetry of these `types`: platform, function, extension.

        A batch is a list of records, dicts as AWS documents them: `time`, `type`, `record`. It is called while nothing
        else runs, and before the invocation or the end that came after the batch. What it raises is logged.

        `max_items` (1000 to 10000), `max_bytes` (262144 to 1048576) and `timeout_ms` (25 to 30000) say when the
        platform sends a batch; AWS's defaults are 10000, 262144 and 1000. `schema_version` is 2022-12-13 by default.
        There is one subscription: with several of these the types are put together, and each function gets its own.

        Raises `ValueError` for what AWS would refuse, and for options that contradict earlier ones.
        """
        if not types or not all(isinstance(kind, str) for kind in types):
            raise TypeError('on_telemetry needs types: @extension.on_telemetry("platform", "function")')
        for kind in types:
            if kind not in _TYPES:
                raise ValueError(f"{kind!r} is no type of telemetry: choose of {', '.join(_TYPES)}")
        given = {"max_items": max_items, "max_bytes": max_bytes, "timeout_ms": timeout_ms}
        for option, value in given.items():
            name, low, high = _BUFFERING[option]
            if value is None:
                continue
            if not low <= value <= high:
                raise ValueError(f"{option} is {value}: AWS allows {low} to {high}")
            self._subscribe(option, name, value)
        if schema_version is not None:
            self._subscribe("schema_version", "schemaVersion", schema_version)

        def register(function: Decorated) -> Decorated:
            self._telemetry.append((frozenset(types), _checked(function)))
            return function

        return register

    def _subscribe(self, option: str, name: str, value: object) -> None:
        if self._subscription.setdefault(name, value) != value:
            raise ValueError(
                f"{option} is {value!r} here and {self._subscription[name]!r} in an earlier on_telemetry: "
                "an extension has one subscription"
            )

    # ---- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Register, and serve the callbacks until the environment ends.

        Returns after the shutdown; the process is to end then. Raises `SystemExit`, with a line on stderr, when the
        platform refuses the extension or is gone, and where the documentation of a callback says so.
        """
        address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
        if not address:
            sys.exit(
                f"{self.name}: AWS_LAMBDA_RUNTIME_API is not set: Lambda starts extensions, and on this machine "
                "caloric invoke --extension PATH does"
            )
        # To a pipe Python would write when there are 8 kB, which may be never.
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True)
        from caloric._rust import ExtensionClient, __version__

        try:
            self._run(ExtensionClient(address, f"caloric-extension/{__version__}"))
        except RuntimeApiError as error:
            _say(str(error))
            sys.exit(1)
        except KeyboardInterrupt:
            # By hand, on this machine: no failure.
            sys.exit(130)

    def _run(self, client: ExtensionClient) -> None:
        managed = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == _MANAGED_INSTANCES
        self._register(client, managed)
        try:
            if self._telemetry:
                self._subscribe_to_telemetry(client, managed)
            for function in self._init:
                function()
        except Exception as error:  # whatever it is fails the init
            self._fail(client.init_error, error)
        client.poll()
        while True:
            found = client.wait()
            if found is None:
                continue
            kind, value = found
            if kind != "event":
                self._take(client, kind, value)
                continue
            event_type = value.get("eventType")
            if event_type == "SHUTDOWN":
                return self._shut_down(client, ShutdownEvent(value))
            if event_type == "INVOKE":
                self._invoked(client, InvokeEvent(value))
            client.poll()

    def _register(self, client: ExtensionClient, managed: bool) -> None:
        events = []
        if self._invoke and not managed:
            events.append("INVOKE")
        elif self._invoke:
            _say("on_invoke has no effect: on Managed Instances extensions are not told of invocations")
        # Who is not told of the end is killed at once, and misses the last telemetry.
        if self._shutdown or self._telemetry:
            events.append("SHUTDOWN")
        try:
            function = client.register(self.name, events)
        except RuntimeApiError as error:
            if "SHUTDOWN" in str(error):
                _say(f"is {self.name!r} the name of the file that was started in /opt/extensions?")
            raise
        self.function_name = function["function_name"] or ""
        self.function_version = function["function_version"] or ""
        self.handler = function["handler"] or ""
        self.account_id = function["account_id"]

    def _subscribe_to_telemetry(self, client: ExtensionClient, managed: bool) -> None:
        # In Lambda the platform may not come by way of the loopback interface. Elsewhere nobody else needs to get in.
        host = "0.0.0.0" if os.path.isdir("/opt/extensions") else "127.0.0.1"
        port = client.listen(host, _preferred_port(self.name))
        types = frozenset().union(*(types for types, _ in self._telemetry))
        options = dict(self._subscription)
        version = options.pop("schemaVersion", _MANAGED_SCHEMA_VERSION if managed else _SCHEMA_VERSION)
        subscription = {
            "schemaVersion": version,
            "types": [kind for kind in _TYPES if kind in types],
            "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{port}/"},
        }
        if options:
            subscription["buffering"] = options
        refusal = client.subscribe(subscription)
        if refusal is None:
            self.receives_telemetry = True
        else:
            _say(f"there is no telemetry here, on_telemetry is never called: {refusal}")

    def _invoked(self, client: ExtensionClient, event: InvokeEvent) -> None:
        # What came before the event is told before it. Not what comes meanwhile, or there might be no end.
        for _ in range(client.waiting):
            if (found := client.wait(0)) is not None:
                self._take(client, *found)
        if self._follows_platform():
            self._running.add(event.request_id)
            self._unreported.add(event.request_id)
        for function in self._invoke:
            self._call(client, function, event)

    def _shut_down(self, client: ExtensionClient, event: ShutdownEvent) -> None:
        """Deliver the last telemetry, then call the callbacks, which have half of the time at least."""
        remaining = event.get_remaining_time_in_millis()
        quiet_from = time() * 1000
        until = quiet_from + (remaining / 2 if self._shutdown else remaining - _LAST_MS)
        while self.receives_telemetry:
            now = time() * 1000
            wait_until = until
            if self._is_settled(event.reason):
                wait_until = now
            elif not self._follows_platform():
                wait_until = min(until, quiet_from + _QUIET_MS)
            if now >= until or (found := client.wait(max(0.0, (wait_until - now) / 1000))) is None:
                break
            self._take(client, *found)
            quiet_from = time() * 1000
        failed = False
        for function in self._shutdown:
            failed = not self._call(client, function, event) or failed
        if failed:
            sys.exit(1)

    # ---- telemetry ---------------------------------------------------------------------------------------------------

    def _follows_platform(self) -> bool:
        return self.receives_telemetry and any("platform" in types for types, _ in self._telemetry)

    def _is_settled(self, reason: str) -> bool:
        """Whether all has been told that will be: after a reset the report comes when this process is gone."""
        return self._follows_platform() and not (self._unreported if reason == "spindown" else self._running)

    def _take(self, client: ExtensionClient, kind: str, value: Any) -> None:
        if kind != "telemetry":
            _say(f"telemetry: {value}")
            return
        if self._follows_platform():
            for record in value:
                self._follow(record)
        for types, function in self._telemetry:
            # A single function gets all there is.
            batch = value
            if len(self._telemetry) > 1:
                batch = [record for record in value if str(record.get("type")).partition(".")[0] in types]
            if batch:
                self._call(client, function, batch)

    def _follow(self, record: Record) -> None:
        kind = record.get("type")
        if kind not in ("platform.start", "platform.runtimeDone", "platform.report"):
            return
        details = record.get("record")
        request_id = details.get("requestId") if isinstance(details, dict) else None
        if not isinstance(request_id, str):
            return
        if kind == "platform.start":
            self._running.add(request_id)
            self._unreported.add(request_id)
        else:
            self._running.discard(request_id)
            if kind == "platform.report":
                self._unreported.discard(request_id)

    # ---- failures ----------------------------------------------------------------------------------------------------

    def _call(self, client: ExtensionClient, function: Callback, argument: object) -> bool:
        """Call a callback; `False` if it raised, which does not end the extension unless it is meant to."""
        try:
            function(argument)
        except ExtensionError as error:
            self._fail(client.exit_error, error)
        except Exception as error:  # a fault of the extension's is no reason to end the function
            _say(f"{getattr(function, '__name__', function)} failed:")
            sys.__excepthook__(type(error), error, error.__traceback__)
            return False
        return True

    def _fail(self, report: Callable[[str, bytes], None], error: Exception) -> NoReturn:
        """Report an error and end the process, which fails the environment."""
        from traceback import format_tb

        from caloric._rust import encode_json

        sys.__excepthook__(type(error), error, error.__traceback__)
        error_type = error.error_type if isinstance(error, ExtensionError) else _error_type(error)
        lines = [line.rstrip("\n") for line in format_tb(error.__traceback__)]
        document = {"errorMessage": str(error), "errorType": error_type, "stackTrace": lines}
        try:
            report(error_type, encode_json(document))
        except RuntimeApiError as failure:
            _say(str(failure))
        sys.exit(1)


def _preferred_port(name: str) -> int:
    """Return the same port for this extension after a reset of its environment.

    A subscription that is repeated to the letter goes on where it was, so that what the platform told meanwhile, the
    report of the failed invocation above all, is not lost. Below the ports that the kernel gives out.
    """
    number = 0
    for byte in f"{name} {os.environ['AWS_LAMBDA_RUNTIME_API']}".encode():
        number = (number * 31 + byte) % 12_007
    return 20_000 + number


def _checked(function: Decorated) -> Decorated:
    if not callable(function):
        raise TypeError(f"{function!r} cannot be called")
    code = getattr(function, "__code__", None)
    # CO_COROUTINE and CO_ASYNC_GENERATOR; `inspect` would be a large import.
    if code is not None and code.co_flags & 0x280:
        raise TypeError(f"{function.__name__} is async: callbacks of an extension are plain functions")
    return function


def _error_type(error: Exception) -> str:
    """`Extension.` and a name as the platform keeps it: letters, beginning with a capital."""
    name = "".join(
        character for character in type(error).__name__ if character.isascii() and character.isalpha()
    )
    return f"Extension.{name[:1].upper()}{name[1:]}" if name else "Extension.Error"


def _say(message: str) -> None:
    sys.stderr.write(f"caloric: {message}\n")
