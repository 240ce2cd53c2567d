"""The event on a command line."""

from __future__ import annotations

import sys

from caloric.cli import UserMistake


def read_event(source: str) -> bytes:
    """Return the bytes of the event that `--event` names: JSON text, a file after `@`, or `-` for standard input.

    Raises `UserMistake` when there are none, or they are no JSON.
    """
    if source == "-":
        event, name = sys.stdin.buffer.read(), "the event on standard input"
    elif source.startswith("@"):
        name = f"the event in {source[1:]}"
        try:
            with open(source[1:], "rb") as file:
                event = file.read()
        except OSError as error:
            raise UserMistake(f"the event file {source[1:]!r} cannot be read: {error.strerror}") from None
    else:
        event, name = source.encode(errors="surrogateescape"), "the event"
    check_json(event, name)
    return event


def check_json(text: bytes, name: str) -> None:
    """Raise `UserMistake` for what is no JSON, calling it `name`."""
    from caloric._rust import decode_json

    try:
        decode_json(text)
    except ValueError as error:
        line, column = getattr(error, "lineno", None), getattr(error, "colno", None)
        reason = getattr(error, "msg", error)
        where = "" if line is None else f" at line {line}, column {column}"
        raise UserMistake(f"{name} is not JSON: {reason}{where}") from None
