"""What the log says about an error beyond what is posted: notes, causes, the members of a group, and a hint where an
import failed for a reason that shows on disk. Imported at the first error that has any of it.
"""

import os
import traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

__all__ = ["as_lines", "details"]

# A log is for people. How many errors are described, with how many frames each, and how long a text is.
_MOST_ERRORS = 10
_MOST_FRAMES = 30
_LONGEST_TEXT = 4096

_OWN_FOLDER = os.path.dirname(__file__)


def details(error: BaseException, *, with_itself: bool = False) -> "dict[str, Any]":
    """Return what is known about `error` besides its type, message and stack, as fields of a JSON record.

    `notes` (PEP 678) are texts; `causes`, from the nearest on, and `exceptions`, a group's members, are objects with
    `errorType`, `errorMessage`, `stackTrace` and, where they have any, these fields themselves; a cause says with
    `explicit` whether it was named (`raise … from`) or was being handled. `hint` is a sentence. `with_itself` counts
    the error as the first of its causes, for a report that was made in its place. A field without a value is absent.
    """
    seen = {id(error)}
    found: dict[str, Any] = {}
    causes = []
    if with_itself:
        itself = _describe(error, seen)
        # What it says is in the report; where it was raised, if that is in user code, is not.
        if itself["stackTrace"] or "notes" in itself:
            causes.append({**itself, "explicit": True})
    else:
        found.update(_own_details(error, seen))
    causes += _causes(error, seen)
    if causes:
        found["causes"] = causes
    hint = _hint(error)
    if hint:
        found["hint"] = hint
    return found


def _causes(error: BaseException, seen: set[int]) -> "list[dict[str, Any]]":
    """The errors that led to this one, none of them twice in a report: they may form a circle."""
    causes: list[dict[str, Any]] = []
    while True:
        explicit = error.__cause__ is not None
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None or id(cause) in seen or len(seen) > _MOST_ERRORS:
            return causes
        seen.add(id(cause))
        causes.append({**_describe(cause, seen), "explicit": explicit})
        error = cause


def _describe(error: BaseException, seen: set[int]) -> "dict[str, Any]":
    return {
        "errorType": type(error).__name__,
        "errorMessage": _text(error),
        "stackTrace": _stack_trace(error.__traceback__),
        **_own_details(error, seen),
    }


def _stack_trace(trace: "TracebackType | None") -> list[str]:
    """The innermost frames, without the runtime's and the import system's, and without marks under the code."""
    frames = [
        (frame.filename, frame.lineno or 0, frame.name, frame.line)
        for frame in traceback.extract_tb(trace)
        if not frame.filename.startswith("<frozen importlib")
        and os.path.dirname(frame.filename) != _OWN_FOLDER
    ]
    return traceback.format_list(frames[-_MOST_FRAMES:])


def _own_details(error: BaseException, seen: set[int]) -> "dict[str, Any]":
    found: dict[str, Any] = {}
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, (list, tuple)) and notes:
        found["notes"] = [_text(note) for note in notes[:_MOST_ERRORS]]
    # By name: CPython 3.10 has no groups, but a backport of them is used there.
    if any(kind.__name__ == "BaseExceptionGroup" for kind in type(error).__mro__):
        members = []
        for member in error.exceptions:  # type: ignore[attr-defined]
            if id(member) in seen or len(seen) > _MOST_ERRORS:
                break
            seen.add(id(member))
            described = _describe(member, seen)
            causes = _causes(member, seen)
            members.append({**described, "causes": causes} if causes else described)
        found["exceptions"] = members
    return found


def _text(value: object) -> str:
    try:
        text = str(value)
    except Exception as failure:
        return f"<str() failed: {type(failure).__name__}>"
    return (
        text
        if len(text) <= _LONGEST_TEXT
        else f"{text[:_LONGEST_TEXT]}... [{len(text) - _LONGEST_TEXT} more]"
    )


def _hint(error: BaseException) -> "str | None":
    current: BaseException | None = error
    for _ in range(_MOST_ERRORS):
        if isinstance(current, ImportError):
            from caloric.import_hints import hint

            found = hint(current)
            if found:
                return found
        if current is None:
            break
        current = current.__cause__ or current.__context__
    return None


def as_lines(found: "dict[str, Any]", indent: str = "") -> list[str]:
    """Return what `details` found as the lines of a text log."""
    lines = []
    for note in found.get("notes", ()):
        lines += [f"{indent}Note: {line}" for line in note.splitlines()]
    for number, member in enumerate(found.get("exceptions", ()), 1):
        lines += _error_lines(f"Member {number}", member, indent)
    for cause in found.get("causes", ()):
        lines += _error_lines("Caused by" if cause["explicit"] else "While handling", cause, indent)
    if "hint" in found:
        lines.append(f"{indent}Hint: {found['hint']}")
    return lines


def _error_lines(label: str, error: "dict[str, Any]", indent: str) -> list[str]:
    head = ": ".join(part for part in (label, error["errorType"], error["errorMessage"]) if part)
    lines = [indent + line for line in head.splitlines()]
    for entry in error["stackTrace"]:
        lines += [indent + line for line in entry.splitlines()]
    return lines + as_lines(error, indent + "  ")
