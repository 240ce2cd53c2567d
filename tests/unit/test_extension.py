"""`caloric.extension` without a platform: what its decorators take and refuse, events, errors, and what it imports."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

import caloric
from caloric._rust import ExtensionClient
from caloric.errors import Error
from caloric.extension import Extension, ExtensionError, InvokeEvent, ShutdownEvent


def test_the_name_is_that_of_the_program() -> None:
    assert Extension().name == sys.argv[0].rpartition("/")[2]
    assert Extension("observer").name == "observer"


@pytest.mark.parametrize("name", ["", "/opt/extensions/observer"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name for an extension"):
        Extension(name)


def test_decorators_return_the_function() -> None:
    extension = Extension("observer")

    def function(*_: Any) -> None: ...

    for decorate in (extension.on_init, extension.on_invoke, extension.on_shutdown):
        assert decorate(function) is function
    assert extension.on_telemetry("platform")(function) is function


def test_what_is_no_plain_function_is_refused() -> None:
    extension = Extension("observer")

    async def coroutine(_event: Any) -> None: ...

    with pytest.raises(TypeError, match="coroutine is async: callbacks of an extension are plain functions"):
        extension.on_invoke(coroutine)
    nothing: Any = 7
    with pytest.raises(TypeError, match="7 cannot be called"):
        extension.on_shutdown(nothing)


def test_telemetry_needs_types() -> None:
    extension = Extension("observer")
    bare: Any = extension.on_telemetry
    with pytest.raises(TypeError, match="on_telemetry needs types"):
        bare(print)
    with pytest.raises(TypeError, match="on_telemetry needs types"):
        extension.on_telemetry()
    with pytest.raises(ValueError, match="'logs' is no type of telemetry"):
        extension.on_telemetry("logs")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_items": 999}, "max_items is 999: AWS allows 1000 to 10000"),
        ({"max_bytes": 2_000_000}, "max_bytes is 2000000: AWS allows 262144 to 1048576"),
        ({"timeout_ms": 0}, "timeout_ms is 0: AWS allows 25 to 30000"),
    ],
)
def test_buffering_has_awss_limits(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Extension("observer").on_telemetry("platform", **options)  # type: ignore[arg-type]


def test_there_is_one_subscription() -> None:
    extension = Extension("observer")
    extension.on_telemetry("platform", timeout_ms=25)
    extension.on_telemetry("function", timeout_ms=25, schema_version="2022-07-01")
    with pytest.raises(ValueError, match="timeout_ms is 100 here and 25 in an earlier on_telemetry"):
        extension.on_telemetry("function", timeout_ms=100)
    with pytest.raises(ValueError, match="an extension has one subscription"):
        extension.on_telemetry("function", schema_version="2025-01-29")


def test_events_say_what_the_platform_said() -> None:
    deadline = int(time.time() * 1000) + 60_000
    raw = {
        "eventType": "INVOKE",
        "deadlineMs": deadline,
        "requestId": "id-1",
        "invokedFunctionArn": "arn:aws:lambda:eu-west-1:111122223333:function:orders",
        "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1"},
    }
    event = InvokeEvent(raw)
    assert (event.request_id, event.invoked_function_arn) == ("id-1", raw["invokedFunctionArn"])
    assert (event.trace_id, event.deadline_ms, event.raw) == ("Root=1", deadline, raw)
    assert 0 < event.get_remaining_time_in_millis() <= 60_000
    assert repr(event) == f"InvokeEvent({raw!r})"
    end = ShutdownEvent({"shutdownReason": "TIMEOUT", "deadlineMs": 1})
    assert (end.reason, end.get_remaining_time_in_millis()) == ("timeout", 0)


@pytest.mark.parametrize(
    "error_type", ["Extension", "Extension.", "Extension.no", "Runtime.Error", "Extension.A-b"]
)
def test_an_error_type_that_the_platform_would_not_keep_is_refused(error_type: str) -> None:
    with pytest.raises(ValueError, match="is no error type of an extension"):
        ExtensionError(error_type)


def test_errors_have_a_type_and_a_text() -> None:
    error = ExtensionError("Extension.NoSink", "nobody listens")
    assert (error.error_type, str(error)) == ("Extension.NoSink", "nobody listens")
    assert str(ExtensionError("Extension.NoSink")) == "Extension.NoSink"
    assert isinstance(error, Error)


def test_calls_in_the_wrong_order_are_errors() -> None:
    client = ExtensionClient(address="127.0.0.1:1", user_agent="test")
    assert client.waiting == 0
    assert client.wait(timeout_s=0) is None
    with pytest.raises(RuntimeError, match="the extension is not registered"):
        client.poll()
    with pytest.raises(RuntimeError, match="the extension is not registered"):
        client.subscribe(subscription={})
    with pytest.raises(RuntimeError, match="the extension is not registered"):
        client.init_error(error_type="Extension.Test", body=b"")
    with pytest.raises(caloric.RuntimeApiError, match="cannot connect to the Runtime API"):
        client.register(name="observer", events=[])


def test_a_port_that_is_taken_is_no_obstacle() -> None:
    first, second = (ExtensionClient("127.0.0.1:1", "test") for _ in range(2))
    port = first.listen(host="127.0.0.1", preferred_port=0)
    assert second.listen("127.0.0.1", port) not in (0, port)


def test_it_imports_next_to_nothing() -> None:
    # Its start is part of the function's cold start. What `site` imports, every Python program has.
    script = (
        "import sys; before = set(sys.modules); import caloric.extension; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    ours = {"caloric", "caloric.errors", "caloric.extension"}
    assert set(done.stdout.split()) - {"__future__"} == ours


def test_the_package_has_it_when_it_is_asked_for() -> None:
    script = (
        "import caloric, sys; assert 'caloric.extension' not in sys.modules;"
        "assert 'extension' in dir(caloric); print(caloric.extension.Extension.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "Extension\n"
