"""Whatever an event and a result hold, they come through: endpoint, wire, decoder, handler, encoder, wire, endpoint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloric._rust import ExecutionEnvironment
from caloric.local.process import function_environment, supervise
from tests.runtimes import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutionEnvironment]:
    """An environment whose function answers with its event: JSON with JSON, bytes with bytes."""
    root = tmp_path_factory.mktemp("task")
    (root / "app.py").write_text("def handler(event, context): return event")
    environment = ExecutionEnvironment(timeout_ms=60_000, init_timeout_ms=60_000)
    variables = function_environment(environment, handler="app.handler", task_root=str(root))
    process = supervise(environment, [*COMMANDS["fast"], "app.handler"], variables, cwd=str(root))
    yield environment
    environment.close()
    process.join(5)


@settings(max_examples=200)
@given(value=JSON_VALUES)
def test_any_json_comes_back_as_it_was(echo: ExecutionEnvironment, value: Any) -> None:
    result = echo.invoke(json.dumps(value).encode())
    assert result.function_error is None
    # Equal, and of the same types: 1 is not 1.0.
    assert repr(json.loads(result.payload)) == repr(value)


@settings(max_examples=200)
@given(
    body=st.binary()
    | st.builds(lambda byte, count: byte * count, st.binary(max_size=9), st.integers(0, 60_000))
)
def test_any_bytes_come_back_as_they_were(echo: ExecutionEnvironment, body: bytes) -> None:
    result = echo.invoke(body, content_type="application/octet-stream")
    assert result.function_error is None
    assert result.payload == body
    assert result.content_type == "application/unknown"


def test_the_largest_ones_come_back_as_they_were(echo: ExecutionEnvironment) -> None:
    body = bytes(range(256)) * (6 * 4096)
    assert len(body) == 6 << 20
    assert echo.invoke(body, content_type="application/octet-stream").payload == body
    text = "é漢🚚\\" * 300_000
    assert json.loads(echo.invoke(json.dumps(text, ensure_ascii=False).encode()).payload) == text
