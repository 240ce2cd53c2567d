"""Every intended difference from awslambdaric 4.2.2: what differs, to the letter, and why.

`docs/differences.md` is made from this file. A difference says what both sides must show: it is a pair of patterns
whose matches are replaced by the difference's id, or a function for what patterns cannot say. Everything that is left
must be equal.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conformance.case import MODERN
from tests.conformance.json_tokens import render, tokens
from tests.runtimes import CALORIC

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.conformance.case import Case
    from tests.conformance.observation import Observation

Texts = tuple[str, str]


@dataclass(frozen=True)
class Look:
    """One observable that differs, and where it was seen."""

    case: Case
    name: str
    peer: str
    ours: str
    peers_run: Observation
    our_run: Observation


@dataclass(frozen=True)
class Difference:
    """One intended difference."""

    id: str
    area: str
    """The heading under which users find it."""
    peer: str
    ours: str
    why: str
    pins: Mapping[str, Texts] | None = None
    """Pattern of an observable's name → patterns of what the peer and we show there. Named groups in both must match
    the same text. An empty pattern: the other one's text has no counterpart."""
    rule: Callable[[Look], Texts | None] | None = None
    """For what patterns cannot say: both texts with the difference taken out, or None where it does not show."""
    everywhere: bool = False
    """Whether it may show in every case; otherwise only in those that name it, and there it must."""
    ways: Sequence[str] = tuple(CALORIC)

    def explain(self, look: Look) -> Texts | None:
        """Return both texts with this difference taken out; None where it does not show."""
        if self.rule is not None:
            return self.rule(look)
        name, peer, ours = look.name, look.peer, look.ours
        for pattern, (theirs, own) in (self.pins or {}).items():
            if re.fullmatch(pattern, name) is None:
                continue
            if not own:
                left, found = re.subn(theirs, "", peer, flags=re.DOTALL)
                return (left, ours) if found and not re.search(theirs, ours, re.DOTALL) else None
            if not theirs:
                right, found = re.subn(own, "", ours, flags=re.DOTALL)
                return (peer, right) if found and not re.search(own, peer, re.DOTALL) else None
            left, found_left = self._mark(theirs, peer)
            right, found_right = self._mark(own, ours)
            if found_left and found_right:
                return left, right
        return None

    def _mark(self, pattern: str, text: str) -> tuple[str, int]:
        def mark(match: re.Match[str]) -> str:
            groups = "".join(f" {name}={value}" for name, value in sorted(match.groupdict().items()))
            return f"«{self.id}{groups}»"

        return re.subn(pattern, mark, text, flags=re.DOTALL)


def is_json_text(name: str) -> bool:
    """Whether the observable `name` is JSON in most cases."""
    return name.endswith((" body", " header lambda-runtime-function-xray-error-cause"))


def json_spelling(look: Look) -> Texts | None:
    """The same tokens: the peer's with blanks behind separators, and escaped outside 3.12+ mode; ours compact."""
    if not is_json_text(look.name):
        return None
    theirs, own = tokens(look.peer), tokens(look.ours)
    if theirs is None or own is None:
        return None
    modern = look.case.environment.get("AWS_EXECUTION_ENV") == MODERN["AWS_EXECUTION_ENV"]
    in_header = "header" in look.name
    if look.peer != render(theirs, blanks=True, escapes=not modern):
        return None
    if look.ours != render(own, blanks=False, escapes=in_header):
        return None
    return render(theirs, blanks=False, escapes=True), render(own, blanks=False, escapes=True)


def error_type_header(look: Look) -> Texts | None:
    """The type that the document names."""
    header = re.fullmatch(r"(\d+) header lambda-runtime-function-error-type", look.name)
    if header is None or look.peer:
        return None
    return ("", "") if look.ours == json.loads(look.our_run[f"{header[1]} body"])["errorType"] else None


def xray_paths(look: Look) -> Texts | None:
    """The same paths, in an order of the peer's that is another one each time; ours is the stack's."""
    if not look.name.endswith("xray-error-cause"):
        return None
    theirs, own = json.loads(look.peer), json.loads(look.ours)
    stack = [frame["path"] for frame in own["exceptions"][0]["stack"]]
    if sorted(theirs["paths"]) != sorted(own["paths"]) or own["paths"] != list(dict.fromkeys(stack)):
        return None
    return json.dumps({**theirs, "paths": own["paths"]}), json.dumps(own)


SENT = "What is sent to the Runtime API"
LOADING = "When a handler cannot be loaded"
SNAPSTART = "SnapStart"

DIFFERENCES: Sequence[Difference] = (
    Difference(
        "json-spelling",
        area=SENT,
        peer='`", "` and `": "` between values, and `\\uXXXX` for what is not ASCII unless `AWS_EXECUTION_ENV` says '
        "Python 3.12 or later",
        ours="no blanks, always UTF-8; `\\uXXXX` only for half surrogate pairs, and in the header for X-Ray",
        why="Fewer bytes and less work; it is the same JSON: order, numbers and strings are equal.",
        rule=json_spelling,
        everywhere=True,
    ),
    Difference(
        "user-agent",
        area=SENT,
        peer="`User-Agent: aws-lambda-python/3.X.Y-4.2.2`, none with an initialization error",
        ours="`User-Agent: caloric-python/3.X.Y-` and Caloric's version, always",
        why="It says which runtime it is.",
        pins={
            r"\d+ header user-agent": (
                r"\A(aws-lambda-python/(\d+\.\d+\.\d+)-4\.2\.2)?\Z",
                r"\Acaloric-python/(\d+\.\d+\.\d+)-\d+\.\d+\.\d+\Z",
            )
        },
        everywhere=True,
    ),
    Difference(
        "accept",
        area=SENT,
        peer="`Accept: */*`, or `Accept-Encoding: identity` with an initialization error",
        ours="neither",
        why="They come from the peer's HTTP libraries, and the Runtime API reads neither.",
        pins={r"\d+ header accept": (r"\A\*/\*\Z", ""), r"\d+ header accept-encoding": (r"\Aidentity\Z", "")},
        everywhere=True,
    ),
    Difference(
        "init-error-content-type",
        area=SENT,
        peer="an initialization error has no `Content-Type`, nor has a restore error",
        ours="`Content-Type: application/json`, as other errors",
        why="It is JSON, and whoever reads it should know.",
        pins={r"[01] header content-type": ("", r"\Aapplication/json\Z")},
        everywhere=True,
    ),
    Difference(
        "init-error-advice",
        area=LOADING,
        peer="a warning in the log, before the error, about how to go back to an earlier runtime version",
        ours="a warning in the same place and form, which says what happens next",
        why="The sentences are AWS's. Both begin with `LAMBDA_WARNING: Unhandled exception.`, end with the address "
        "of the page about runtime updates, and have the same level.",
        pins={
            "stdout|frames": (
                r"(?<=LAMBDA_WARNING: Unhandled exception\. )The most likely cause .*?see "
                r"(?=https://docs\.aws\.amazon\.com/lambda/latest/dg/runtimes-update\.html(\r|\\r))",
                r"(?<=LAMBDA_WARNING: Unhandled exception\. )The handler could not .*? listed at "
                r"(?=https://docs\.aws\.amazon\.com/lambda/latest/dg/runtimes-update\.html(\r|\\r))",
            )
        },
        everywhere=True,
    ),
    Difference(
        "init-error-first-frame",
        area=LOADING,
        peer="the stack trace of what a module raised begins with a frame of `importlib/__init__.py`",
        ours="it begins with the next frame, of `<frozen importlib._bootstrap>`",
        why="Caloric calls the import system without the `importlib` package, which it does not load.",
        pins={
            r"0 body": (
                r'"  File \\"[^"]*/importlib/__init__\.py\\", line \d+, in import_module\\n    (?:[^"\\]|\\.)*",?',
                "",
            ),
            "stdout": (
                '\r\xa0\xa0File "[^"]*/importlib/__init__\\.py", line \\d+, in import_module\r\xa0{4}[^\r\n]*',
                "",
            ),
            "frames": (
                r'\\n\\xa0\\xa0File "[^"]*/importlib/__init__\.py", line \d+, in import_module\\n(\\xa0){4}[^\\\n]*',
                "",
            ),
        },
        everywhere=True,
    ),
    Difference(
        "error-type-header",
        area=SENT,
        peer="no `Lambda-Runtime-Function-Error-Type` with the error of an invocation",
        ours="the error's type",
        why="The Runtime API documents it and the other runtimes send it; the platform's own logs and metrics then "
        "name the cause.",
        rule=error_type_header,
        everywhere=True,
    ),
    Difference(
        "xray-paths",
        area=SENT,
        peer="`paths` in X-Ray's cause in any order",
        ours="in the order of the stack",
        why="The same input gives the same bytes.",
        rule=xray_paths,
        everywhere=True,
    ),
    Difference(
        "snapstart-first-frame",
        area=SNAPSTART,
        peer="the stack trace of a hook that fails begins with a frame of `lambda_runtime_hooks_runner.py`",
        ours="it begins with the hook",
        why="Frames of the runtime itself say nothing about the function.",
        pins={
            r"[01] body": (
                r'"  File \\"[^"]*/lambda_runtime_hooks_runner\.py\\", line \d+, in \w+\\n(?:[^"\\]|\\.)*",?',
                "",
            ),
            "stdout": (
                '\r\xa0\xa0File "[^"]*/lambda_runtime_hooks_runner\\.py", line \\d+, in \\w+\r\xa0{4}[^\r\n]*'
                r'|"  File \\"[^"]*/lambda_runtime_hooks_runner\.py\\", line \d+, in \w+\\n(?:[^"\\]|\\.)*",?',
                "",
            ),
            "frames": (
                r'\\n\\xa0\\xa0File "[^"]*/lambda_runtime_hooks_runner\.py", line \d+, in \w+\\n(\\xa0){4}'
                r"[^\\\n']*"
                r'|"  File \\\\"[^"]*/lambda_runtime_hooks_runner\.py\\\\", line \d+, in \w+(?:[^"\\]|\\.)*", ?',
                "",
            ),
        },
    ),
    Difference(
        "snapstart-no-restore",
        area=SNAPSTART,
        peer="a restore that does not come is reported as the HTTP client's exception, such as "
        "`LambdaRuntimeClientError` or `RemoteDisconnected`, with its stack trace",
        ours="as `RuntimeApiError`, with a message that names the call and what came back, and no stack trace",
        why="The words are each client's own; type in the header, path and exit code are the same.",
        pins={
            r"1 body": (
                r'\A\{"errorMessage":".*?","errorType":"\w+","requestId":"","stackTrace":\[.*/http/.*\]\}\Z'
                r'|\A\{"errorMessage":".*?","errorType":"\w+","requestId":"","stackTrace":\[.*awslambdaric.*\]\}\Z',
                r'\A\{"errorMessage":"GET /runtime/restore/next.*?","errorType":"RuntimeApiError","requestId":"",'
                r'"stackTrace":\[\]\}\Z',
            ),
            "stdout": (
                r"\[ERROR\] \w+: .*call_rapid.*\n\Z",
                r"\[ERROR\] RuntimeApiError: GET /runtime/restore/next[^\n]*\rTraceback \(most recent call last\):\n\Z",
            ),
        },
    ),
    Difference(
        "snapstart-report-refused",
        area=SNAPSTART,
        peer="when the report of a failed hook is not accepted, a traceback on standard error",
        ours="one line there, which names the call and what came back",
        why="Nobody can do anything about the frames of the runtime. The exit code is the same, 1.",
        pins={
            "stderr": (
                r"\ATraceback \(most recent call last\):\n.*(?:LambdaRuntimeClientError|RemoteDisconnected): .*\Z",
                r"\Acaloric: POST /runtime/(?:init|restore)/error[^\n]*\n\Z",
            )
        },
    ),
    Difference(
        "snapstart-reseeded",
        area=SNAPSTART,
        peer="`random.random()` and the other functions of the module continue after a restore as they were seeded "
        "before the snapshot",
        ours="the module's generator is seeded anew after the restore, before the hooks, also where the function had "
        "chosen a seed; one that is to stay is set in an after-restore hook",
        why="Every copy of a snapshot would draw the same numbers.",
        pins={r"\d+ body": (r"\A0\.32383276483316237\Z", r"\A0\.(?!32383276483316237)\d+(?:e-\d+)?\Z")},
    ),
)
