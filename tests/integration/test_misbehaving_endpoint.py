"""A Runtime API that misbehaves: the process goes on or ends with one clear line and exit code 1, and no answer is
lost, posted twice after it was accepted, or taken for another's (docs/robustness.md).

That a connection may break off at *every* byte is tested in rust/core/tests/cut_anywhere.rs; here it is the real
process and a selection of bytes.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.runtimes import CALORIC, start
from tests.scripted_api import ACCEPTED, CLOSE, EARLY, HANG, RESET, ScriptedApi, Slowly, event, status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conftest import WriteFunction
    from tests.scripted_api import Request, Step

# Says on stdout for which invocations it ran, and answers with the id and what the event asks for.
SOURCE = """
    def handler(event, context):
        print(f"run {context.aws_request_id}")
        if event == "raise":
            raise ValueError("raised")
        return [context.aws_request_id, "x" * event if isinstance(event, int) else event]
"""
BROKEN_SOURCE = "raise ValueError('at import')"
PIPELINE_OFF = {"CALORIC_PIPELINE": "0"}
# Seconds; a process that hangs must not hang the tests.
PATIENCE = 20


@dataclass
class Ending:
    """What the runtime asked, wrote, and how it ended: None where it was still serving and was killed."""

    requests: list[Request]
    stdout: str
    stderr: str
    exit_code: int | None

    @property
    def runs(self) -> list[str]:
        """For which invocations the handler ran, in order."""
        lines = self.stdout.splitlines()
        return [line.removeprefix("run ") for line in lines if line.startswith("run ")]

    @property
    def posted(self) -> list[str]:
        """To which invocations an answer was posted, in order."""
        return [request.path.split("/")[4] for request in self.requests if request.method == "POST"]

    def assert_failed(self, message: str) -> None:
        """It ended with this in one line on stderr, and exit code 1."""
        assert self.exit_code == 1, self
        assert message in self.stderr, self
        assert self.stderr.count("\n") == 1, "one line"
        assert self.stderr.startswith("caloric: "), self


def serve(
    way: str,
    write_function: WriteFunction,
    steps: Sequence[Step],
    *,
    until: int | None,
    source: str = SOURCE,
    **variables: str,
) -> Ending:
    """Run a function against `steps` until so many requests came; None: until it ends by itself."""
    with (
        ScriptedApi(list(steps)) as api,
        start(way, "app.handler", write_function(source), api.address, **variables) as process,
    ):
        try:
            if until is not None:
                api.wait_for(until, PATIENCE)
                assert process.poll() is None, "it ended"
                process.kill()
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"it hangs after {api.calls()}") from None
        return Ending(
            list(api.requests), out.decode(), err.decode(), None if until is not None else process.returncode
        )


def cuts(answer: bytes) -> list[int]:
    """The interesting places to break off in an answer, its end not among them."""
    head = answer.index(b"\r\n\r\n") + 4
    return sorted(
        {1, 8, answer.index(b"\r\n") + 1, head - 1, head, (head + len(answer)) // 2, len(answer) - 1}
    )


@pytest.mark.parametrize("way", CALORIC)
def test_one_byte_per_write_and_a_pause_before_each(way: str, write_function: WriteFunction) -> None:
    chunked = event(b"", "b").split(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    slow_event = chunked + b'4;x=y\r\n"abc\r\n2\r\nd"\r\n0\r\nTrailer: t\r\n\r\n'
    steps: list[Step] = [
        Slowly(event(1, "a"), 0.0005),
        Slowly(ACCEPTED, 0.0005),
        Slowly(slow_event, 0.0005),
        Slowly(b"HTTP/1.1 100 Continue\r\n\r\n" + ACCEPTED, 0.0005),
    ]
    ending = serve(way, write_function, steps, until=5)
    assert ending.runs == ending.posted == ["a", "b"]
    assert [ending.requests[1].json(), ending.requests[3].json()] == [["a", "x"], ["b", "abcd"]]
    assert ending.stderr == ""


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("ending", [CLOSE, RESET], ids=["close", "reset"])
def test_an_event_that_breaks_off(way: str, ending: bytes, write_function: WriteFunction) -> None:
    answer = event("abc", "a")
    for cut in cuts(answer):
        result = serve(way, write_function, [(answer[:cut], ending)], until=None)
        result.assert_failed("GET /runtime/invocation/next: ")
        assert result.runs == [], "the handler gets no half event"


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("body", ["fine", "raise"], ids=["response", "error"])
def test_an_acknowledgement_that_breaks_off(way: str, body: str, write_function: WriteFunction) -> None:
    for cut in cuts(ACCEPTED):
        steps: list[Step] = [event(body, "a"), (ACCEPTED[:cut], CLOSE)]
        result = serve(way, write_function, steps, until=None)
        result.assert_failed("POST /runtime/invocation/<id>/")
        assert result.runs == result.posted == ["a"], "posted once"


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("ending", [CLOSE, RESET], ids=["close", "reset"])
@pytest.mark.parametrize("body", ["fine", "raise"], ids=["response", "error"])
@pytest.mark.parametrize("second", [ACCEPTED, status(400), status(403)], ids=["202", "400", "403"])
def test_an_answer_without_an_acknowledgement_is_posted_once_more(
    way: str, ending: bytes, body: str, second: bytes, write_function: WriteFunction
) -> None:
    # 400 and 403: the first one had been accepted after all (spec runtime-api 1.11).
    steps: list[Step] = [event(body, "a"), ending, second, event("b", "b"), ACCEPTED]
    result = serve(way, write_function, steps, until=6)
    assert result.runs == ["a", "b"], "the handler ran once for each"
    assert result.posted == ["a", "a", "b"]
    assert result.requests[1].body == result.requests[2].body
    assert result.stderr == ""


@pytest.mark.parametrize("way", CALORIC)
def test_an_answer_that_is_never_acknowledged_ends_the_process(
    way: str, write_function: WriteFunction
) -> None:
    result = serve(way, write_function, [event("a", "a"), CLOSE, CLOSE], until=None)
    result.assert_failed(
        "POST /runtime/invocation/<id>/response: the connection was closed without an answer"
    )
    assert result.runs == ["a"]


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("ending", [CLOSE, RESET], ids=["close", "reset"])
def test_a_connection_that_ends_behind_each_answer_is_made_again(
    way: str, ending: bytes, write_function: WriteFunction
) -> None:
    answers = [event("a", "a"), ACCEPTED, event("raise", "b"), ACCEPTED, event("c", "c"), ACCEPTED]
    result = serve(way, write_function, [(answer, ending) for answer in answers], until=7)
    assert result.runs == result.posted == ["a", "b", "c"]
    assert result.stderr == ""


FLOOD = b"HTTP/1.1 100 Continue\r\n\r\n" * 4000
CHUNKED = b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: a\r\nTransfer-Encoding: chunked\r\n\r\n"
NONSENSE: dict[str, tuple[Step, str]] = {
    "garbage": (b"\x00\xff\x01garbage\r\n\r\n", "no HTTP/1.x response"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "no HTTP/1.x response"),
    "http-2": (b"HTTP/2.0 200 OK\r\n\r\n", "no HTTP/1.x response"),
    "interim-flood": (FLOOD, "head of the answer is longer than 65536 bytes"),
    "headers-without-end": (
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20_000,
        "more than 128 header fields",
    ),
    "one-header-without-end": (b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 70_000, "longer than 65536 bytes"),
    "huge-length": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "longer than"),
    "negative-length": (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length that is no number"),
    "two-lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n1",
        "two different Content-Length",
    ),
    "gzip": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "Transfer-Encoding other than"),
    "chunk-size-no-number": (CHUNKED + b"xyz\r\n", "malformed chunk size"),
    "chunk-size-negative": (CHUNKED + b"-1\r\n", "malformed chunk size"),
    "chunk-size-huge": (CHUNKED + b"ffffffffffffffff\r\n", "longer than"),
    "chunk-longer-than-its-size": (CHUNKED + b"2\r\nabc\r\n0\r\n\r\n", "longer than its size"),
    "chunks-without-end": ((CHUNKED + b"2\r\n12\r\n", CLOSE), "ended early, after 2 body bytes"),
    "redirect": (
        b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        "unexpected answer: 307",
    ),
    "not-modified": (b"HTTP/1.1 304 Not Modified\r\n\r\n", "unexpected answer: 304"),
    "upgrade": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "unexpected answer: 101"),
    "500-in-many-lines": (
        b"HTTP/1.1 500 No\r\nContent-Length: 13\r\n\r\none\ntwo\nthree",
        "the Runtime API failed: 500 one two three",
    ),
}


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_in_the_place_of_an_event(way: str, name: str, write_function: WriteFunction) -> None:
    answer, message = NONSENSE[name]
    result = serve(way, write_function, [answer], until=None)
    result.assert_failed(message)
    assert result.runs == []


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_in_the_place_of_an_acknowledgement(
    way: str, name: str, write_function: WriteFunction
) -> None:
    answer, message = NONSENSE[name]
    result = serve(way, write_function, [event("a", "a"), answer], until=None)
    result.assert_failed(message)
    assert result.runs == result.posted == ["a"], "posted once"


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("name", [*NONSENSE, "closed", "403"])
def test_nonsense_in_the_place_of_the_acknowledgement_of_an_init_error(
    way: str, name: str, write_function: WriteFunction
) -> None:
    answers = {**NONSENSE, "closed": (CLOSE, "without an answer"), "403": (status(403), "was refused: 403")}
    answer, message = answers[name]
    result = serve(way, write_function, [answer], until=None, source=BROKEN_SOURCE)
    result.assert_failed(message)
    assert [request.path for request in result.requests] == ["/2018-06-01/runtime/init/error"]
    assert "[ERROR] ValueError: at import" in result.stdout, "what failed is in the log all the same"


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize(
    "acknowledgement",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        (b"HTTP/1.0 202 Accepted\r\n\r\n{}", CLOSE),
        (b"HTTP/1.1 202 Accepted\r\n\r\n{}", CLOSE),
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 100 + ACCEPTED,
    ],
    ids=["200", "204", "chunked", "http-1.0", "until-close", "interim"],
)
def test_other_ways_to_say_accepted(way: str, acknowledgement: Step, write_function: WriteFunction) -> None:
    steps: list[Step] = [event("a", "a"), acknowledgement, event("b", "b"), ACCEPTED]
    result = serve(way, write_function, steps, until=5)
    assert result.runs == result.posted == ["a", "b"]
    assert result.stderr == ""


@pytest.mark.parametrize("way", CALORIC)
def test_an_event_longer_than_its_content_length_is_one_that_is_cut(
    way: str, write_function: WriteFunction
) -> None:
    too_short = event("abcdef", "a").replace(b"Content-Length: 8", b"Content-Length: 5")
    steps: list[Step] = [too_short, ACCEPTED, event("b", "b"), ACCEPTED]
    result = serve(way, write_function, steps, until=5)
    assert result.requests[1].json()["errorType"] == "Runtime.UnmarshalError"
    assert result.runs == ["b"]
    assert result.posted == ["a", "b"]
    assert result.requests[1].connection == 1, "what is left on the first one is no answer to anything"


@pytest.mark.parametrize("way", CALORIC)
def test_answers_that_come_twice_are_never_taken_for_those_of_other_requests(
    way: str, write_function: WriteFunction
) -> None:
    steps: list[Step] = [
        event("a", "a") * 2,
        ACCEPTED * 2,
        event("raise", "b") * 2,
        status(400) + ACCEPTED,
        event("c", "c") + b"garbage",
        ACCEPTED + b"garbage",
    ]
    result = serve(way, write_function, steps, until=7)
    assert result.runs == result.posted == ["a", "b", "c"]
    assert [request.connection for request in result.requests] == list(range(7))
    assert result.requests[1].json() == ["a", "a"]
    assert "the answer to b was not accepted: 400" in result.stderr


@pytest.mark.parametrize("way", CALORIC)
def test_a_second_acknowledgement_before_a_pipelined_event_ends_the_process(
    way: str, write_function: WriteFunction
) -> None:
    # Both requests left together, so nobody can say to which of them the second one belongs.
    result = serve(way, write_function, [event("a", "a"), ACCEPTED * 2], until=None)
    result.assert_failed("GET /runtime/invocation/next: unexpected answer: 202")
    assert result.runs == result.posted == ["a"]


@pytest.mark.parametrize("way", CALORIC)
def test_an_event_in_the_place_of_an_acknowledgement_ends_the_process(
    way: str, write_function: WriteFunction
) -> None:
    result = serve(way, write_function, [event("a", "a"), event("secret", "b")], until=None)
    result.assert_failed("POST /runtime/invocation/<id>/response: the answer is that to another request")
    assert result.runs == ["a"]
    assert "secret" not in result.stderr


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("request_id", ["a b", "a HTTP/1.1", "a\tb", "é"])
def test_a_request_id_that_would_be_another_request(
    way: str, request_id: str, write_function: WriteFunction
) -> None:
    result = serve(way, write_function, [event("a", request_id)], until=None)
    result.assert_failed("which no path can hold")
    assert result.runs == []


@pytest.mark.parametrize("way", CALORIC)
def test_a_large_response_is_refused_before_it_was_read(way: str, write_function: WriteFunction) -> None:
    # The server reads the head, answers, and then neither reads on nor closes.
    steps: list[Step] = [event(8_000_000, "a"), (EARLY, status(413)), event("b", "b"), ACCEPTED]
    result = serve(way, write_function, steps, until=5)
    assert result.runs == ["a", "b"]
    assert result.posted == ["a", "b"]
    assert "the answer to a was not accepted: 413" in result.stderr


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("ending", [CLOSE, RESET], ids=["close", "reset"])
def test_a_large_response_that_is_broken_off_is_posted_once_more(
    way: str, ending: bytes, write_function: WriteFunction
) -> None:
    steps: list[Step] = [event(8_000_000, "a"), (EARLY, ending), ACCEPTED, event("b", "b"), ACCEPTED]
    result = serve(way, write_function, steps, until=6)
    assert result.runs == ["a", "b"]
    assert result.posted == ["a", "a", "b"]
    assert len(result.requests[2].body) == 8_000_000 + len('["a",""]')
    again = serve(way, write_function, [event(8_000_000, "a"), (EARLY, ending), (EARLY, ending)], until=None)
    again.assert_failed("POST /runtime/invocation/<id>/response: ")
    assert again.runs == ["a"]


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("variables", [{}, PIPELINE_OFF], ids=["pipelined", "one-by-one"])
def test_an_acknowledgement_that_takes_its_time_is_waited_for(
    way: str, variables: dict[str, str], write_function: WriteFunction
) -> None:
    # The environment may be frozen meanwhile, so no clock can tell that it will not come.
    gate = threading.Event()
    steps: list[Step] = [event("a", "a"), (gate, ACCEPTED), event("b", "b"), ACCEPTED]
    with (
        ScriptedApi(steps) as api,
        start(way, "app.handler", write_function(SOURCE), api.address, **variables) as process,
    ):
        api.wait_for(2)
        time.sleep(1.5)
        assert process.poll() is None
        assert "b" not in [request.path.split("/")[4] for request in api.requests]
        gate.set()
        api.wait_for(5)
        process.kill()
        out, err = process.communicate(timeout=PATIENCE)
    assert out == b"run a\nrun b\n"
    assert err == b""


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("source", [SOURCE, BROKEN_SOURCE], ids=["response", "init-error"])
def test_a_post_that_is_never_answered_can_be_ended_by_a_signal(
    way: str, source: str, write_function: WriteFunction
) -> None:
    steps: list[Step] = [HANG] if source is BROKEN_SOURCE else [event("a", "a"), HANG]
    with (
        ScriptedApi(steps) as api,
        start(way, "app.handler", write_function(source), api.address) as process,
    ):
        api.wait_for(len(steps))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == -signal.SIGTERM
        assert len([request for request in api.requests if request.method == "POST"]) == 1
