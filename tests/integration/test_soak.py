"""The soak, `make soak`: a few thousand invocations of it, and that it would see what it looks for."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from bench import soak
from bench.layout import FUNCTIONS
from bench.soak import BATCH, TOLERANCE_KB, Sample, make_invocation, memory_problems
from tests.runtimes import CALORIC

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("way", CALORIC)
def test_a_few_thousand_invocations_pass(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "soak.json"
    arguments = ["--invocations", "2500", "--way", way, "--seed", "1", "--output", str(output)]
    assert soak.main(arguments) == 0, capsys.readouterr().err
    result = json.loads(output.read_text())
    assert result["verdict"] == "passed"
    assert result["invocations"] == 2500
    assert result["errors"] > 0
    assert result["log_lines_seen"] == result["log_lines_expected"] > 100
    assert result["machine"]["python"]
    assert "passed: 2,500 invocations" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("return {'id': context.aws_request_id, 'token': 'other', 'data': ''}", "was answered"),
        ("return None", "was answered"),
        ("print('soak other')", "a line that belongs to no event"),
        ("import os; os._exit(3)", "was answered"),
        ("sys.stdout.write = lambda text: None", "a log line was lost"),
    ],
    ids=["other-token", "no-result", "stray-line", "exit", "lost-line"],
)
def test_a_function_that_does_something_else_fails(
    change: str,
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = (FUNCTIONS / "soak.py").read_text()
    (tmp_path / "soak.py").write_text(
        source.replace(
            "    token = event", f"    if event['token'].startswith('70-'): {change}\n    token = event"
        )
    )
    monkeypatch.setattr("bench.soak.FUNCTIONS", tmp_path)
    monkeypatch.setattr(soak, "PATIENCE_S", 3)
    output = tmp_path / "soak.json"
    assert soak.main(["--invocations", "700", "--seed", "1", "--output", str(output)]) == 1
    assert problem in capsys.readouterr().err
    assert json.loads(output.read_text())["verdict"] == "failed"


def test_an_answer_of_another_invocation_is_noticed() -> None:
    class Result:
        request_id = "soak-1"
        payload = b""

    one, other = (make_invocation(number, random.Random(number)) for number in (1, 2))
    Result.request_id, Result.payload = one.request_id, one.expected_payload()
    assert one.do == "return"
    assert one.check(Result) is None  # type: ignore[arg-type]
    Result.payload = other.expected_payload()
    assert "was answered" in (one.check(Result) or "")  # type: ignore[arg-type]
    assert "got the result of" in (other.check(Result) or "")  # type: ignore[arg-type]


def samples(*resident: int, descriptors: int = 6) -> list[Sample]:
    """One sample per batch; the last has so many descriptors."""
    last = len(resident)
    return [
        Sample(index * BATCH, kb, kb, descriptors if index == last else 6, 30_000, 20)
        for index, kb in enumerate(resident, 1)
    ]


def test_memory_that_grows_is_noticed_and_noise_is_not() -> None:
    assert memory_problems(samples(*[17_000] * 100)) == []
    assert memory_problems(samples(17_000)) == []
    noisy = [17_000 + index % 3 * 100 for index in range(100)]
    noisy[50] += 5_000
    assert memory_problems(samples(*noisy)) == []
    leaking = samples(*[17_000 + index * 10 for index in range(100)])
    assert f"(tolerated: {TOLERANCE_KB})" in memory_problems(leaking)[0]
    assert memory_problems(samples(17_000, 17_000, descriptors=7)) == ["descriptors changed by +1"]
