"""What SIGTERM does where a function has `on_shutdown` hooks (spec extensions-telemetry 3.4, 5.2). Imported only there.

Everything happens in the signal's handler, which does not return: whatever it interrupted is not to go on. Only an
event loop that serves several invocations at once is given a moment to run the hooks itself (`caloric.tasks`).
"""

import _signal  # type: ignore[import-not-found]
import posix
import sys
from _thread import get_ident

from caloric import lifecycle
from caloric._rust import begin_shutdown, watch_sigterm
from caloric.errors import RuntimeApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from caloric._rust import RuntimeClient

__all__ = ["prepare_late", "register_extension", "watch", "watch_again"]

# With an internal extension the runtime gets SIGKILL 500 ms after SIGTERM.
BUDGET_MS = 450

# In /opt/extensions nobody has a file of this name, for which Lambda would take it otherwise.
EXTENSION_NAME = "caloric-lifecycle-hooks"

_SIGTERM = 15

_process = 0
_main_thread = 0
_begun = False
# The handler that user code has set, if it has.
_earlier: "Callable[[int, Any], object] | int | None" = None


def watch() -> None:
    """Have SIGTERM run the hooks, and behind them the handler that it has now. To be called in the main thread.

    Calling it again is how a handler that was set meanwhile becomes that one.
    """
    global _earlier, _main_thread, _process
    current = _signal.getsignal(_SIGTERM)
    if current is not _on_sigterm:
        _earlier = current
    _process = posix.getpid()
    _main_thread = get_ident()
    _signal.signal(_SIGTERM, _on_sigterm)
    watch_sigterm()
    client = lifecycle._client()
    if client is not None:
        client.set_hooks(keep_sigterm=watch)


def watch_again() -> None:
    """Call `watch` in the main thread. No other one can have set a handler."""
    if get_ident() == _main_thread:
        watch()


def register_extension(client: "RuntimeClient") -> None:
    """Register the internal extension without which Lambda sends no SIGTERM. Where that fails, stderr says so."""
    try:
        client.register_extension(EXTENSION_NAME)
    except (RuntimeApiError, OSError) as error:
        _say(f"on_shutdown hooks run only if Lambda sends SIGTERM all the same: {error}")


def prepare_late(client: "RuntimeClient") -> None:
    """Do both after initialization: the platform takes no registration then, which stderr says."""
    try:
        watch()
    except ValueError:
        _say(
            "on_shutdown: registered after initialization, and not in the main thread: the hook does not run"
        )
        return
    register_extension(client)


def _on_sigterm(number: int, frame: "Any") -> None:
    global _begun
    if posix.getpid() != _process:
        _in_child(number, frame)
        return
    tasks = sys.modules.get("caloric.tasks")
    if _begun:
        if tasks is None or not tasks.has_missed_shutdown():
            return
    else:
        _begun = True
        try:
            begin_shutdown(BUDGET_MS)
        except OSError:
            # No thread could be started that ends the process in time: the platform will.
            pass
        if tasks is not None and tasks.shut_down_on_loop(lambda: _leave(number, frame)):
            return
    try:
        lifecycle.run_on_shutdown()
    finally:
        _leave(number, frame)


def _leave(number: int, frame: "Any") -> "NoReturn":
    """Do what else is to be done at the end, and end."""
    try:
        _call_earlier(number, frame)
        _run_exit_functions()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        # A signal's handler, or a stream that is closed. There is nobody left to tell.
        pass
    finally:
        posix._exit(0)


def _call_earlier(number: int, frame: "Any") -> None:
    """Call the handler that SIGTERM would have had, whatever it raises: most raise `SystemExit`."""
    try:
        if callable(_earlier):
            _earlier(number, frame)
        if "asyncio" in sys.modules:
            # One that was registered with an event loop.
            from caloric.event_loop import run_signal_handlers

            run_signal_handlers(True)
    except SystemExit:
        pass
    except BaseException as error:
        lifecycle.log(error, "")


def _run_exit_functions() -> None:
    """Run what is registered with `atexit`, among it `logging`'s flush, as at any other end of a program."""
    import atexit

    atexit._run_exitfuncs()


def _in_child(number: int, frame: "Any") -> None:
    """A process that was forked from ours: no hook is about it, and the signal is to do what it would have done."""
    action = _signal.SIG_DFL if _earlier is None else _earlier
    _signal.signal(number, action)
    if callable(action):
        action(number, frame)
    elif action == _signal.SIG_DFL:
        posix.kill(posix.getpid(), number)


def _say(message: str) -> None:
    sys.stderr.write(f"caloric: {message}\n")
