"""What was seen of a process, in a form that compares and reads well."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.scripted_api import Request

WAITING = "still waiting"
STUCK = "stuck: neither ended nor asked for the next invocation"

_VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z"), "<time>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:<port>"),
    (re.compile(r"\b0x[0-9a-f]{6,}\b"), "<address>"),
)
_FRAME_HEAD = 16


@dataclass(frozen=True)
class Observation:
    """Everything that one run of a case let one see, each thing under a name."""

    values: Mapping[str, str]
    """How it ended (`exit`), `stdout`, `stderr`, `frames`, `calls` (one line per request), and of the n-th request
    (from 0) `n body` and `n header name`."""
    posts: tuple[str, ...]
    """Which calls were posts."""

    def __getitem__(self, name: str) -> str:
        return self.values.get(name, "")


def observe(
    requests: list[Request],
    stdout: bytes,
    stderr: bytes,
    frames: bytes | None,
    exit_status: str,
    folder: str,
    masks: Mapping[str, str],
) -> Observation:
    """Bring a run's traces into shape, with what is different each time masked."""

    def mask(text: str) -> str:
        text = text.replace(folder, "<task>")
        for pattern, replacement in _VOLATILE:
            text = pattern.sub(replacement, text)
        for given, replacement in masks.items():
            text = re.sub(given, replacement, text)
        return text

    values = {
        "exit": exit_status,
        "calls": "\n".join(f"{r.method} {r.path} over connection {r.connection}" for r in requests),
        "stdout": mask(_text(stdout)),
        "stderr": mask(_text(stderr)),
    }
    if frames is not None:
        values["frames"] = mask("\n".join(_frames(frames)))
    posts = []
    for number, request in enumerate(requests):
        for name, value in sorted(request.headers.items()):
            # The length follows from the body, and the host is the endpoint's address.
            if name not in ("content-length", "host"):
                values[f"{number} header {name}"] = mask(value)
        if request.method == "POST":
            values[f"{number} body"] = mask(_text(request.body))
            whole = request.path.endswith(("/init/error", "/restore/error"))
            posts.append("/".join(request.path.split("/")[-2:]) if whole else request.call)
    return Observation(values, tuple(posts))


def _text(data: bytes) -> str:
    # Two different byte strings never give the same text.
    return data.decode("utf-8", "surrogateescape")


def _frames(data: bytes) -> list[str]:
    """One line per frame of the telemetry protocol (spec runtime-api 4.9): its type, and its message's repr."""
    lines = []
    while data:
        kind, length = data[:4].hex(), int.from_bytes(data[4:8], "big")
        microseconds = int.from_bytes(data[8:_FRAME_HEAD], "big")
        message, data = data[_FRAME_HEAD : _FRAME_HEAD + length], data[_FRAME_HEAD + length :]
        # From 2023 on, in microseconds: a time in another unit is another value.
        plausible = "" if 1.67e15 < microseconds < 1e16 else f" at {microseconds}"
        cut = "" if len(message) == length else f" cut short, {length} announced"
        lines.append(f"{kind}{plausible}{cut} {_text(message)!r}")
    return lines
