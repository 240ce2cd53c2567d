"""Every intended difference from awslambdaric 4.2.2: what differs, to the letter, and why.

`docs/differences.md` is made from this file. A difference says what both sides must show: it is a pair of patterns
whose matches are replaced by the difference's id, or a function for what patterns cannot say. Everything that is left
must be equal.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
    in_header = "header" in look.name
    if look.peer != render(theirs, blanks=True, escapes=not is_modern(look.case)):
        return None
    if look.ours.replace("\\u007f", "\x7f") != render(own, blanks=False, escapes=in_header):
        return None
    return render(theirs, blanks=False, escapes=True), render(own, blanks=False, escapes=True)


def is_modern(case: Case) -> bool:
    """Whether the peer is in its 3.12+ mode."""
    return case.environment.get("AWS_EXECUTION_ENV") == MODERN["AWS_EXECUTION_ENV"]


def init_error_latin_1(look: Look) -> Texts | None:
    """The peer's document in Latin-1."""
    if look.name != "0 body" or not is_modern(look.case):
        return None
    text = look.peer.encode("utf-8", "surrogateescape").decode("latin-1")
    if text == look.peer:
        return None
    return json_spelling(replace(look, peer=text))


def error_type_header(look: Look) -> Texts | None:
    """The type that the document names."""
    header = re.fullmatch(r"(\d+) header lambda-runtime-function-error-type", look.name)
    if header is None or look.peer:
        return None
    error_type = decoded(look.our_run[f"{header[1]} body"]).get("errorType")
    # What a header cannot hold is a blank.
    return ("", "") if look.ours == re.sub(r"[\x00-\x1f\x7f]", " ", str(error_type)) else None


def decoded(text: str) -> dict[str, Any]:
    """The object in JSON text; an empty one where it is something else."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def xray_paths(look: Look) -> Texts | None:
    """The same paths, in an order of the peer's that is another one each time; ours is the stack's."""
    if not look.name.endswith("xray-error-cause"):
        return None
    theirs, own = decoded(look.peer), decoded(look.ours)
    if not theirs or not own:
        return None
    stack = [frame["path"] for frame in own["exceptions"][0]["stack"]]
    if sorted(theirs["paths"]) != sorted(own["paths"]) or own["paths"] != list(dict.fromkeys(stack)):
        return None
    return json.dumps({**theirs, "paths": own["paths"]}), json.dumps(own)


def becomes_a_response(look: Look) -> Texts | None:
    """A MarshalError's post becomes a response's, whose body is the one that the case says."""
    if look.name == "calls":
        return look.peer.replace("/error over", "/response over"), look.ours
    if "Runtime.MarshalError" not in look.peers_run["1 body"] or not look.our_run["1 body"]:
        return None
    if look.name == "stdout":
        pattern = r"\[ERROR\] Runtime\.MarshalError: Unable to marshal response: [^\r\n]*\r[^\r\n]*\n"
        return re.sub(pattern, "", look.peer), look.ours
    if look.name == "1 body":
        pattern = r'\{"errorMessage": ?"Unable to marshal response: .*"stackTrace": ?\[\]\}'
        return ("", "") if re.fullmatch(pattern, look.peer) and as_pinned(look) else None
    if look.name == "1 header lambda-runtime-function-xray-error-cause":
        return ("", "") if not look.ours else None
    return None


_STREAM_HEADERS = {
    "1 header lambda-runtime-function-response-mode": "streaming",
    "1 header transfer-encoding": "chunked",
    "1 header trailer": "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
}


def becomes_a_stream(look: Look) -> Texts | None:
    """The same, and the response streams."""
    if look.name in _STREAM_HEADERS:
        return ("", "") if (look.peer, look.ours) == ("", _STREAM_HEADERS[look.name]) else None
    if look.name == "1 header content-type":
        return ("", "") if look.peer == "application/json" and as_pinned(look) else None
    return becomes_a_response(look)


def becomes_awaited(look: Look) -> Texts | None:
    """The same, where the peer warns of a coroutine that nobody awaits."""
    if look.name == "stderr":
        warning = (
            r"\S+: RuntimeWarning: coroutine '\w+' was never awaited\n(?:  [^\n]*\n)?RuntimeWarning: [^\n]*\n"
        )
        return ("", "") if re.fullmatch(warning, look.peer) and not look.ours else None
    return becomes_a_response(look)


def as_pinned(look: Look) -> bool:
    """Whether we show what the case says we do."""
    pinned = look.case.ours.get(look.name)
    return pinned is not None and re.fullmatch(pinned, look.ours, re.DOTALL) is not None


def survives(ended: str, exit_status: str = "exit status 1") -> Callable[[Look], Texts | None]:
    """The peer's process ends with the error `ended` where ours posts, and goes on."""

    def rule(look: Look) -> Texts | None:
        name, peer, ours = look.name, look.peer, look.ours
        number, _, kind = name.rpartition(" header ")
        if name == "exit":
            explained = (peer, ours) == (exit_status, "still waiting")
        elif name == "calls":
            explained = ours.startswith(f"{peer}\nPOST ")
        elif name == "stderr":
            explained = not ours and re.fullmatch(rf"Traceback .*\n{ended}\n", peer, re.DOTALL) is not None
        elif kind == "content-type":
            explained = not peer and ours == "application/json"
        elif kind == "lambda-runtime-function-xray-error-cause":
            message = decoded(look.our_run[f"{number} body"]).get("errorMessage")
            explained = not peer and decoded(ours)["exceptions"][0]["message"] == message
        else:
            explained = not peer and as_pinned(look)
        return ("", "") if explained else None

    return rule


def crashes(look: Look) -> Texts | None:
    """The peer's process ends in one of two ways where ours posts."""
    ends = (
        survives(r"UnicodeDecodeError: 'utf-8' codec can't decode [^\n]*"),
        survives("", "signal SIGABRT"),
    )
    if (
        look.name == "stderr"
        and re.fullmatch(r"[^\n]*: Assertion `ms > 0' failed\.\n", look.peer)
        and not look.ours
    ):
        return "", ""
    return next(filter(None, (rule(look) for rule in ends)), None)


# What the same expression is for both.
_NO_SITE = {("0", "1"), ("[false,true]", "[null,true]"), ('["Quitter",true]', '["SiteBuiltin",true]')}


def no_site(look: Look) -> Texts | None:
    """What the `site` module leaves behind, and what stands in for it."""
    return ("", "") if look.name == "1 body" and (look.peer, look.ours) in _NO_SITE else None


def search_path(look: Look) -> Texts | None:
    """Layers on the path; or what a `.pth` file or `sitecustomize` in the task root brought."""
    if (look.name, look.peer, look.ours) in (
        ("1 body", "null", "7"),
        ("stdout", "", "sitecustomize runs\n"),
        ("stdout", "", "usercustomize runs\n"),
    ):
        return "", ""
    if look.name != "1 body":
        return None
    if not look.ours.startswith('["<task>",'):
        return None
    theirs, own = json.loads(look.peer), json.loads(look.ours)
    layers = [
        f"/opt/python/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages",
        "/opt/python",
    ]
    return ("", "") if own == [theirs[0], *layers, *theirs[1:]] else None


def refused_answers(look: Look) -> Texts | None:
    """The peer's process ends where ours goes on."""
    if look.name == "exit":
        return ("", "") if (look.peer, look.ours) == ("exit status 1", "still waiting") else None
    if look.name == "calls" and look.ours.startswith(look.peer):
        return "", ""
    if look.name == "stderr":
        ended = r"Traceback .*\nRuntimeError: Failed to post invocation (response|error)\n"
        line = r"caloric: the answer to id-\d was not accepted: [^\n]*\n"
        return (
            ("", "") if re.fullmatch(ended, look.peer, re.DOTALL) and re.fullmatch(line, look.ours) else None
        )
    if look.name == "stdout":
        line = r"Failed to post handler success response\. Http response code: \d+\.[^\n]*\n"
        failed = rf"\[ERROR\] \[\d+\] LAMBDA_RUNTIME {line}"
        found = re.sub(failed, "", look.peer)
        return (found, look.ours) if found != look.peer else None
    # What is asked and posted afterwards.
    after = re.match(r"(\d+) ", look.name)
    last = max(int(name.split()[0]) for name in look.peers_run.values if name[0].isdigit())
    if after is not None and int(after[1]) > last and not look.peer:
        return "", ""
    return None


# What the two parsers say at the same place: the peer's words, and the standard library's.
_DECODER_WORDS = (
    (r"(?P<what>Expecting [^:]*) or '[\]}]'", "{what}"),
    (r"Illegal trailing comma before end of array", "Expecting value"),
    (r"Illegal trailing comma before end of object", "Expecting property name enclosed in double quotes"),
    (r"Invalid control character '[^']+' at", "Invalid control character at"),
    (r"Invalid \\+X escape sequence '[^']+'", "Invalid ESCAPE"),
    (r"Invalid \\+uXXXX escape sequence", "Invalid UESCAPE"),
    (r"Extra data", "Extra data"),
    (
        r"maximum recursion depth exceeded while decoding a JSON (?P<what>array|object) from a string",
        "DEEP {what}",
    ),
)
_DECODER_ERROR = re.compile(
    r"(?<=Unable to unmarshal input: )(?P<words>(?:(?!: line )[^\r\n])*): line (?P<line>\d+) column \d+"
    r"(?: - line \d+ column \d+)? \(char (?P<char>\d+)(?: - \d+)?\)"
    r"|(?<=Unable to unmarshal input: )(?P<deep>maximum recursion depth exceeded while decoding [a-zA-Z ]*)"
)


def decoder_words(look: Look) -> Texts | None:
    """The words of the parser, at the same line and within one character."""
    theirs, own = _DECODER_ERROR.search(look.peer), _DECODER_ERROR.search(look.ours)
    if theirs is None or own is None:
        return None
    if theirs["words"] is not None and own["words"] is not None:
        near = abs(int(theirs["char"]) - int(own["char"])) <= 1
        if theirs["line"] != own["line"] or not near:
            return None
    wanted = re.sub(r"\\+uXXXX escape", "UESCAPE", own["words"] or own["deep"])
    wanted = re.sub(r"\\+escape", "ESCAPE", wanted)
    wanted = re.sub(r".* JSON (array|object) from a (unicode )?string", r"DEEP \1", wanted)
    said = theirs["words"] or theirs["deep"]
    for pattern, words in _DECODER_WORDS:
        match = re.fullmatch(pattern, said)
        if match is not None and wanted in (words.format(**match.groupdict()), said):
            left, right = (_DECODER_ERROR.sub("«decoder-words»", t, count=1) for t in (look.peer, look.ours))
            return left, right
    return None


def api_failure(look: Look) -> Texts | None:
    """Both end with 1: the peer with a traceback and a line on standard output, ours with one line."""
    if look.name == "stderr":
        theirs = (
            r"Traceback .*\n(RuntimeError: Failed to (get next|post invocation (response|error))"
            r"|(\w+\.)*(FaultException|LambdaRuntimeClientError|RemoteDisconnected|ConnectionResetError)(: [^\n]*)?)\n"
        )
        own = r"caloric: [^\n]*\n"
        both = re.fullmatch(theirs, look.peer, re.DOTALL) and re.fullmatch(own, look.ours)
        return ("", "") if both else None
    if look.name == "stdout":
        found = re.sub(r"\[ERROR\] \[\d+\] LAMBDA_RUNTIME (?:[^\n]|\n(?!\Z))*\n\Z", "", look.peer)
        return (found, look.ours) if found != look.peer else None
    # The request for the next event, which leaves together with the answer.
    last = max((int(name.split()[0]) for name in look.peers_run.values if name[0].isdigit()), default=-1)
    together = re.escape(look.peer) + r"\nGET /2018-06-01/runtime/invocation/next over connection 0"
    if look.name == "calls" and re.fullmatch(together, look.ours):
        return "", ""
    after = re.match(r"(\d+) header ", look.name)
    return ("", "") if after is not None and int(after[1]) == last + 1 and not look.peer else None


def no_content_type(look: Look) -> Texts | None:
    """The peer crashes, and so everything that ours does then is more."""
    if look.peers_run["exit"] != "signal SIGSEGV":
        return None
    if look.name == "exit" or (look.name == "calls" and look.ours.startswith(look.peer)):
        return "", ""
    if look.name == "stderr":
        return ("", "") if not look.peer and re.fullmatch(r"caloric: [^\n]*\n", look.ours) else None
    return ("", "") if re.match(r"[1-9]\d* ", look.name) and not look.peer else None


# A frame in a traceback, also in that of an exception group, with its source lines.
_FRAME = (
    r'(?:  \| )?  File "(?:[^"]*/{folder}/[^"/]*|<frozen runpy>|[^"]*/runpy\.py|[^"]*/importlib/__init__\.py)", '
    r"line \d+, in [^\n]*\n(?:(?:  \| )?    [^\n]*\n)*"
)
_WARNING = r"(?m)^[^\n]*/{folder}/[^/\n]*\.py:\d+: (\w+Warning: [^\n]*\n)  [^\n]*\n"


def runtime_frames(look: Look) -> Texts | None:
    """Tracebacks without the runtime's own frames, and warnings that are laid at its door without the place."""
    if look.name != "stderr":
        return None
    texts = []
    for folder, text in (("awslambdaric", look.peer), ("caloric", look.ours)):
        shorter = re.sub(_FRAME.replace("{folder}", folder), "", text)
        texts.append(re.sub(_WARNING.replace("{folder}", folder), r"\1", shorter))
    return (texts[0], texts[1]) if texts[0] != look.peer and texts[1] != look.ours else None


def own_frames(look: Look) -> Texts | None:
    """Stack traces without the runtime's own frames."""
    if look.name == "stdout":
        texts = [
            re.sub(rf'\r\xa0\xa0File "[^"]*/{folder}/[^"/]*", line \d+, in \w+\r\xa0{{4}}[^\r\n]*', "", text)
            for folder, text in (("awslambdaric", look.peer), ("caloric", look.ours))
        ]
        return (texts[0], texts[1]) if texts[0] != look.peer else None
    if not is_json_text(look.name):
        return None
    theirs, own = decoded(look.peer), decoded(look.ours)
    if "/awslambdaric/" not in look.peer or not theirs or not own:
        return None
    for folder, document in (("/awslambdaric/", theirs), ("/caloric/", own)):
        if "stackTrace" in document:
            document["stackTrace"] = [
                entry for entry in document["stackTrace"] if folder not in entry.split("\n")[0]
            ]
        for exception in document.get("exceptions", ()):
            exception["stack"] = [frame for frame in exception["stack"] if folder not in frame["path"]]
            document["paths"] = sorted(path for path in document["paths"] if folder not in path)
    return json.dumps(theirs), json.dumps(own)


def recursion_depth(look: Look) -> Texts | None:
    """Numbers of repeated frames that are nearly the same."""
    repeated = re.compile(r"Previous line repeated (\d+) more times")
    theirs, own = repeated.findall(look.peer), repeated.findall(look.ours)
    if theirs and len(theirs) == len(own):
        near = all(abs(int(one) - int(other)) <= 40 for one, other in zip(theirs, own, strict=True))
        return (repeated.sub("repeated", look.peer), repeated.sub("repeated", look.ours)) if near else None
    if "RecursionError" not in look.ours or "[Previous" in look.ours:
        return None
    # Functions that call each other, and are not counted: all but the end is equal.
    pairs = enumerate(zip(look.peer, look.ours, strict=False))
    same = next((i for i, (one, other) in pairs if one != other), min(len(look.peer), len(look.ours)))
    longer, shorter = max(len(look.peer), len(look.ours)), min(len(look.peer), len(look.ours))
    return ("", "") if same > 0.9 * longer and longer < 1.1 * shorter else None


def xray_cropped(look: Look) -> Texts | None:
    """Our part of a cause that is too large; the peer's is whole, or left out from 1 MiB on."""
    if not look.name.endswith("xray-error-cause") or len(look.ours) > 64 * 1024:
        return None
    own = decoded(look.ours)
    number = look.name.split()[0]
    whole = decoded(look.peers_run[f"{number} header lambda-runtime-function-xray-error-cause"])
    if not whole:
        return ("", "") if len(look.peers_run[f"{number} body"]) > 1024 * 1024 else None
    # Paths are masked, so it was longer.
    if len(look.peer) <= 32 * 1024:
        return None
    theirs, ours = whole["exceptions"][0], own["exceptions"][0]
    message = re.sub(r"\.\.\. \[\d+ more characters\]\Z", "", ours["message"])
    kept = all(frame in theirs["stack"] for frame in ours["stack"]) and {*own["paths"]} <= {*whole["paths"]}
    return ("", "") if kept and theirs["message"].startswith(message) and ours["stack"] else None


def document_cropped(look: Look) -> Texts | None:
    """Our part of an error document above 256 KiB."""
    theirs, own = decoded(look.peer), decoded(look.ours)
    if not look.name.endswith(" body") or len(look.peer.encode()) <= 256 * 1024 or not own:
        return None
    for name, value in own.items():
        if not isinstance(value, str) or not isinstance(theirs[name], str):
            continue
        whole = re.sub(r"\.\.\. \[\d+ more characters\]\Z", "", value)
        if not theirs[name].startswith(whole):
            return None
        theirs[name] = own[name] = whole
    return json.dumps(theirs), json.dumps(own)


def bootstrap_file(look: Look) -> Texts | None:
    """The function's first frames, of a file called bootstrap.py, which only we keep."""
    frame = r'File "<task>/bootstrap\.py", line \d+, in '
    patterns = {
        "stdout": rf"\r\xa0\xa0{frame}\w+\r\xa0{{4}}[^\r\n]*",
        "body": rf'"  {frame}\w+\\n    (?:[^"\\]|\\.)*",?'.replace('File "', r'File \\"').replace(
            '.py"', r'.py\\"'
        ),
        "lambda-runtime-function-xray-error-cause": r'\{"label":"\w+","path":"<task>/bootstrap\.py","line":\d+\},?',
    }
    pattern = patterns.get(look.name.split()[-1])
    if pattern is None or "bootstrap.py" in look.peer:
        return None
    own = re.sub(pattern, "", look.ours, count=1)
    if own == look.ours:
        return None
    return look.peer, own.replace('"paths":["<task>/bootstrap.py",', '"paths":[').replace(
        '"stackTrace":[ ', '"stackTrace":['
    )


def asked_once(look: Look) -> Texts | None:
    """What `str()` of an exception prints, twice under the peer."""
    printed = re.match(r"(.*\n)\1", look.peer)
    return (look.peer[printed.end(1) :], look.ours) if look.name == "stdout" and printed is not None else None


def in_log(look: Look, change: Callable[[str, str], Texts | None]) -> Texts | None:
    """Apply `change` to each pair of records that differ; None where it changes none of them."""
    if look.name not in ("stdout", "frames"):
        return None
    theirs, own = look.peer.split("\n"), look.ours.split("\n")
    if len(theirs) != len(own):
        return None
    changed = False
    for number, (a, b) in enumerate(zip(theirs, own, strict=True)):
        if a == b:
            continue
        head_a, head_b, record_a, record_b = "", "", a, b
        if look.name == "frames":
            head_a, record_a = _frame(a)
            head_b, record_b = _frame(b)
        explained = change(record_a, record_b)
        if explained is not None:
            changed = True
            theirs[number], own[number] = head_a + explained[0], head_b + explained[1]
    return ("\n".join(theirs), "\n".join(own)) if changed else None


def _frame(line: str) -> Texts:
    """A frame's type, and its message, which an earlier difference may have taken out of its quotes."""
    head, _, message = line.partition(" ")
    return head + " ", ast.literal_eval(message) if message[:1] in ("'", '"') else message


def json_log_spelling(look: Look) -> Texts | None:
    """The same tokens: with the peer, records have their own characters, errors those of `json_spelling`."""
    modern = look.case.environment.get("AWS_EXECUTION_ENV") == MODERN["AWS_EXECUTION_ENV"]

    def change(peer: str, ours: str) -> Texts | None:
        theirs, own = tokens(peer), tokens(ours)
        if theirs is None or own is None or theirs[0] != "{":
            return None
        end = "\n" if ours.endswith("\n") else ""
        is_error = '"logger"' not in theirs
        if peer != render(theirs, blanks=True, escapes=is_error and not modern) + end:
            return None
        if ours != render(own, blanks=False, escapes=False) + end:
            return None
        return render(theirs, blanks=False, escapes=True), render(own, blanks=False, escapes=True)

    return in_log(look, change)


def error_details(look: Look) -> Texts | None:
    """What stands behind the peer's lines, or fields."""

    def change(peer: str, ours: str) -> Texts | None:
        theirs, own = tokens(peer), tokens(ours)
        if theirs is None or own is None or theirs[0] != "{":
            text = re.sub(
                r"[\r\n]\xa0*(Note|Member \d+|Caused by|While handling|Hint): .*", "", ours, flags=re.DOTALL
            )
            return (peer, text) if text != ours else None
        names, more = list(json.loads(peer)), json.loads(ours)
        added = list(more)[len(names) :]
        if (
            not added
            or list(more)[: len(names)] != names
            or {*added} - {"notes", "exceptions", "causes", "hint"}
        ):
            return None
        left = tokens(json.dumps({name: more[name] for name in names})) or []
        return render(theirs, blanks=False, escapes=True), render(left, blanks=False, escapes=True)

    return in_log(look, change)


# As JSON.
_IMPORTLIB_FRAME = (
    r'"  File \\"[^"]*/importlib/__init__\.py\\", line \d+, in import_module\\n    (?:[^"\\]|\\.)*",?'
)

SENT = "What is sent to the Runtime API"
LOADING = "When a handler cannot be loaded"
SNAPSTART = "SnapStart"
LOGS = "Logs"

ERRORS = "Errors"
RESULTS = "Results and events"
MANAGED = "Managed Instances"
FAST = "The fast way in, `python -S …/caloric/bootstrap.py`"
REFUSED = "Answers of the Runtime API"

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
        "init-error-latin-1",
        area=LOADING,
        peer="where `AWS_EXECUTION_ENV` says Python 3.12 or later, the error is sent in Latin-1: `é` is no valid UTF-8",
        ours="always UTF-8",
        why="A bug of the peer: whoever reads the error gets broken text.",
        rule=init_error_latin_1,
    ),
    Difference(
        "init-error-lost",
        area=LOADING,
        peer="there, an error with characters beyond Latin-1 is never sent: the process ends with a "
        "`UnicodeEncodeError`",
        ours="sent",
        why="A bug of the peer: Lambda is told nothing but that the process ended.",
        pins={
            "calls": ("", r"\APOST /2018-06-01/runtime/init/error over connection 0\Z"),
            "stderr": (r"\ATraceback .*\nUnicodeEncodeError: 'latin-1' codec can't encode [^\n]*\n\Z", ""),
            "0 body": ("", r'\A\{"errorMessage":".*\]\}\Z'),
            "0 header lambda-runtime-function-error-type": ("", r"\ARuntimeError\Z"),
        },
    ),
    Difference(
        "json-log-spelling",
        area=LOGS,
        peer='`", "` and `": "` between values; in errors `\\uXXXX` for what is not ASCII unless `AWS_EXECUTION_ENV` '
        "says Python 3.12 or later",
        ours="no blanks, always UTF-8; `\\uXXXX` only for half surrogate pairs",
        why="As for what is sent: it is the same JSON.",
        rule=json_log_spelling,
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
            r"0 body": (_IMPORTLIB_FRAME, ""),
            "stdout": (
                _IMPORTLIB_FRAME
                + '|\r\xa0\xa0File "[^"]*/importlib/__init__\\.py", line \\d+, in import_module\r\xa0{4}[^\r\n]*',
                "",
            ),
            "frames": (
                _IMPORTLIB_FRAME
                + r'|\\n\\xa0\\xa0File "[^"]*/importlib/__init__\.py", line \d+, in import_module\\n(\\xa0){4}[^\\\n]*',
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
        "runtime-frames",
        area=ERRORS,
        peer="the traceback of what ends the process (`KeyboardInterrupt`, say) begins with frames of `awslambdaric`",
        ours="with frames of `caloric`",
        why="It is another program. The function's own frames and what follows are equal.",
        rule=runtime_frames,
        everywhere=True,
    ),
    Difference(
        "recursion-depth",
        area=ERRORS,
        peer="`[Previous line repeated 981 more times]`",
        ours="a few more or less",
        why="How deep recursion may go counts the runtime's own frames too.",
        rule=recursion_depth,
        everywhere=True,
    ),
    Difference(
        "own-frames",
        area=ERRORS,
        peer="the stack trace of a handler that cannot be called, or is written in C, is the frame of awslambdaric's "
        "that called it; an exception object that is raised again, or out of a method of `context`, has such frames "
        "in between",
        ours="no frame of the runtime's, but those of `context`'s methods",
        why="The caller is not written in Python, and its line would tell nobody anything.",
        rule=own_frames,
        everywhere=True,
    ),
    Difference(
        "bootstrap-file",
        area=ERRORS,
        peer="frames of a function's own file called `bootstrap.py` are missing at the beginning of a stack trace",
        ours="there",
        why="The peer takes them for its own.",
        rule=bootstrap_file,
    ),
    Difference(
        "xray-cropped",
        area=ERRORS,
        peer="X-Ray's cause is sent whole up to 1 MiB, and not at all from there on",
        ours="cropped to 64 KiB: the message's beginning, the first and the last frames",
        why="The platform crops at 64 KiB, and not that well.",
        rule=xray_cropped,
        everywhere=True,
    ),
    Difference(
        "document-cropped",
        area=ERRORS,
        peer="error documents of any size",
        ours="above 256 KiB, message and frames are cropped, and say by how much",
        why="The Runtime API may drop the connection without an answer.",
        rule=document_cropped,
    ),
    Difference(
        "asked-once",
        area=ERRORS,
        peer="an exception is asked twice for its text, with `str()`",
        ours="once",
        why="The text is needed once.",
        rule=asked_once,
    ),
    Difference(
        "unreportable-errors",
        area=ERRORS,
        peer="the process ends where an error cannot be reported: `str()` of it raises, standard output is closed or "
        "cannot take a half surrogate pair in its text, or the working directory is gone",
        ours="it is reported as well as can be, and the process goes on",
        why="The caller gets the error instead of `Runtime.ExitError`, and the next one no cold start.",
        rule=survives(r"\w+(Error|Exception): [^\n]*"),
    ),
    Difference(
        "orjson",
        area=RESULTS,
        peer="`Runtime.MarshalError` for dataclasses, datetimes, UUIDs, enumerations and numpy's types",
        ours="written as JSON where `orjson` is installed with the function; otherwise the same error",
        why="An addition.",
        rule=becomes_a_response,
    ),
    Difference(
        "context-additions",
        area=RESULTS,
        peer="the context has the attributes that AWS documents",
        ours="it has `after_response` and `open_stream` too",
        why="An addition (handlers.md).",
        pins={r"\d+ body": ("", r'"(after_response|open_stream)",')},
    ),
    Difference(
        "streams",
        area=RESULTS,
        peer="`Runtime.MarshalError` for a generator, an async generator or another iterator",
        ours="a streamed response, item by item",
        why="An addition. On the peer such a handler never worked.",
        rule=becomes_a_stream,
    ),
    Difference(
        "awaits",
        area=RESULTS,
        peer="`Runtime.MarshalError` for a coroutine, and so for every `async def` handler",
        ours="it is awaited, on one event loop for the life of the process",
        why="An addition. On the peer such a handler never worked.",
        rule=becomes_awaited,
    ),
    Difference(
        "lone-surrogates",
        area=RESULTS,
        peer="where `AWS_EXECUTION_ENV` says Python 3.12 or later, a result with half a surrogate pair ends the "
        "process",
        ours="half a pair is escaped (`\\ud800`), as in the peer's other mode",
        why="A bug of the peer: UTF-8 has no form for it, and that shows outside of what is guarded.",
        rule=survives(r"UnicodeEncodeError: 'utf-8' codec can't encode [^\n]*surrogates not allowed"),
    ),
    Difference(
        "refused-answers",
        area=REFUSED,
        peer="any answer to a result or an error that is not 2xx ends the process",
        ours="400, 403, 410 and 413 are a line on stderr, and the next invocation is asked for",
        why="AWS documents them as recoverable; a 413 is Lambda's answer to a result that is too large, and a new "
        "process would be a new cold start.",
        rule=refused_answers,
    ),
    Difference(
        "api-failure",
        area=REFUSED,
        peer="when the Runtime API cannot be reached or fails, a traceback on standard error and mostly a line on "
        "standard output",
        ours="one line on standard error, which names the call and what came back; the request for the next event may "
        "have been sent already",
        why="Nobody can do anything about the frames of the runtime. The exit code is the same, 1.",
        rule=api_failure,
    ),
    Difference(
        "no-content-type",
        area=REFUSED,
        peer="an answer to `/next` without `Content-Type`, or one that breaks off in its head, ends the process with "
        "signal 11",
        ours="an event is taken for JSON; anything else is a line on standard error and exit code 1",
        why="A bug of the peer.",
        rule=no_content_type,
    ),
    Difference(
        "nesting-depth",
        area=RESULTS,
        peer="how deep a result may nest follows from the interpreter's recursion limits",
        ours="10 000 levels",
        why="The encoder does not recurse in Python. A result that nests deeper is the same `Runtime.MarshalError`.",
        pins={
            r"stdout|\d+ body|\d+ header .*cause": (
                r'maximum recursion depth exceeded[^"\r]*',
                r"maximum nesting depth of 10000 exceeded while encoding a JSON object",
            )
        },
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
                r'|"  File \\"[^"]*/lambda_runtime_hooks_runner\.py\\", line \d+, in \w+(?:[^"\\]|\\.)*",?',
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
    Difference(
        "error-details",
        area=LOGS,
        peer="an error's log ends with its stack trace",
        ours="notes, members of a group, causes with their stack traces, and a hint why an import failed follow where "
        "there are any: lines that begin with `Note:`, `Member 1:`, `Caused by:`, `While handling:`, `Hint:`; fields "
        "`notes`, `exceptions`, `causes`, `hint` in JSON",
        why="They tell why. What is posted stays as it is.",
        rule=error_details,
        everywhere=True,
    ),
    Difference(
        "json-no-exception",
        area=LOGS,
        peer="in JSON, a record with `exc_info=True` where no exception is handled raises `AttributeError` out of the "
        "logging call",
        ours="it is logged, without the exception's fields, as both do in text",
        why="A bug of the peer: a log call fails the function.",
        pins={
            r"1 body": (r"\A\"AttributeError\"\Z", r"\A\"logged\"\Z"),
            "stdout": ("", r'\A\{"timestamp":"<time>","level":"WARNING","message":"x",[^\n]*\}\n\Z'),
        },
    ),
    Difference(
        "decoder-words",
        area=RESULTS,
        peer="what is wrong with an event that is no JSON is said in simplejson's words, such as "
        "`Extra data: line 1 column 3 - line 1 column 4 (char 2 - 3)`",
        ours="in those of the standard library, such as `Extra data: line 1 column 3 (char 2)`; the place may be one "
        "character on",
        why="simplejson is not loaded. Which events are refused, and everything else about the error, is equal.",
        rule=decoder_words,
        everywhere=True,
    ),
    Difference(
        "crashes",
        area=RESULTS,
        peer="what Lambda does not send ends the process: a deadline of 0 or that is no number (assertion), a "
        "header that is not UTF-8 (`UnicodeDecodeError`)",
        ours="there is no time left, and a character stands for the bytes",
        why="An endpoint that is not AWS's may send it.",
        rule=crashes,
    ),
    Difference(
        "worker-count",
        area=MANAGED,
        peer="a value of `AWS_LAMBDA_MAX_CONCURRENCY` that is no whole number ends the process with a traceback",
        ours="with one line that says what the variable is for",
        why="It is the user's mistake, or a platform's, and not the program's.",
        pins={
            "stderr": (
                r"\ATraceback .*ValueError: [^\n]*\n\Z",
                r"\Acaloric: AWS_LAMBDA_MAX_CONCURRENCY is [^\n]*\n\Z",
            )
        },
    ),
    Difference(
        "search-path",
        area=FAST,
        peer="`sys.path` is that of `python -m`: the working directory, PYTHONPATH, the interpreter's",
        ours="that of AWS's managed runtime: the task root, then the folders of layers under `/opt/python` unless "
        "PYTHONPATH is set; `.pth` files and `sitecustomize` in the task root count, and `usercustomize` also in a "
        "virtual environment",
        why="It is for layers and images that take the managed runtime's place.",
        rule=search_path,
        ways=("fast",),
    ),
    Difference(
        "no-site",
        area=FAST,
        peer="`sys.flags.no_site` is 0, `site.ENABLE_USER_SITE` is False, `exit` is a `site.Quitter`",
        ours="1, None, and an object that becomes one when it is used",
        why="The `site` module costs a quarter of the start. What it does for a function is done.",
        rule=no_site,
        ways=("fast",),
    ),
)
