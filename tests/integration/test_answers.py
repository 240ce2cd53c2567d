"""What the runtime does when the Runtime API does not say 202 (spec runtime-api 1.7, design section 3)."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.runtimes import CALORIC, start
from tests.scripted_api import ACCEPTED, CLOSE, HANG, RESET, ScriptedApi, event, status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conftest import WriteFunction
    from tests.scripted_api import Step

# Says on stdout how often it ran.
COUNTING = """
    runs = 0

    def handler(event, context):
        global runs
        runs += 1
        print(f"run {runs} of {context.aws_request_id}")
        return {"run": runs}
"""
PIPELINE_OFF = {"CALORIC_PIPELINE": "0"}


def serve(
    way: str,
    write_function: WriteFunction,
    steps: Sequence[Step],
    requests: int | None,
    source: str = COUNTING,
    **variables: str,
) -> tuple[ScriptedApi, subprocess.CompletedProcess[str]]:
    """Run a function against scripted answers until `requests` came (None: until it ends by itself)."""
    folder = write_function(source)
    with (
        ScriptedApi(list(steps)) as api,
        start(way, "app.handler", folder, api.address, **variables) as process,
    ):
        if requests is not None:
            api.wait_for(requests)
            process.kill()
        out, err = process.communicate(timeout=20)
        return api, subprocess.CompletedProcess([], process.returncode, out.decode(), err.decode())


@pytest.mark.parametrize("way", CALORIC)
def test_answer_and_next_request_leave_together_and_need_one_connection(
    way: str, write_function: WriteFunction
) -> None:
    steps: list[Step] = [event(1, "a"), ACCEPTED, event(2, "b"), ACCEPTED, HANG]
    api, run = serve(way, write_function, steps, 5)
    assert api.calls() == ["next", "response", "next", "response", "next"]
    assert {request.connection for request in api.requests} == {0}
    assert run.stdout == "run 1 of a\nrun 2 of b\n"
    assert api.requests[1].path == "/2018-06-01/runtime/invocation/a/response"


@pytest.mark.parametrize("way", CALORIC)
def test_pipelining_can_be_turned_off(way: str, write_function: WriteFunction) -> None:
    # The answer to the response is held back: with pipelining the next request is there all the same.
    _, run = serve(way, write_function, [event(1, "a"), HANG], 3)
    assert run.stdout == "run 1 of a\n"
    folder = write_function(COUNTING)
    with (
        ScriptedApi([event(1, "a"), HANG]) as api,
        start(way, "app.handler", folder, api.address, **PIPELINE_OFF) as process,
    ):
        api.wait_for(2)
        with pytest.raises(AssertionError, match="2 of 3 requests came"):
            api.wait_for(3, timeout=0.5)
        process.kill()


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("code", [400, 403, 410, 413])
def test_a_refused_answer_is_logged_and_dropped(way: str, code: int, write_function: WriteFunction) -> None:
    steps: list[Step] = [event(1, "a"), status(code), event(2, "b"), ACCEPTED, HANG]
    _, run = serve(way, write_function, steps, 5)
    assert run.stdout == "run 1 of a\nrun 2 of b\n"
    assert f"the answer to a was not accepted: {code}" in run.stderr
    assert f"scripted {code}" in run.stderr, "the platform's own words are there"


@pytest.mark.parametrize("way", CALORIC)
def test_a_refused_answer_is_posted_again_when_the_same_invocation_comes_back(
    way: str, write_function: WriteFunction
) -> None:
    steps: list[Step] = [event(1, "a"), status(403), event(1, "a"), ACCEPTED, event(2, "b"), ACCEPTED, HANG]
    api, run = serve(way, write_function, steps, 7)
    assert run.stdout == "run 1 of a\nrun 2 of b\n", "the handler did not run twice for one invocation"
    assert api.requests[1].body == api.requests[3].body == b'{"run":1}'
    assert api.requests[1].path == api.requests[3].path


@pytest.mark.parametrize("way", CALORIC)
def test_a_second_refusal_of_the_same_answer_ends_the_process(
    way: str, write_function: WriteFunction
) -> None:
    _, run = serve(way, write_function, [event(1, "a"), status(400), event(1, "a"), status(400)], None)
    assert run.returncode == 1
    assert run.stdout == "run 1 of a\n"
    assert "POST /runtime/invocation/<id>/response was refused: 400" in run.stderr


@pytest.mark.parametrize("way", CALORIC)
def test_the_same_request_after_an_accepted_answer_is_a_retry_and_runs(
    way: str, write_function: WriteFunction
) -> None:
    _, run = serve(way, write_function, [event(1, "a"), ACCEPTED, event(1, "a"), ACCEPTED, HANG], 5)
    assert run.stdout == "run 1 of a\nrun 2 of a\n"


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("ending", [CLOSE, RESET], ids=["closed", "reset"])
def test_a_pipelined_next_that_was_lost_is_asked_again(
    way: str, ending: bytes, write_function: WriteFunction
) -> None:
    steps: list[Step] = [event(1, "a"), (ACCEPTED, ending), event(2, "b"), ACCEPTED, HANG]
    api, run = serve(way, write_function, steps, 5)
    assert run.stdout == "run 1 of a\nrun 2 of b\n"
    assert [request.connection for request in api.requests][:3] == [0, 0, 1]


@pytest.mark.parametrize("way", CALORIC)
def test_an_answer_is_sent_again_when_the_connection_was_closed_while_the_handler_ran(
    way: str, write_function: WriteFunction
) -> None:
    steps: list[Step] = [(event(1, "a"), CLOSE), ACCEPTED, event(2, "b"), ACCEPTED, HANG]
    source = COUNTING.replace("global runs", "global runs; import time; time.sleep(0.2)")
    api, run = serve(way, write_function, steps, 4, source)
    assert run.stdout == "run 1 of a\nrun 2 of b\n"
    assert api.requests[1].body == b'{"run":1}'


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("code", [500, 503])
@pytest.mark.parametrize("at", ["next", "response"])
def test_a_failing_runtime_api_ends_the_process(
    way: str, code: int, at: str, write_function: WriteFunction
) -> None:
    steps: list[Step] = [status(code)] if at == "next" else [event(1, "a"), status(code)]
    _, run = serve(way, write_function, steps, None)
    assert run.returncode == 1
    assert f"the Runtime API failed: {code}" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (status(403), "was refused: 403"),
        (status(404), "was refused: 404"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "unexpected answer: 204"),
        ((b"220 mail.example ESMTP\r\n", CLOSE), "no HTTP/1.x response"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", CLOSE), "ended after 1 of 100 body bytes"),
        (b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 70_000, "head of the answer is longer than 65536 bytes"),
        (event({}, ""), "has no Lambda-Runtime-Aws-Request-Id header"),
        (CLOSE, "closed without an answer"),
    ],
    ids=["403", "404", "204", "smtp", "short-body", "long-head", "no-request-id", "closed"],
)
def test_nonsense_from_the_runtime_api_ends_the_process_with_one_clear_line(
    way: str, answer: Step, message: str, write_function: WriteFunction
) -> None:
    _, run = serve(way, write_function, [answer], None)
    assert run.returncode == 1
    assert message in run.stderr
    assert run.stderr.count("\n") == 1
    assert run.stdout == ""


@pytest.mark.parametrize("way", CALORIC)
def test_nobody_listening_ends_the_process_with_one_clear_line(
    way: str, write_function: WriteFunction
) -> None:
    with start(way, "app.handler", write_function(COUNTING), "127.0.0.1:1") as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"cannot connect to the Runtime API at 127.0.0.1:1 (AWS_LAMBDA_RUNTIME_API)" in err
    assert err.count(b"\n") == 1


@pytest.mark.parametrize("way", CALORIC)
def test_without_a_runtime_api_the_message_says_what_to_do(way: str, write_function: WriteFunction) -> None:
    with start(way, "app.handler", write_function(COUNTING), "") as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"AWS_LAMBDA_RUNTIME_API is not set" in err
    assert b"caloric invoke app.handler" in err


@pytest.mark.parametrize("way", CALORIC)
def test_the_invocation_id_of_an_attempt_is_echoed(way: str, write_function: WriteFunction) -> None:
    steps: list[Step] = [
        event(1, "a", Lambda_Runtime_Invocation_Id="try-1"),
        ACCEPTED,
        event(2, "b"),
        ACCEPTED,
        HANG,
    ]
    api, _ = serve(way, write_function, steps, 5)
    assert api.requests[1].headers["lambda-runtime-invocation-id"] == "try-1"
    assert "lambda-runtime-invocation-id" not in api.requests[3].headers


@pytest.mark.parametrize("way", CALORIC)
def test_chunked_and_large_events_arrive_whole(way: str, write_function: WriteFunction) -> None:
    text = "x" * 100_000
    body = ('"' + text + '"').encode()
    pieces = [body[i : i + 3000] for i in range(0, len(body), 3000)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    head = event(b"", "a").split(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    large = event(("y" * 6_000_000), "b")
    source = "def handler(event, context): return [len(event), event[0]]"
    api, _ = serve(way, write_function, [head + chunks + b"0\r\n\r\n", ACCEPTED, large, ACCEPTED], 5, source)
    assert [api.requests[1].json(), api.requests[3].json()] == [[100_000, "x"], [6_000_000, "y"]]


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("result", ["'x' * 5_000_000", "b'x' * 5_000_000"], ids=["encoded", "bytes"])
def test_a_large_result_does_not_stay_in_memory_while_idle(
    way: str, result: str, write_function: WriteFunction
) -> None:
    def resident_kb(pid: int) -> int:
        with open(f"/proc/{pid}/status") as status_file:
            return next(int(line.split()[1]) for line in status_file if line.startswith("VmRSS"))

    source = f"def handler(event, context): return {result} if event else None"
    steps: list[Step] = [event(0, "a"), ACCEPTED, HANG]
    large: list[Step] = [event(0, "a"), ACCEPTED, event(1, "b"), ACCEPTED, HANG]
    sizes = []
    for script in (steps, large):
        folder = write_function(source)
        with ScriptedApi(script) as api, start(way, "app.handler", folder, api.address) as process:
            api.wait_for(len(script))
            # The answer to the last response is on its way to the runtime.
            time.sleep(0.2)
            sizes.append(resident_kb(process.pid))
            process.kill()
    assert sizes[1] - sizes[0] < 1500
