"""What AWS's emulator is tested for in containers: a function behind it, from the command line to the answer."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from tests.emulator.emulators import INVOKE_PATH, Emulator, runtime, script
from tests.emulator.rows import shows
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import WriteFunction
    from tests.emulator.emulators import Kind

FUNCTION = """
    import os, time

    calls = 0

    def count(event, context):
        global calls
        calls += 1
        return [calls, os.getpid()]

    def variable(event, context):
        return os.environ.get(event)

    def context(event, context):
        return {
            "arn": context.invoked_function_arn,
            "name": context.function_name,
            "version": context.function_version,
            "memory": context.memory_limit_in_mb,
            "remaining": context.get_remaining_time_in_millis(),
            "tenant": getattr(context, "tenant_id", None),
            "trace": os.environ.get("_X_AMZN_TRACE_ID"),
            "client": context.client_context and context.client_context.custom,
        }

    def echo(event, context):
        return event

    def fails(event, context):
        raise LookupError("not here")
"""


@pytest.fixture
def folder(write_function: WriteFunction) -> Path:
    """Return the function's folder."""
    return write_function(FUNCTION)


@pytest.fixture
def context(kind: Kind, folder: Path) -> Iterator[Emulator]:
    """Return an emulator whose function returns its context."""
    with Emulator(kind, folder, runtime(kind, "app.context")) as emulator:
        yield emulator


@shows("a command without `--` before it", "the path `/2015-03-31/functions/function/invocations`")
def test_two_invocations_run_in_one_process(kind: Kind, folder: Path) -> None:
    with Emulator(kind, folder, runtime(kind, "app.count")) as emulator:
        first, second = emulator.invoke().json(), emulator.invoke().json()
    assert (first[0], second[0]) == (1, 2)
    assert first[1] == second[1]


@shows("other variables")
@pytest.mark.parametrize("value", ["4=4", "=", "a b", "日本"])
def test_a_variable_reaches_the_function_whatever_is_in_it(kind: Kind, folder: Path, value: str) -> None:
    with Emulator(kind, folder, runtime(kind, "app.variable"), variables={"MY_ENV": value}) as emulator:
        assert emulator.invoke("MY_ENV").json() == value
        assert emulator.invoke("NOT_SET").json() is None


@shows("the function's ARN")
def test_the_arn_has_the_functions_name(kind: Kind, folder: Path) -> None:
    for variables, name in (({}, "test_function"), ({"AWS_LAMBDA_FUNCTION_NAME": "orders"}, "orders")):
        with Emulator(kind, folder, runtime(kind, "app.context"), variables=variables) as emulator:
            context = emulator.invoke().json()
        assert context["arn"] == f"arn:aws:lambda:us-east-1:012345678912:function:{name}"
        assert context["name"] == name


@shows(
    "`AWS_LAMBDA_FUNCTION_NAME`",
    "`AWS_LAMBDA_FUNCTION_VERSION`",
    "`AWS_LAMBDA_FUNCTION_MEMORY_SIZE`",
    "`AWS_LAMBDA_FUNCTION_TIMEOUT`",
)
def test_the_variables_are_the_functions_settings(kind: Kind, folder: Path) -> None:
    variables = {
        "AWS_LAMBDA_FUNCTION_NAME": "orders",
        "AWS_LAMBDA_FUNCTION_VERSION": "7",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "30",
    }
    with Emulator(kind, folder, runtime(kind, "app.context"), variables=variables) as emulator:
        context = emulator.invoke().json()
        log = emulator.wait_for_log(lambda log: "REPORT" in log)
    assert (context["name"], context["version"], context["memory"]) == ("orders", "7", "512")
    assert 0 < context["remaining"] <= 30_000
    assert "Version: 7\n" in log
    assert "Memory Size: 512 MB" in log


@shows("defaults of the settings")
def test_without_variables_the_settings_have_the_same_defaults(context: Emulator) -> None:
    seen = context.invoke().json()
    assert (seen["name"], seen["version"], seen["memory"]) == ("test_function", "$LATEST", "3008")
    # 300 s, of which a busy machine may have used some.
    assert 240_000 < seen["remaining"] <= 300_000


@shows("a function error: status and body")
def test_a_function_error_is_the_answer_with_status_200(kind: Kind, folder: Path) -> None:
    with Emulator(kind, folder, runtime(kind, "app.fails")) as emulator:
        answer = emulator.invoke()
        again = emulator.invoke()
    assert (answer.status, again.status) == (200, 200)
    error = answer.json()
    assert (error["errorType"], error["errorMessage"]) == ("LookupError", "not here")
    assert "in fails" in error["stackTrace"][-1]
    marked = answer.headers["X-Amz-Function-Error"]
    assert marked == (None if kind == "aws" else "Unhandled")


@shows("`X-Amz-Client-Context`", "`X-Amz-Tenant-Id`")
def test_headers_reach_the_function(kind: Kind, context: Emulator) -> None:
    custom = {"foo": "bar", "baz": 123}
    trace = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"
    seen = context.invoke(
        X_Amz_Client_Context=base64.b64encode(json.dumps({"custom": custom}).encode()).decode(),
        X_Amzn_Trace_Id=trace,
        X_Amz_Tenant_Id="blue",
    ).json()
    assert (seen["client"], seen["tenant"]) == (custom, "blue")
    assert seen["trace"] == (None if kind == "aws" else trace)


def test_a_client_context_that_is_no_base64_is_refused(kind: Kind, folder: Path) -> None:
    with Emulator(kind, folder, runtime(kind, "app.echo")) as emulator:
        assert emulator.invoke(X_Amz_Client_Context="%").status == (500 if kind == "aws" else 400)


@shows("the event")
@pytest.mark.parametrize("event", [b'{"a": [1, 2.5, null, "\\u00e9"]}', b"0", b'""', '"日本"'.encode()])
def test_an_event_arrives_as_it_is(kind: Kind, tmp_path: Path, event: bytes) -> None:
    command = script(tmp_path, "rid, body = take()\nrespond(rid, body.hex())\ntake()")
    with Emulator(kind, tmp_path, command) as emulator:
        assert bytes.fromhex(emulator.call(event).json()) == event


def test_an_empty_event_is_an_empty_object_as_for_the_service(kind: Kind, tmp_path: Path) -> None:
    command = script(tmp_path, "rid, body = take()\nrespond(rid, body.decode())\ntake()")
    with Emulator(kind, tmp_path, command) as emulator:
        assert emulator.call(b"").json() == ("" if kind == "aws" else "{}")


@shows("a large event and a large answer")
def test_megabytes_come_back(kind: Kind, folder: Path) -> None:
    event = "x" * 5_000_000
    with Emulator(kind, folder, runtime(kind, "app.echo")) as emulator:
        assert emulator.invoke(event).json() == event


@shows("`--runtime-interface-emulator-address`", "options behind the command")
def test_the_address_may_stand_behind_the_command(kind: Kind, folder: Path) -> None:
    port = free_port()
    command = [*runtime(kind, "app.count"), "--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    with Emulator(kind, folder, command, address=False, port=port) as emulator:
        assert emulator.invoke().json()[0] == 1


def test_other_methods_and_names_are_as_the_service_has_them(kind: Kind, folder: Path) -> None:
    with Emulator(kind, folder, runtime(kind, "app.count")) as emulator:
        other_method = emulator.call(b"{}", method="PUT")
        other_name = emulator.call(b"{}", path=INVOKE_PATH.replace("/function/", "/orders/"))
        other_path = emulator.call(b"{}", path="/nothing")
    assert other_method.status == (200 if kind == "aws" else 405)
    assert other_name.status == (404 if kind == "aws" else 200)
    assert other_path.status == 404
