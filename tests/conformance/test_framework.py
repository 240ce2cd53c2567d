"""The suite's own parts: what it must tell apart, and what it must not."""

from __future__ import annotations

import pytest

from tests.conformance.case import Case
from tests.conformance.comparison import compare
from tests.conformance.document import PATH, document
from tests.conformance.json_tokens import render, tokens
from tests.conformance.observation import Observation, observe
from tests.scripted_api import Request

CASE = Case("any", {})


def seen(
    body: bytes = b"null",
    stdout: bytes = b"",
    frames: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Observation:
    """What a run shows that posts `body`."""
    post = Request("POST", "/2018-06-01/runtime/invocation/id-1/response", headers or {}, body, 0)
    return observe([post], stdout, b"", frames, "still waiting", "/task", {})


def unexplained(peer: Observation, ours: Observation) -> list[str]:
    """What `compare` complains about, by name."""
    return [text.split(" (")[0] for text in compare(CASE, "fast", peer, ours).unexplained]


@pytest.mark.parametrize(
    ("peer", "ours"),
    [
        (b"1", b"1.0"),
        (b"1.10", b"1.1"),
        (b"1E+2", b"1e+2"),
        (b"-0", b"0"),
        (b'"1"', b"1"),
        (b'{"a": 1, "b": 2}', b'{"b":2,"a":1}'),
        (b'{"a": 1, "a": 2}', b'{"a":2}'),
        (b'"\\ud800"', b'"?"'),
        (b'"a b"', b'"a  b"'),
        (b"[1, 2]", b"[1, 2]  "),
        (b'"\\u00fc"', b'"u"'),
        # Ours must be compact UTF-8, and the peer's as it always was: both ends of a difference are held.
        (b'["\\u00fc", 1]', b'["\\u00fc",1]'),
        (b"[1,2]", b"[1, 2]"),
        (b"not JSON", b"not JSON "),
    ],
)
def test_a_body_that_differs_is_noticed(peer: bytes, ours: bytes) -> None:
    assert unexplained(seen(peer), seen(ours)) == ["0 body"]


@pytest.mark.parametrize(
    ("peer", "ours"),
    [(b'{"a": [1.10, "\\u00fc"]}', '{"a":[1.10,"ü"]}'.encode()), (b'["\\ud800", 1]', b'["\\ud800",1]')],
)
def test_blanks_and_escapes_do_not_count(peer: bytes, ours: bytes) -> None:
    assert not unexplained(seen(peer), seen(ours))


def test_all_that_is_not_a_body_is_compared_to_the_byte() -> None:
    assert unexplained(seen(stdout=b"x"), seen(stdout=b"x\n")) == ["stdout"]
    assert unexplained(seen(stdout=b"\xff"), seen(stdout="\ufffd".encode())) == ["stdout"]
    assert unexplained(seen(), seen(headers={"lambda-runtime-x": "1"})) == ["0 header lambda-runtime-x"]


def test_frames_are_compared_by_type_and_text_and_not_by_time() -> None:
    def frame(kind: int, time: int, text: bytes) -> bytes:
        return kind.to_bytes(4, "big") + len(text).to_bytes(4, "big") + time.to_bytes(8, "big") + text

    now = 1_800_000_000_000_000
    peer = seen(frames=frame(0xA55A0003, now, b"x"))
    assert not unexplained(peer, seen(frames=frame(0xA55A0003, now + 1, b"x")))
    assert unexplained(peer, seen(frames=frame(0xA55A0007, now, b"x"))) == ["frames"]
    assert unexplained(peer, seen(frames=frame(0xA55A0003, now, b"y"))) == ["frames"]
    assert unexplained(peer, seen(frames=frame(0xA55A0003, now // 1000, b"x"))) == ["frames"]
    assert unexplained(peer, seen(frames=b"")) == ["frames"]
    assert unexplained(peer, seen(frames=frame(0xA55A0003, now, b"x")[:-1])) == ["frames"]


def test_times_ports_and_addresses_are_masked() -> None:
    one = seen(stdout=b"2026-11-23T06:50:56.861Z 127.0.0.1:1234 <object at 0x7f0011223344>")
    assert one["stdout"] == "<time> 127.0.0.1:<port> <object at <address>>"


@pytest.mark.parametrize("text", ["[1, 2", "undefined x", "", "[1]]x", "'a'"])
def test_what_is_no_json_has_no_tokens_or_stays_what_it_is(text: str) -> None:
    found = tokens(text)
    assert found is None or render(found, blanks=True, escapes=False) == text


def test_the_page_about_differences_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == document(), "run: python -m tests.conformance.document"
