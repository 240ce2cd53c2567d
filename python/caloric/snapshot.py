"""SnapStart: the hooks around the snapshot, and the wait during which it is taken (spec runtime-api 5).

Imported only where the platform takes a snapshot. Hooks are registered with AWS's package `snapshot_restore_py` or with
`caloric.lifecycle`, neither of which is imported here: where user code has not done so, there are none. AWS's count as
registered first: Caloric's run before them before the snapshot, and behind them after the restore.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from caloric._rust import RuntimeClient

__all__ = ["pass_through_snapshot"]

_BEFORE_SNAPSHOT_FAILED = 64
_AFTER_RESTORE_FAILED = 65


def pass_through_snapshot(client: "RuntimeClient") -> None:
    """Run the before-snapshot hooks, wait to be restored, run the after-restore hooks.

    Whatever a hook raises is logged and reported, and ends the process: raises `SystemExit` with 64 before the restore
    and 65 after it. Raises `caloric.errors.RuntimeApiError` when the report is not accepted.
    """
    lifecycle = sys.modules.get("caloric.lifecycle")
    try:
        if lifecycle is not None:
            lifecycle.run_before_snapshot()
        hooks = _registered("get_before_snapshot")
        while hooks:
            # Taken off the list first: a hook that registers another one has it run next.
            hook, args, kwargs = hooks.pop()
            hook(*args, **kwargs)
        client.restore_next()
    except BaseException as error:
        from caloric.runtime import post_initialization_error

        post_initialization_error(client, "Runtime.BeforeSnapshotError", _document(error))
        raise SystemExit(_BEFORE_SNAPSHOT_FAILED) from None
    try:
        _reseed()
        for hook, args, kwargs in _registered("get_after_restore"):
            hook(*args, **kwargs)
        if lifecycle is not None:
            lifecycle.run_after_restore()
    except BaseException as error:
        client.post_restore_error("Runtime.AfterRestoreError", _document(error))
        raise SystemExit(_AFTER_RESTORE_FAILED) from None


def _registered(get: str) -> "list[Any]":
    """The package's own list of (function, positional arguments, keyword arguments), in order of registration."""
    package = sys.modules.get("snapshot_restore_py")
    hooks: list[Any] = [] if package is None else getattr(package, get)()
    return hooks


def _reseed() -> None:
    """Give `random` fresh entropy: it was seeded before the snapshot, and so alike in every restored copy."""
    # Only the standard library's: a function may have a module of that name.
    generators = getattr(sys.modules.get("_random"), "Random", ())
    seed = getattr(sys.modules.get("random"), "seed", None)
    if isinstance(getattr(seed, "__self__", None), generators):
        seed()  # type: ignore[misc]


def _document(error: BaseException) -> bytes:
    """Log what was raised and return the document about it, which names its class; only the header has AWS's type."""
    from caloric.error_report import report_exception

    return report_exception(error, "").body
