"""What the Runtime API answers when it does not accept, and connections that end (spec runtime-api 1.7, 4.5).

Faults that a compliant client handles in its own way (bytes that trickle, nonsense, truncated answers) are in
`tests/integration/test_misbehaving_endpoint.py`, with what Caloric does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conformance.case import MODERN, Case, broken, raises, returns
from tests.scripted_api import ACCEPTED, CLOSE, RESET, event, status

if TYPE_CHECKING:
    from tests.scripted_api import Step

_FIRST, _SECOND = event(1, "id-1"), event(2, "id-2")
_REFUSED = (400, 403, 410, 413)
_FAILED = (404, 409, 429, 500, 502, 503)
# Up to the middle of a header behind the content type.
_HEAD = _FIRST[: _FIRST.index(b"Content-Length")]
_NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
_SOURCE = "if event == 'fail': raise ValueError('on purpose')\nreturn event"
_FAILING = event("fail", "id-1")


def _status(code: int) -> bytes:
    """A refusal as the platform sends it: the peer cannot bear an answer to `/next` without a content type."""
    return status(code).replace(b"\r\n", b"\r\nContent-Type: application/json\r\n", 1)


def _faults(name: str, *steps: Step, posts: tuple[str, ...] = ("response",), **options: Any) -> Case:
    """A function whose requests are answered with `steps`, with time to end by itself."""
    return raises(name, _SOURCE, steps=steps, posts=posts, **{"grace": 20, **options})


CASES: list[Case] = [
    *(
        _faults(f"{code} to the first next", _status(code), posts=(), differs=("api-failure",))
        for code in (*_REFUSED, *_FAILED)
    ),
    *(
        _faults(
            f"{code} to the first next, 3.12+ mode",
            _status(code),
            posts=(),
            differs=("api-failure",),
            environment=MODERN,
        )
        for code in (403, 500)
    ),
    *(_faults(f"{code} to a result", _FIRST, _status(code), differs=("api-failure",)) for code in _FAILED),
    *(
        _faults(f"{code} to an error", _FAILING, _status(code), posts=("error",), differs=("api-failure",))
        for code in _FAILED
    ),
    *(
        _faults(
            f"{code} to a result, then another event",
            _FIRST,
            _status(code),
            _SECOND,
            ACCEPTED,
            differs=("refused-answers",),
            grace=0,
        )
        for code in _REFUSED
    ),
    *(
        _faults(
            f"{code} to an error, then another event",
            _FAILING,
            _status(code),
            _SECOND,
            ACCEPTED,
            posts=("error",),
            differs=("refused-answers",),
            grace=0,
        )
        for code in _REFUSED
    ),
    *(
        returns(
            f"{code} to a result is as good as 202",
            "event",
            steps=(_FIRST, answer, _SECOND, ACCEPTED),
            posts=("response", "response"),
        )
        for code, answer in ((200, _status(200)), (201, _status(201)), (204, _NO_CONTENT))
    ),
    *(
        broken(
            f"{code} to an initialization error",
            "raise ValueError('x')",
            steps=(_status(code),),
            grace=20,
            differs=("api-failure",),
        )
        for code in (*_REFUSED, 500)
    ),
    *(
        _faults(f"the connection {how} at the first next", step, posts=(), differs=("api-failure",))
        for how, step in (("is closed", CLOSE), ("is reset", RESET))
    ),
    *(
        broken(
            f"the connection {how} at an initialization error",
            "raise ValueError('x')",
            steps=(step,),
            grace=20,
            differs=("api-failure",),
        )
        for how, step in (("is closed", CLOSE), ("is reset", RESET))
    ),
    _faults(
        "the connection is closed in the middle of an event",
        (_FIRST[:-1], CLOSE),
        posts=(),
        differs=("api-failure",),
    ),
    _faults(
        "the connection is closed in the middle of an event's head",
        (_FIRST[:40], CLOSE),
        posts=(),
        differs=("no-content-type",),
    ),
    _faults(
        "the connection is reset in the middle of an event",
        (_FIRST[:-1], RESET),
        posts=(),
        differs=("api-failure",),
    ),
    _faults("an event without a request id", event(1, ""), posts=(), differs=("api-failure",)),
    _faults(
        "an event without a content type",
        event(1, Content_Type=""),
        ACCEPTED,
        posts=(),
        # Ours goes on and waits.
        grace=0,
        differs=("no-content-type",),
    ),
    _faults(
        "403 without a content type to the first next", status(403), posts=(), differs=("no-content-type",)
    ),
    Case(
        "nobody listens",
        {"app.py": "def handler(event, context): pass\n"},
        environment={"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9"},
        posts=(),
        grace=20,
        differs=("api-failure",),
    ),
]
