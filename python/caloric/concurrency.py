"""Whose invocation it is, where one process serves several at once (spec runtime-api 6): what is a variable of the
process elsewhere belongs to a context (`contextvars`) there.

Imported only there, and by `caloric.trace_id`.
"""

from __future__ import annotations

import sys
from contextvars import Context, ContextVar
from posix import _exit, environ
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from typing import NoReturn

    from caloric._rust import RuntimeClient, SlotInvocation
    from caloric.context import LambdaContext

__all__ = ["begin", "carry_over", "ids", "leave", "note_context", "trace_id"]

ids: ContextVar[tuple[str, str | None, str | None]] = ContextVar("caloric.invocation")
"""Request id, tenant id and trace id of the invocation at hand."""

# By what an invocation is answered. Not an attribute: `vars`, `copy` and `pickle` are to see what they always see.
_clients: WeakKeyDictionary[LambdaContext, RuntimeClient | SlotInvocation] = WeakKeyDictionary()

_begun = False


def begin(client: RuntimeClient) -> None:
    """Have `client`, and whatever asks it for ids, know the invocation of who asks."""
    global _begun
    from caloric.context import LambdaContext

    _begun = True
    LambdaContext._client = property(_clients.get)  # type: ignore[assignment]
    client.use_context(ids, note_context)


def note_context(context: LambdaContext, client: RuntimeClient | SlotInvocation) -> None:
    """Say by what the invocation of `context` is answered."""
    _clients[context] = client


def carry_over(context: Context) -> None:
    """Let `context` be about the invocation at hand too."""
    at_hand: Any = ids.get(None)
    if at_hand is not None:
        context.run(ids.set, at_hand)


def leave(error: BaseException) -> NoReturn:
    """End the process as `error` would if nobody caught it, but whatever its threads do: they would be waited for, or
    be ended amid Rust's frames, which they must not be.
    """
    status = 130 if isinstance(error, KeyboardInterrupt) else 1
    try:
        from caloric.errors import RuntimeApiError

        if isinstance(error, SystemExit):
            status = _exit_status(error.code)
        elif isinstance(error, RuntimeApiError):
            sys.stderr.write(f"caloric: {error}\n")
        else:
            sys.excepthook(type(error), error, error.__traceback__)
        import atexit

        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        # A stream that is closed, say: there is nobody left to tell.
        pass
    finally:
        _exit(status)


def _exit_status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def trace_id() -> str | None:
    """Return X-Ray's trace header of the invocation at hand, such as `Root=1-5e…;Parent=…;Sampled=1`.

    That is `_X_AMZN_TRACE_ID`, except where one process serves several invocations at once: it is not in the
    environment there. None where none was sent, and in a thread that does not know its invocation's context.
    """
    at_hand = ids.get(None)
    if at_hand is not None:
        return at_hand[2]
    value = None if _begun else environ.get(b"_X_AMZN_TRACE_ID")
    return None if value is None else value.decode(errors="surrogateescape")
