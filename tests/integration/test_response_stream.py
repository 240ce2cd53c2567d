"""Streamed responses from end to end: a function on a real runtime, the endpoint, and who reads from it."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import sysconfig
import threading
import time
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from caloric._rust import ExecutionEnvironment, HttpFront
from caloric.local.process import function_environment, supervise
from tests.runtimes import BOOTSTRAP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")
FAST = [sys.executable, "-S", str(BOOTSTRAP)]

SOURCE = """
import json, os, time
import caloric

def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)

def words(event, context):
    yield "first "
    wait_for("gate")
    yield "second"

def fails(event, context):
    yield "half"
    raise ValueError("boom")

def early(event, context):
    raise ValueError("early")
    yield

def plain(event, context):
    print("a line")
    return {"plain": event}

def empty(event, context):
    yield from ()

def forever(event, context):
    try:
        while True:
            yield "x" * 1000
            time.sleep(0.001)
    finally:
        print("closed")

def hangs(event, context):
    yield "half"
    time.sleep(60)

def exits(event, context):
    yield "half"
    os._exit(3)

def megabytes(event, context):
    piece = b"x" * 100_000
    for _ in range(event):
        yield piece

def page(event, context):
    return caloric.HttpResponse(201, {"x-a": "b"}, ["c=d"], iter(["Hello"]))
"""


@contextlib.contextmanager
def environment(
    write_function: WriteFunction, handler: str, **settings: Any
) -> Iterator[tuple[ExecutionEnvironment, Path]]:
    folder = write_function(SOURCE)
    with ExecutionEnvironment(**{"timeout_ms": 20_000, "memory_size_mb": 512, **settings}) as environment:
        variables = function_environment(environment, handler=f"app.{handler}", task_root=str(folder))
        process = supervise(environment, [*FAST, f"app.{handler}"], variables, cwd=str(folder))
        yield environment, folder
    assert process.join(10)


@contextlib.contextmanager
def service(write_function: WriteFunction, handler: str, **settings: Any) -> Iterator[tuple[str, Path]]:
    with (
        environment(write_function, handler, **settings) as (behind, folder),
        HttpFront(behind, host="127.0.0.1", port=0) as front,
    ):
        yield front.address, folder


def lambda_client(address: str) -> Any:
    return boto3.client(
        "lambda",
        region_name="us-east-1",
        endpoint_url=f"http://{address}",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"max_attempts": 0}, read_timeout=20),
    )


def messages(answer: dict[str, Any]) -> tuple[bytes, list[bytes], dict[str, Any]]:
    """All of the payload, its pieces, and the last message."""
    pieces, complete = [], {}
    for message in answer["EventStream"]:
        if "PayloadChunk" in message:
            pieces.append(message["PayloadChunk"]["Payload"])
        else:
            complete = message["InvokeComplete"]
    return b"".join(pieces), pieces, complete


def declared_type(answer: dict[str, Any]) -> str:
    """The content type of the response itself."""
    headers: dict[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
    return headers["x-amzn-remapped-content-type"]


def test_pieces_come_as_they_are_yielded(write_function: WriteFunction) -> None:
    with environment(write_function, "words") as (function, folder):
        stream = function.invoke_with_response_stream(b"{}")
        assert next(stream) == b"first "
        assert stream.content_type == "text/plain; charset=utf-8"
        (folder / "gate").touch()
        assert list(stream) == [b"second"]
        result = stream.result()
        assert (result.status, result.function_error, result.payload) == ("success", None, b"")
        assert stream.result() is result


def test_managed_instances_stream_to_several_callers_at_once(write_function: WriteFunction) -> None:
    with environment(write_function, "words", max_concurrency=2) as (function, folder):
        streams = [function.invoke_with_response_stream(b"{}") for _ in range(2)]
        assert [next(stream) for stream in streams] == [b"first ", b"first "]
        (folder / "gate").touch()
        assert [list(stream) for stream in streams] == [[b"second"], [b"second"]]
        assert [stream.result().status for stream in streams] == ["success"] * 2


def test_a_response_that_is_not_streamed_is_the_results_payload(write_function: WriteFunction) -> None:
    with environment(write_function, "plain") as (function, _):
        stream = function.invoke_with_response_stream(b"1")
        assert list(stream) == []
        assert stream.content_type is None
        assert json.loads(stream.result().payload) == {"plain": 1}


def test_a_caller_who_does_not_stream_gets_the_whole(write_function: WriteFunction) -> None:
    with environment(write_function, "words") as (function, folder):
        (folder / "gate").touch()
        result = function.invoke(b"{}")
        assert result.payload == b"first second"
        assert result.content_type == "text/plain; charset=utf-8"


def test_a_caller_who_does_not_stream_gets_no_more_than_six_megabytes(write_function: WriteFunction) -> None:
    with environment(write_function, "megabytes") as (function, _):
        assert len(function.invoke(b"60").payload) == 6_000_000
        result = function.invoke(b"70")
        assert result.error_type == "Function.ResponseSizeTooLarge"


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_in_the_middle_is_the_results(stream: bool, write_function: WriteFunction) -> None:
    with environment(write_function, "fails") as (function, _):
        if stream:
            response = function.invoke_with_response_stream(b"{}")
            assert list(response) == [b"half"]
            result = response.result()
        else:
            result = function.invoke(b"{}")
        assert result.function_error == "Unhandled"
        assert json.loads(result.payload)["errorMessage"] == "boom"
        assert function.invoke_with_response_stream(b"{}").result().status == "error", (
            "and the next one is served"
        )


def test_a_time_limit_in_the_middle_ends_the_stream(write_function: WriteFunction) -> None:
    with environment(write_function, "hangs", timeout_ms=1000) as (function, _):
        stream = function.invoke_with_response_stream(b"{}")
        assert list(stream) == [b"half"]
        assert stream.result().status == "timeout"


def test_a_process_that_ends_in_the_middle_ends_the_stream(write_function: WriteFunction) -> None:
    with environment(write_function, "exits") as (function, _):
        stream = function.invoke_with_response_stream(b"{}")
        assert list(stream) == [b"half"]
        result = stream.result()
        assert result.status == "error"
        assert result.error_type in ("Runtime.TruncatedResponse", "Runtime.ExitError")


def test_a_caller_who_gives_up_does_not_hold_the_function_up(write_function: WriteFunction) -> None:
    with environment(write_function, "megabytes") as (function, _):
        stream = function.invoke_with_response_stream(b"300")
        next(stream)
        del stream
        assert function.invoke(b"1").status == "success"


def test_a_slow_caller_slows_the_function_down_and_costs_no_memory(write_function: WriteFunction) -> None:
    with environment(write_function, "megabytes", timeout_ms=60_000) as (function, _):
        stream = function.invoke_with_response_stream(b"2000")
        before = resident_kb()
        received = len(next(stream))
        time.sleep(1)
        received += sum(len(piece) for piece in stream)
        assert received == 200_000_000
        assert resident_kb() - before < 20_000
        assert stream.result().status == "success"


def test_what_is_longer_than_lambda_takes_is_cut_off(write_function: WriteFunction) -> None:
    with environment(write_function, "megabytes", timeout_ms=60_000) as (function, _):
        stream = function.invoke_with_response_stream(b"2200")
        assert sum(len(piece) for piece in stream) == 200 * 1024 * 1024
        assert stream.result().error_type == "Function.ResponseSizeTooLarge"
        assert function.invoke(b"1").status == "success"


def resident_kb() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_boto3_reads_chunk_by_chunk(write_function: WriteFunction) -> None:
    with service(write_function, "words") as (address, folder):
        answer = lambda_client(address).invoke_with_response_stream(
            FunctionName="function", Payload=b"{}", LogType="Tail"
        )
        assert answer["StatusCode"] == 200
        assert answer["ExecutedVersion"] == "$LATEST"
        assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
        assert declared_type(answer) == "text/plain; charset=utf-8"
        stream = iter(answer["EventStream"])
        assert next(stream) == {"PayloadChunk": {"Payload": b"first "}}
        (folder / "gate").touch()
        assert next(stream) == {"PayloadChunk": {"Payload": b"second"}}
        (complete,) = stream
        log = b64decode(complete["InvokeComplete"]["LogResult"]).decode()
        assert "REPORT RequestId: " in log
        assert "ErrorCode" not in complete["InvokeComplete"]


def test_boto3_gets_a_plain_response_in_one_piece(write_function: WriteFunction) -> None:
    with service(write_function, "plain") as (address, _):
        answer = lambda_client(address).invoke_with_response_stream(FunctionName="function", Payload=b"1")
        assert declared_type(answer) == "application/json"
        assert messages(answer) == (b'{"plain":1}', [b'{"plain":1}'], {})


def test_boto3_gets_nothing_of_an_empty_stream(write_function: WriteFunction) -> None:
    with service(write_function, "empty") as (address, _):
        answer = lambda_client(address).invoke_with_response_stream(FunctionName="function")
        assert messages(answer) == (b"", [], {})


@pytest.mark.parametrize(
    ("handler", "payload", "message"),
    [("fails", b"half", "boom"), ("early", b"", "early"), ("hangs", b"half", "timed out")],
)
def test_boto3_is_told_of_an_error_in_the_last_message(
    handler: str, payload: bytes, message: str, write_function: WriteFunction
) -> None:
    with service(write_function, handler, timeout_ms=2000) as (address, _):
        answer = lambda_client(address).invoke_with_response_stream(FunctionName="function")
        received, _, complete = messages(answer)
    assert received == payload
    assert complete["ErrorCode"] == "Unhandled"
    assert message in complete["ErrorDetails"]


def test_boto3_gets_the_whole_of_a_stream_that_it_does_not_read_as_one(write_function: WriteFunction) -> None:
    with service(write_function, "words") as (address, folder):
        (folder / "gate").touch()
        answer = lambda_client(address).invoke(FunctionName="function")
        assert answer["Payload"].read() == b"first second"
        assert "FunctionError" not in answer


def test_the_prelude_is_handed_on_as_it_is(write_function: WriteFunction) -> None:
    with service(write_function, "page") as (address, _):
        answer = lambda_client(address).invoke_with_response_stream(FunctionName="function")
        assert declared_type(answer) == "application/vnd.awslambda.http-integration-response"
        payload, _, _ = messages(answer)
    prelude, _, body = payload.partition(bytes(8))
    assert json.loads(prelude)["statusCode"] == 201
    assert body == b"Hello"


def test_a_client_that_goes_away_does_not_cancel_the_function(write_function: WriteFunction) -> None:
    with service(write_function, "megabytes") as (address, _):
        host, port = address.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        path = "/2021-11-15/functions/function/response-streaming-invocations"
        connection.request("POST", path, b"300")
        response = connection.getresponse()
        assert response.read(1000)
        response.close()
        connection.close()
        answer = lambda_client(address).invoke(FunctionName="function", Payload=b"1")
        assert len(answer["Payload"].read()) == 100_000


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"X-Amz-Invocation-Type": "DryRun"}, 204), ({"X-Amz-Invocation-Type": "Event"}, 400), ({}, 200)],
)
def test_invocation_types_of_the_streaming_path(
    headers: dict[str, str], status: int, write_function: WriteFunction
) -> None:
    with service(write_function, "plain") as (address, _):
        host, port = address.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        connection.request(
            "POST", "/2021-11-15/functions/function/response-streaming-invocations", b"1", headers
        )
        response = connection.getresponse()
        body = response.read()
        connection.close()
    assert response.status == status
    if status == 400:
        assert b"[RequestResponse, DryRun]" in body


def test_the_caller_has_the_answer_before_the_work_after_it(write_function: WriteFunction) -> None:
    source = """
    import os, time

    def work():
        while not os.path.exists("gate"):
            time.sleep(0.01)
        print("worked")

    def handler(event, context):
        context.after_response(work)
        return "answer"
    """
    folder = write_function(source)
    with ExecutionEnvironment(timeout_ms=20_000) as behind:
        variables = function_environment(behind, handler="app.handler", task_root=str(folder))
        process = supervise(behind, [*FAST, "app.handler"], variables, cwd=str(folder))
        with HttpFront(behind, host="127.0.0.1", port=0) as front:
            client = lambda_client(front.address)
            # The work waits for what happens after the answer.
            assert client.invoke(FunctionName="function")["Payload"].read() == b'"answer"'
            (folder / "gate").touch()
            log = b64decode(client.invoke(FunctionName="function", LogType="Tail")["LogResult"])
            assert b"worked" in log
    assert process.join(10)


def test_the_command_prints_pieces_as_they_come(write_function: WriteFunction) -> None:
    folder = write_function(SOURCE)
    command = [CALORIC, "invoke", "app.words", "--stream", "--timeout", "20"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        # What is not printed piece by piece would come when the gate is open, which it is not yet.
        assert process.stdout.read(6) == b"first "
        (folder / "gate").touch()
        out, _ = process.communicate(timeout=20)
    assert out == b"second"
    assert process.returncode == 0


def test_the_command_prints_the_error_of_a_stream(write_function: WriteFunction) -> None:
    folder = write_function(SOURCE)
    command = [CALORIC, "invoke", "app.fails", "--stream"]
    run = subprocess.run(command, cwd=folder, capture_output=True, timeout=30, check=False)
    assert run.returncode == 1
    assert run.stdout.startswith(b'half{"errorMessage":"boom"')


def test_several_streams_at_once_do_not_mix(write_function: WriteFunction) -> None:
    source = """
    import time

    async def handler(event, context):
        for _ in range(50):
            yield f"{event},"
            time.sleep(0.001)
    """
    folder = write_function(source)
    environments = [ExecutionEnvironment(timeout_ms=20_000) for _ in range(3)]
    processes = []
    for behind in environments:
        variables = function_environment(behind, handler="app.handler", task_root=str(folder))
        processes.append(supervise(behind, [*FAST, "app.handler"], variables, cwd=str(folder)))
    received: dict[int, bytes] = {}

    def read(number: int) -> None:
        stream = environments[number].invoke_with_response_stream(str(number).encode())
        received[number] = b"".join(stream)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for behind, process in zip(environments, processes, strict=True):
        behind.close()
        assert process.join(10)
    assert received == {number: f"{number},".encode() * 50 for number in range(3)}
