"""The whole service, by boto3, the aws CLI and plain HTTP: what a user of the local Lambda relies on."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.cli.commands import SCRIPTS, variables, wait_until
from tests.local.conftest import connect
from tests.local.functions import ROLE, RUNTIME, SOON, create, update, zipped

if TYPE_CHECKING:
    from pathlib import Path

    from caloric.local.local_lambda import LocalLambda
    from tests.local.conftest import StartLocalLambda


def invoke(client: Any, name: str, event: object = None, **options: Any) -> Any:
    """Invoke, and return what the function returned."""
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event or {}).encode(), **options)
    assert "FunctionError" not in answer, answer["Payload"].read()
    return json.loads(answer["Payload"].read())


def test_a_function_lives_through_its_whole_life(client: Any) -> None:
    create(client, "orders")
    assert invoke(client, "orders", {"n": 1})["event"] == {"n": 1}
    version = client.publish_version(FunctionName="orders")["Version"]
    client.create_alias(FunctionName="orders", Name="live", FunctionVersion=version)
    update(client, "orders", "def handler(event, context): return 'new'\n")
    assert invoke(client, "orders") == "new"
    answer = invoke(client, "orders", Qualifier="live")
    assert answer["version"] == "1"
    assert answer["arn"] == "arn:aws:lambda:us-east-1:012345678912:function:orders:live"
    client.delete_function(FunctionName="orders")
    with pytest.raises(client.exceptions.ResourceNotFoundException, match=r"Function not found: .*:orders"):
        client.invoke(FunctionName="orders")


def test_everything_is_there_again_after_a_restart(start_local_lambda: StartLocalLambda) -> None:
    first = start_local_lambda()
    client = connect(first.url)
    create(client, "orders")
    client.publish_version(FunctionName="orders")
    client.create_alias(FunctionName="orders", Name="live", FunctionVersion="1")
    create(client, "off")
    client.put_function_concurrency(FunctionName="off", ReservedConcurrentExecutions=0)
    before = client.get_function_configuration(FunctionName="orders")
    client.close()
    first.close()
    client = connect(start_local_lambda().url)
    after = client.get_function_configuration(FunctionName="orders")
    for answer in (before, after):
        del answer["ResponseMetadata"]
    assert after == before
    assert invoke(client, "orders", Qualifier="live")["version"] == "1"
    with pytest.raises(client.exceptions.TooManyRequestsException):
        client.invoke(FunctionName="off")
    client.close()


def test_cold_and_warm_starts_are_counted(local_lambda: LocalLambda, client: Any) -> None:
    create(client, "orders")
    for _ in range(100):
        invoke(client, "orders")
    (function,) = local_lambda.status()["functions"]
    assert (function["coldStarts"], function["warmStarts"]) == (1, 99)


def test_invocations_at_once_have_environments_of_their_own(local_lambda: LocalLambda, client: Any) -> None:
    source = """
        import os, time
        def handler(event, context):
            time.sleep(0.5)
            return os.getpid()
    """
    create(client, "slow", source)
    with ThreadPoolExecutor(4) as threads:
        pids = list(threads.map(lambda _: invoke(client, "slow"), range(4)))
    assert len(set(pids)) == 4
    (function,) = local_lambda.status()["functions"]
    assert function["coldStarts"] == 4


def test_reserved_concurrency_is_a_limit(local_lambda: LocalLambda, client: Any, tmp_path: Path) -> None:
    source = """
        import pathlib, time
        def handler(event, context):
            while not pathlib.Path(event).exists():
                time.sleep(0.01)
    """
    create(client, "slow", source)
    client.put_function_concurrency(FunctionName="slow", ReservedConcurrentExecutions=1)
    let_go = tmp_path / "let_go"
    running = threading.Thread(target=invoke, args=(client, "slow", str(let_go)))
    running.start()
    try:
        wait_until(
            lambda: local_lambda.status()["functions"][0]["environments"]["busy"] == 1, "an invocation to run"
        )
        with pytest.raises(client.exceptions.TooManyRequestsException) as refused:
            client.invoke(FunctionName="slow")
        assert refused.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        assert local_lambda.status()["functions"][0]["throttled"] == 1
    finally:
        let_go.touch()
        running.join()
    assert client.invoke(FunctionName="slow", Payload=json.dumps(str(let_go)).encode())["StatusCode"] == 200


def test_provisioned_environments_are_started_before_anyone_asks(
    local_lambda: LocalLambda, client: Any
) -> None:
    create(client, "orders")
    client.publish_version(FunctionName="orders")
    client.put_provisioned_concurrency_config(
        FunctionName="orders", Qualifier="1", ProvisionedConcurrentExecutions=2
    )

    def ready() -> bool:
        status = client.get_provisioned_concurrency_config(FunctionName="orders", Qualifier="1")["Status"]
        return bool(status == "READY")

    wait_until(ready, "the environments to be ready")
    invoke(client, "orders", Qualifier="1")
    (function,) = [each for each in local_lambda.status()["functions"] if each["version"] == "1"]
    assert (function["coldStarts"], function["warmStarts"]) == (0, 1)
    assert function["environments"]["provisioned"] == 2


def test_a_minimum_of_environments_is_kept_of_every_function(start_local_lambda: StartLocalLambda) -> None:
    service = start_local_lambda(min_environments=2)
    client = connect(service.url)
    create(client, "orders")

    def started() -> bool:
        (function,) = service.status()["functions"]
        return bool(function["environments"]["idle"] == 2)

    wait_until(started, "two environments to be started")
    client.close()


def test_an_environment_that_nobody_uses_is_ended(start_local_lambda: StartLocalLambda) -> None:
    service = start_local_lambda(idle_s=0.2)
    client = connect(service.url)
    create(client, "orders")
    invoke(client, "orders")

    def ended() -> bool:
        (function,) = service.status()["functions"]
        return not sum(function["environments"].values())

    wait_until(ended, "the environment to end")
    client.close()


def test_a_function_whose_init_fails_takes_nobody_along(client: Any) -> None:
    create(client, "broken", "import nothing_of_that_name\n")
    create(client, "orders")
    answer = client.invoke(FunctionName="broken")
    assert answer["FunctionError"] == "Unhandled"
    error = json.loads(answer["Payload"].read())
    assert error["errorType"] == "Runtime.ImportModuleError"
    assert error["errorMessage"] == "Unable to import module 'app': No module named 'nothing_of_that_name'"
    assert invoke(client, "orders", 1)["event"] == 1


def test_a_runtime_that_is_not_on_this_machine_says_so_and_what_to_do(client: Any) -> None:
    create(client, "node", Runtime="nodejs22.x")
    with pytest.raises(Exception, match=r"the runtime 'nodejs22\.x' is not available locally"):
        client.invoke(FunctionName="node")


def test_a_stream_arrives_piece_by_piece(client: Any) -> None:
    create(client, "stream", "def handler(event, context):\n    yield 'one '\n    yield 'two'\n")
    events = list(client.invoke_with_response_stream(FunctionName="stream")["EventStream"])
    pieces = [event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event]
    assert b"".join(pieces) == b"one two"
    assert "InvokeComplete" in events[-1]


def test_a_page_of_another_origin_is_refused_and_so_is_another_name_for_this_machine(
    local_lambda: LocalLambda,
) -> None:
    host = local_lambda.url.removeprefix("http://")
    for headers, status in (
        ({"Origin": "https://example.com"}, 403),
        ({"Host": "rebound.example.com"}, 421),
        ({}, 200),
    ):
        for path in ("/_caloric/status", "/2015-03-31/functions"):
            connection = http.client.HTTPConnection(host, timeout=30)
            connection.request("GET", path, headers=headers)
            assert connection.getresponse().status == status, (headers, path)
            connection.close()


def test_code_can_be_downloaded_where_the_service_says(client: Any) -> None:
    content = zipped("def handler(event, context): pass\n")
    create(client, "orders", Code={"ZipFile": content})
    location = client.get_function(FunctionName="orders")["Code"]["Location"]
    host, _, path = location.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("GET", f"/{path}")
    assert connection.getresponse().read() == content
    connection.close()


def test_the_aws_cli_creates_invokes_and_lists(local_lambda: LocalLambda, tmp_path: Path) -> None:
    (tmp_path / "function.zip").write_bytes(zipped("def handler(event, context): return event['n'] + 1\n"))
    environment = variables(
        {
            "AWS_ENDPOINT_URL_LAMBDA": local_lambda.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    )

    def aws(*arguments: str) -> str:
        run = subprocess.run(
            [sys.executable, str(SCRIPTS / "aws"), "lambda", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    create = [
        "--runtime",
        RUNTIME,
        "--role",
        ROLE,
        "--handler",
        "app.handler",
        "--zip-file",
        "fileb://function.zip",
    ]
    aws("create-function", "--function-name", "adder", *create)
    aws("wait", "function-active-v2", "--function-name", "adder")
    (tmp_path / "event.json").write_text('{"n": 41}', encoding="utf-8")
    aws("invoke", "--function-name", "adder", "--payload", "fileb://event.json", "answer.json")
    assert (tmp_path / "answer.json").read_text(encoding="utf-8") == "42"
    listed = json.loads(aws("list-functions"))
    assert [function["FunctionName"] for function in listed["Functions"]] == ["adder"]


def test_mixed_invocations_of_many_functions_lose_and_cross_nothing(client: Any) -> None:
    source = "import os\ndef handler(event, context): return [os.environ['NAME'], event['n']]\n"
    names = [f"function-{number}" for number in range(5)]
    for name in names:
        create(client, name, source, Environment={"Variables": {"NAME": name}})

    def one(number: int) -> tuple[list[Any], list[Any]]:
        name = names[number % len(names)]
        return invoke(client, name, {"n": number}), [name, number]

    with ThreadPoolExecutor(8) as threads:
        for answer, expected in threads.map(one, range(500)):
            assert answer == expected


def test_a_service_is_started_within_milliseconds_with_many_functions(
    start_local_lambda: StartLocalLambda,
) -> None:
    service = start_local_lambda()
    client = connect(service.url)
    for number in range(30):
        client.create_function(
            FunctionName=f"function-{number:03}",
            Role=ROLE,
            Runtime=RUNTIME,
            Handler="app.handler",
            Code={"ZipFile": zipped("def handler(event, context): return 1\n")},
        )
    client.get_waiter("function_active_v2").wait(FunctionName="function-029", WaiterConfig=SOON)
    client.close()
    service.close()
    begin = time.perf_counter()
    service = start_local_lambda()
    took = time.perf_counter() - begin
    client = connect(service.url)
    assert invoke(client, "function-007") == 1
    client.close()
    # A few milliseconds; what this catches is seconds.
    assert took < 2
