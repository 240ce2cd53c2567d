"""The examples of lifecycle hooks: those of the documentation, and the one in `examples/`."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtimes import environment

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")
ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = BLOCK.findall((ROOT / "docs/lifecycle.md").read_text(encoding="utf-8"))
(README,) = [
    block for block in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")) if "lifecycle" in block
]


def invoke(folder: Path, event: object, repeat: int = 1) -> tuple[list[str], str]:
    """Return the results and the log of a whole environment."""
    variables = environment("")
    del variables["AWS_LAMBDA_RUNTIME_API"]
    command = [CALORIC, "invoke", "app.handler", "--event", json.dumps(event), "--repeat", str(repeat)]
    run = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=30, check=True
    )
    return run.stdout.splitlines(), run.stderr


@pytest.mark.parametrize(
    ("number", "result", "said"),
    [
        (0, '"done"', [r"connecting\n", r"sending \['success', 'success'\] within 0\.\d\d s\n"]),
        (1, '"done"', [r"[-0-9a-f]{36}: None after \d+ ms\n"]),
        (2, '["token"]', [r"logged out\n"]),
    ],
)
def test_the_examples_of_the_documentation_do_what_they_say(
    number: int, result: str, said: list[str], write_function: WriteFunction
) -> None:
    assert len(EXAMPLES) == 3
    results, log = invoke(write_function(EXAMPLES[number]), {}, repeat=2)
    assert results == [result, result]
    for line in said:
        assert re.search(line, log), log


def test_the_readmes_example_runs_at_the_end(write_function: WriteFunction) -> None:
    _, log = invoke(write_function(README + "\ndef handler(event, context): pass\n"), {})
    assert re.search(r"\d+ ms to send what is left\n", log), log


def test_the_example_sends_full_batches_and_what_is_left() -> None:
    _, log = invoke(ROOT / "examples/lifecycle", {"a": 6, "b": 3}, repeat=12)
    batches = [json.loads(line) for line in log.splitlines() if line.startswith('{"sent"')]
    assert [batch["sent"] for batch in batches] == [10, 2]
    assert batches[0]["reason"] == "full"
    assert batches[1]["reason"].startswith("shutdown, ")
    assert all(metric["ok"] for batch in batches for metric in batch["metrics"])
