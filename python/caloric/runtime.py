"""Start-up: from the handler's name to the loop over invocations.

Nothing is imported here that the first `/next` can do without; a test holds the list. It is one module because each
costs a hundredth of the whole start.
"""

import gc
import sys

# What importlib.import_module calls, without importing importlib. Unlike the import statement it keeps the frames of
# the import system in a traceback, as they are in awslambdaric's reports.
from _frozen_importlib import _gcd_import  # type: ignore[attr-defined]
from _thread import allocate_lock, get_ident
from posix import environ, unsetenv

from caloric._rust import RuntimeClient, __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from caloric.errors import InitializationError

# As fast as no collection at all, and code that makes cycles without end does not run out of memory.
_INIT_THRESHOLD = 100_000
# Those before `bootstrap.py` changed them, if it has.
_thresholds: tuple[int, int, int] | None = None

# How the process was told to log. What user code makes of its environment later does not count, as with the peer.
log_descriptor: int | None = None
log_format = b""
log_level = b""

# The connection of this process, for what user code imports.
client: RuntimeClient | None = None


def main(argv: list[str], thresholds: tuple[int, int, int] | None = None) -> "NoReturn":
    """Run the handler that `argv[1]` names, or else the variable `_HANDLER`. Further arguments are ignored.

    `thresholds` are the collector's that the function is to have, where they are others now.
    """
    global _thresholds
    _thresholds = thresholds
    handler_name = (
        argv[1] if len(argv) > 1 else environ.get(b"_HANDLER", b"").decode(errors="surrogateescape")
    )
    if len(argv) < 2 and not handler_name:
        _fail("no handler: name one, as in python -m caloric app.handler, or set _HANDLER")
    run(handler_name)


def run(handler_name: str) -> "NoReturn":
    """Load the handler and serve invocations until the process ends.

    Raises `SystemExit` with 1 when initialisation failed (it has been reported then) or the Runtime API is gone.
    """
    global client
    address = environ.get(b"AWS_LAMBDA_RUNTIME_API", b"").decode(errors="surrogateescape")
    if not address:
        _fail(
            "AWS_LAMBDA_RUNTIME_API is not set. Lambda sets it to the host:port of its Runtime API; to run a function "
            f"on this machine use: caloric invoke {handler_name}"
        )
    if b"CALORIC_DEBUG" in environ:
        from caloric.local.attach import wait_for_debugger

        wait_for_debugger()
    sys.stdout = Unbuffered(sys.stdout)
    sys.stderr = Unbuffered(sys.stderr)
    _read_log_settings()
    load: Callable[[str], Any] = _load_and_begin
    managed = b"AWS_LAMBDA_MAX_CONCURRENCY" in environ
    if managed:
        from caloric.workers import in_workers

        load = in_workers(_load_handler_without_collections)
    python = ".".join(map(str, sys.version_info[:3]))
    client = RuntimeClient(address, f"caloric-python/{python}-{__version__}", worker=managed)
    if "awslambdaric" in sys.modules:
        # Imported by a customisation module, from the installed package, which has nothing to do with this process.
        for name in [name for name in sys.modules if name.partition(".")[0] == "awslambdaric"]:
            del sys.modules[name]
    watch = _ImportWatch(client)
    sys.meta_path.insert(0, watch)
    if "logging" in sys.modules:
        watch.names.discard("logging")
        _configure_logging(client)
    vars(sys.modules["__main__"]).setdefault("__getattr__", _attribute_of_main)
    handler: Any = None
    failure = None
    try:
        handler = load(handler_name)
    except Exception as error:
        failure = error
    if failure is not None:
        # Not in the `except` clause: tools that report errors look at `sys.exc_info()`, which is empty with the peer.
        _report_initialization_error(client, failure)
    try:
        # As the handler's module may have left it.
        if environ.get(b"AWS_LAMBDA_INITIALIZATION_TYPE") == b"snap-start":
            from caloric.snapshot import pass_through_snapshot

            pass_through_snapshot(client)
        if managed:
            from caloric.workers import serve

            serve(client, handler)
        _serve(client, handler)
    except Exception as error:
        # The loop reports what a handler raises, so this is the Runtime API's failure, or a signal handler's.
        from caloric.errors import RuntimeApiError

        if not isinstance(error, RuntimeApiError):
            raise
        _fail(str(error))


def _serve(client: RuntimeClient, handler: "Any") -> "NoReturn":
    if looks_asynchronous(handler):
        # Now, not during the first invocation. A handler that does not look like it is awaited all the same.
        from caloric.asynchronous import on_loop

        handler = on_loop(handler)
    while HOOKABLE not in sys.modules:
        unanswered = client.run(handler)
        if HOOKABLE in sys.modules:
            # From here on a tool can change what the runtime does.
            from caloric.compat import loop

            loop.answer(client, *unanswered)
        else:
            from caloric.answers import answer

            answer(client, *unanswered)
        # A large result must not stay in memory while the environment idles.
        del unanswered
    from caloric.compat import loop

    loop.run(client, handler)


def looks_asynchronous(handler: "Any") -> bool:
    """Whether it is an `async` function. What only returns something to await does not look like it."""
    return bool(getattr(getattr(handler, "__code__", None), "co_flags", 0) & _ASYNCHRONOUS)


def _read_log_settings() -> None:
    global log_descriptor, log_format, log_level
    log_format = environ.get(b"AWS_LAMBDA_LOG_FORMAT", b"")
    log_level = environ.get(b"AWS_LAMBDA_LOG_LEVEL", b"")
    descriptor = environ.pop(b"_LAMBDA_TELEMETRY_LOG_FD", None)
    if descriptor is not None:
        # Not for child processes, which would write without frames.
        unsetenv(b"_LAMBDA_TELEMETRY_LOG_FD")
        log_descriptor = int(descriptor)


def _load_and_begin(handler_name: str) -> "Any":
    """Load the handler, and do what its lifecycle hooks ask for, if it has imported what they are registered with."""
    handler = _load_handler_without_collections(handler_name)
    if "caloric.lifecycle" in sys.modules:
        from caloric.lifecycle import begin

        if begin():
            from caloric.shutdown import register_extension

            register_extension(client)  # type: ignore[arg-type]
    return handler


def _load_handler_without_collections(handler_name: str) -> "Any":
    """Collect garbage hardly ever while modules are imported, and keep what they made out of later collections."""
    thresholds = _thresholds or gc.get_threshold()
    gc.set_threshold(_INIT_THRESHOLD, *thresholds[1:])
    try:
        return load_handler(handler_name)
    finally:
        gc.freeze()
        # User code may have set its own.
        if gc.get_threshold()[0] == _INIT_THRESHOLD:
            gc.set_threshold(*thresholds)


def load_handler(name: str) -> "Any":
    """Return what `name` ("module.attribute", with dots or slashes in the module) refers to.

    Whether it can be called shows at the first invocation. Raises `InitializationError` with AWS's error type when the
    name is malformed, the module cannot be imported or lacks the attribute; what else the module raises while it is
    imported is raised as it is.
    """
    module_name, dot, attribute = name.rpartition(".")
    if not dot:
        # The wording that AWS's users search for.
        message = f"Bad handler '{name}': not enough values to unpack (expected 2, got 1)"
        raise _initialization_error("Runtime.MalformedHandlerName", message)
    if module_name.split(".")[0] in sys.builtin_module_names:
        message = f"Cannot use built-in module {module_name} as a handler module"
        raise _initialization_error("Runtime.BuiltInModuleConflict", message)
    try:
        module = _import_module(module_name.replace("/", "."))
    except ImportError as error:
        message = f"Unable to import module '{module_name}': {error}"
        raise _initialization_error("Runtime.ImportModuleError", message) from error
    except SyntaxError as error:
        message = f"Syntax error in module '{module_name}': {error}"
        stack_trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        raise _initialization_error("Runtime.UserCodeSyntaxError", message, stack_trace) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        message = f"Handler '{attribute}' missing on module '{module_name}'"
        raise _initialization_error("Runtime.HandlerNotFound", message) from None


def _initialization_error(
    error_type: str, message: str, stack_trace: list[str] | None = None
) -> "InitializationError":
    from caloric.errors import InitializationError

    return InitializationError(error_type, message, stack_trace)


def _import_module(name: str) -> "Any":
    if name.startswith("."):
        # import_module's own words, which is what the peer reports as a plain TypeError.
        raise TypeError(f"the 'package' argument is required to perform a relative import for {name!r}")
    return _gcd_import(name)


def _configure_logging(client: RuntimeClient) -> None:
    from caloric.logs import configure

    configure(client)


class _ImportWatch:
    """First on `sys.meta_path`, for the modules in `names`: `logging` is set up right after it was imported, and
    `awslambdaric` is Caloric's own (`caloric.compat`), whether the real one is installed or not.
    """

    def __init__(self, client: RuntimeClient) -> None:
        self._client = client
        self.names = {"logging", "awslambdaric"}

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name not in self.names:
            return None
        if name == "awslambdaric":
            from caloric.compat import package_spec

            return package_spec(self._client)
        self.names.remove(name)
        from caloric.import_hooks import find_spec_then

        return find_spec_then(name, path, target, lambda: _configure_logging(self._client))


# inspect's CO_COROUTINE and CO_ASYNC_GENERATOR.
_ASYNCHRONOUS = 0x80 | 0x200

# Imported by each module of `caloric.compat.awslambdaric` through which a tool can change what the runtime does.
HOOKABLE = "awslambdaric.lambda_runtime_marshaller"


def _attribute_of_main(name: str) -> "Any":
    """`__main__.bootstrap`, by which Sentry finds what it patches: awslambdaric imports it there."""
    if name == "bootstrap":
        return _gcd_import("awslambdaric.bootstrap")
    raise AttributeError(f"module '__main__' has no attribute {name!r}")


def _report_initialization_error(client: RuntimeClient, error: Exception) -> "NoReturn":
    from caloric.error_report import report_initialization_error
    from caloric.errors import RuntimeApiError

    report = report_initialization_error(error)
    try:
        post_initialization_error(client, report.error_type, report.body)
    except RuntimeApiError as failure:
        _fail(f"the failed initialization could not be reported: {failure}")
    raise SystemExit(1)


def post_initialization_error(client: RuntimeClient, error_type: str, body: bytes) -> None:
    """Report that initialization failed. Raises `caloric.errors.RuntimeApiError` when that was not accepted."""
    if HOOKABLE in sys.modules:
        from caloric.compat import loop

        loop.post_initialization_error(client, error_type, body)
    else:
        client.post_initialization_error(error_type, body)


def _fail(message: str) -> "NoReturn":
    sys.stderr.write(f"caloric: {message}\n")
    raise SystemExit(1)


class Unbuffered:
    """A stream that keeps nothing back, since the environment may be frozen, or killed, right after the response; and
    that keeps the lines of several threads apart.

    `line` is held from the first write of a line to the one with its end: print() makes a write of each argument.
    """

    def __init__(self, stream: "Any") -> None:
        self.stream = stream
        self.line = allocate_lock()
        # The thread whose line it is, or 0; and the call in which it wrote the beginning, for who waits.
        self.writer = 0
        self.position: tuple[int, int] | None = None
        self.queue: list[Any] = []

    def write(self, text: str) -> None:
        """Write `text` at once, where another thread is in a line of its own after that."""
        thread = get_ident()
        if self.writer != thread:
            self._begin(thread)
        try:
            self.stream.write(text)
            self.stream.flush()
        except BaseException:
            self._end(thread)
            raise
        if text[-1:] == "\n":
            self._end(thread)
            return
        try:
            caller = sys._getframe(1)
        except ValueError:
            # The interpreter itself, which prints an error that nobody caught.
            return
        self.position = (id(caller), caller.f_lasti)

    def writelines(self, lines: "Any") -> None:
        """Write all `lines`, and nothing between them."""
        thread = get_ident()
        if self.writer != thread:
            self._begin(thread)
        try:
            self.stream.writelines(lines)
            self.stream.flush()
        finally:
            self._end(thread)

    def _begin(self, thread: int) -> None:
        if self.queue or not self.line.acquire(False):
            try:
                from caloric.whole_lines import wait_for_turn
            except ImportError:
                # The interpreter is about to end.
                pass
            else:
                wait_for_turn(self)
        self.position = None
        self.writer = thread

    def _end(self, thread: int) -> None:
        if self.writer != thread:
            # Somebody did not want to wait any longer, and has ended the line.
            return
        self.writer = 0
        try:
            if self.queue:
                self.queue.pop(0).release()
            else:
                self.line.release()
        except (IndexError, RuntimeError):
            # The one who waited has just gone on without us.
            self.line.acquire(False)
            self.line.release()

    def __getattr__(self, name: str) -> "Any":
        return getattr(self.stream, name)

    def __enter__(self) -> "Unbuffered":
        return self

    def __exit__(self, *exception: object) -> None:
        pass
