"""What a case is, and short ways to write one: all of them pass further fields of `Case` on."""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from tests.scripted_api import event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.scripted_api import Step

Source = str | bytes
# What makes awslambdaric write UTF-8 instead of escapes, and wait for invocations in a thread.
MODERN = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.12"}
NULL = event()


@dataclass(frozen=True)
class Case:
    """A function, what happens to it, and what is looked at beyond what is always compared."""

    name: str
    """The behaviour, as a sentence."""
    files: Mapping[str, Source]
    """Paths in the task root to sources or bytes."""
    handler: str | None = "app.handler"
    """The argument on the command line; None for none."""
    events: tuple[Step, ...] = (NULL,)
    """Answers to `/next`, one after the other. The case is over when another one is asked for."""
    steps: tuple[Step, ...] | None = None
    """Answers to all requests in their order, instead of `events` and accepting every post. Over at one more."""
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes | None = None
    telemetry: bool = False
    """Whether there is a log descriptor, `_LAMBDA_TELEMETRY_LOG_FD`."""
    signals: Mapping[int, int] = field(default_factory=dict)
    """Signals to send when the n-th request (from 0) has come, before it is answered."""
    grace: float = 0
    """Seconds in which the process may still end by itself after its last request, for signals while it waits."""
    python: tuple[int, int] = (3, 10)
    """The first Python it is for."""
    posts: tuple[str, ...] | None = ("response",)
    """What the peer posts: `response`, `error`, `init/error`, …; None for anything. So that a typing error in a case
    does not pass as the same error twice."""
    shows: str | None = None
    """Text that the peer's posts, output or error output contain: what the case is about."""
    differs: tuple[str, ...] = ()
    """Ids of the differences that this case shows, of those that do not apply everywhere. Each must show."""
    ours: Mapping[str, str] = field(default_factory=dict)
    """Patterns of what we show, by its name, where a difference allows it and the peer has nothing to compare with."""
    masks: Mapping[str, str] = field(default_factory=dict)
    """Patterns of what is different in every run, and what to put in their place."""


def source(text: str) -> str:
    """Dedent a function's source, without its first line end."""
    return dedent(text).lstrip("\n")


def function(name: str, text: str | bytes, **options: Any) -> Case:
    """A case of one file, `app.py`."""
    return Case(name, {"app.py": source(text) if isinstance(text, str) else text}, **options)


def returns(name: str, expression: str, setup: str = "", **options: Any) -> Case:
    """A handler that returns what `expression` is; `setup` stands before it at the module's top."""
    body = f"{source(setup)}\ndef handler(event, context):\n    return {expression}\n"
    return Case(name, {"app.py": body}, **options)


def fails(name: str, expression: str, setup: str = "", **options: Any) -> Case:
    """`returns`, where an error is posted instead."""
    return returns(name, expression, setup, **{"posts": ("error",), **options})


def raises(name: str, statements: str, setup: str = "", **options: Any) -> Case:
    """A handler that runs `statements`, and fails."""
    lines = "".join(f"    {line}\n" for line in source(statements).splitlines())
    body = f"{source(setup)}\ndef handler(event, context):\n{lines}"
    return Case(name, {"app.py": body}, **{"posts": ("error",), **options})


def gets(name: str, body: bytes, **options: Any) -> Case:
    """An event that the handler returns, with its type in front."""
    text = "def handler(event, context):\n    return [type(event).__name__, event]\n"
    return Case(name, {"app.py": text}, **{"events": (event(body),), **options})


def refuses(name: str, body: bytes, **options: Any) -> Case:
    """An event that never reaches the handler."""
    return gets(name, body, **{"posts": ("error",), **options})


def headers(name: str, statements: str, headers: dict[str, str], **options: Any) -> Case:
    """A handler that looks at `context` after an invocation with these headers (an empty value: without it)."""
    return raises(name, statements, **{"posts": ("response",), "events": (event(**headers),), **options})


def broken(name: str, files: str | Mapping[str, Source], **options: Any) -> Case:
    """A function that cannot be loaded; a str is `app.py`."""
    named = {"app.py": source(files)} if isinstance(files, str) else files
    return Case(name, named, **{"posts": ("init/error",), **options})


def example(value: Any) -> str:
    """The part of a case's name that quotes a value."""
    return f"`{value}`"
