"""Functions that run at the turning points of an execution environment: decorators, plain or `async` functions alike.

    from caloric import lifecycle

    @lifecycle.on_shutdown
    def flush():
        metrics.flush(timeout=lifecycle.remaining_shutdown_ms() / 1000)

What each hook is called with, in which order, and what becomes of an exception is said at each decorator;
`docs/lifecycle.md` has it in a table. A decorator returns its function unchanged. Where Caloric is not the runtime
(under `awslambdaric`, in a unit test) hooks are registered and never run.

An `async` hook runs to its end before anything else happens, on the main thread's event loop: the one that
`asyncio.get_event_loop()` returns there, made if there is none.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from caloric.context import LambdaContext

    Hook = TypeVar("Hook", bound=Callable[[], object])
    BeforeInvoke = TypeVar("BeforeInvoke", bound=Callable[[Any, LambdaContext], object])
    AfterInvoke = TypeVar("AfterInvoke", bound=Callable[[Any, LambdaContext, Any, Exception | None], object])

__all__ = [
    "after_invoke",
    "after_restore",
    "before_invoke",
    "before_snapshot",
    "on_init",
    "on_shutdown",
    "remaining_shutdown_ms",
]

_on_init: "list[Callable[[], object]]" = []
_before_invoke: "list[Callable[[Any, LambdaContext], object]]" = []
_after_invoke: "list[Callable[[Any, LambdaContext, Any, Exception | None], object]]" = []
_on_shutdown: "list[Callable[[], object]]" = []
_before_snapshot: "list[Callable[[], object]]" = []
_after_restore: "list[Callable[[], object]]" = []

# Whether `begin` has been called.
_begun = False


def on_init(function: "Hook") -> "Hook":
    """Call `function()` once, after the handler's module was imported and before the first invocation or snapshot.

    In order of registration. What it raises fails the initialization like an error of the module itself: it is logged
    and reported, the hooks behind it do not run, and the process ends.
    """
    _on_init.append(function)
    _warn_if_late("on_init", function)
    return function


def before_invoke(function: "BeforeInvoke") -> "BeforeInvoke":
    """Call `function(event, context)` before the handler, with the very objects that the handler gets.

    In order of registration. What it raises is the invocation's error: the hooks behind it and the handler do not run.
    """
    _before_invoke.append(function)
    if (client := _client()) is not None:
        client.set_hooks(before_invoke=run_before_invoke)
    return function


def after_invoke(function: "AfterInvoke") -> "AfterInvoke":
    """Call `function(event, context, result, error)` after the handler and before its answer is sent.

    `result` is what the handler returned, and None where there is an `error`: what the handler or a `before_invoke`
    hook raised, or why the result is no JSON. The answer is made already, so nothing that a hook does changes it.

    The last registered first, each of them in each invocation whose event could be read. What one raises is logged with
    the request id, and the others run. `SystemExit` and `KeyboardInterrupt` end the process once the answer is sent.
    """
    _after_invoke.append(function)
    if (client := _client()) is not None:
        client.set_hooks(after_invoke=run_after_invoke)
    return function


def on_shutdown(function: "Hook") -> "Hook":
    """Call `function()` once when Lambda ends the environment, on the main thread, above what it interrupts there.

    The last registered first. What one raises, whatever it is, is logged, and the others run. 450 ms after SIGTERM came
    the process ends, hooks or not (`remaining_shutdown_ms`).

    Lambda sends SIGTERM only where an extension is registered, so the runtime registers one for no event, if there is
    such a hook when initialization is over.
    """
    _on_shutdown.append(function)
    if _begun and len(_on_shutdown) == 1 and (client := _client()) is not None:
        from caloric.shutdown import prepare_late

        prepare_late(client)
    return function


def before_snapshot(function: "Hook") -> "Hook":
    """With SnapStart, call `function()` before the snapshot is taken.

    The last registered first, and all of them before those of `snapshot_restore_py`. What one raises, whatever it is,
    is logged and reported as `Runtime.BeforeSnapshotError`, and the process ends with status 64.
    """
    _before_snapshot.append(function)
    _warn_if_late("before_snapshot", function)
    return function


def after_restore(function: "Hook") -> "Hook":
    """With SnapStart, call `function()` in each copy of the environment, before its first invocation.

    In order of registration, and behind those of `snapshot_restore_py`. What one raises, whatever it is, is logged and
    reported as `Runtime.AfterRestoreError`, and the process ends with status 65.
    """
    _after_restore.append(function)
    return function


def remaining_shutdown_ms() -> int:
    """Return how many milliseconds `on_shutdown` hooks have left; 0 when the time is up.

    Raises `RuntimeError` while the environment is not being shut down.
    """
    from caloric._rust import remaining_shutdown_ms

    remaining = remaining_shutdown_ms()
    if remaining is None:
        raise RuntimeError("remaining_shutdown_ms() is for on_shutdown hooks: nothing is being shut down")
    return remaining


# ---- for the runtime -----------------------------------------------------------------------------------------------


def begin() -> bool:
    """Run the `on_init` hooks and get ready for SIGTERM. True: there are `on_shutdown` hooks.

    Raises what a hook raises.
    """
    global _begun
    # A hook may register another one.
    while _on_init:
        settle(_on_init.pop(0)())
    _begun = True
    if not _on_shutdown:
        return False
    from caloric.shutdown import watch

    watch()
    return True


def run_before_invoke(event: "Any", context: "LambdaContext") -> None:
    """Run the `before_invoke` hooks. Raises what the first of them raises that does."""
    for hook in _before_invoke:
        outcome = hook(event, context)
        if outcome is not None:
            settle(outcome)


def run_after_invoke(
    event: "Any", context: "LambdaContext", result: "Any", error: "Exception | None", request_id: str
) -> "BaseException | None":
    """Run the `after_invoke` hooks. Returns what is to be raised when the answer has been sent, if anything."""
    ending = None
    for hook in reversed(_after_invoke):
        try:
            outcome = hook(event, context, result, error)
            if outcome is not None:
                settle(outcome)
        except (SystemExit, KeyboardInterrupt) as failure:
            ending = failure
            break
        except BaseException as failure:
            log(failure, request_id)
    return ending


def run_before_snapshot() -> None:
    """Run the `before_snapshot` hooks. Raises what the first of them raises that does."""
    while _before_snapshot:
        # Taken off the list first: a hook that registers another one has it run next.
        settle(_before_snapshot.pop()())


def run_after_restore() -> None:
    """Run the `after_restore` hooks. Raises what the first of them raises that does."""
    for hook in _after_restore:
        settle(hook())


def run_on_shutdown() -> None:
    """Run the `on_shutdown` hooks. Raises nothing."""
    while _on_shutdown:
        try:
            settle(_on_shutdown.pop()())
        except BaseException as error:
            log(error, "")


def settle(outcome: object) -> None:
    """Wait for what a hook returned, if that is something to wait for. Raises what it raises."""
    if hasattr(type(outcome), "__await__"):
        from caloric.event_loop import run

        run(outcome)  # type: ignore[arg-type]


def log(error: BaseException, request_id: str) -> None:
    """Log what a hook raised, as an error of an invocation is logged."""
    from caloric.error_report import log_aside

    try:
        log_aside(error, request_id)
    except Exception:
        # Its own traceback, say, cannot be read. The answer, or the other hooks, matter more.
        pass


def _client() -> "Any":
    """The runtime's connection, where Caloric is the runtime."""
    return getattr(sys.modules.get("caloric.runtime"), "client", None)


def _warn_if_late(kind: str, function: "Callable[[], object]") -> None:
    if _begun:
        name = getattr(function, "__qualname__", function)
        sys.stderr.write(f"caloric: {kind}: {name} does not run, initialization is over\n")
