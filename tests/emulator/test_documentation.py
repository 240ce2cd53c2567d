"""The table of docs/emulate.md, and the tests that show what it says."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.emulator.rows import SHOWN, rows


def test_each_row_that_says_same_is_shown_by_a_test_with_both_emulators() -> None:
    for module in sorted(Path(__file__).parent.glob("test_*.py")):
        import_module(f"tests.emulator.{module.stem}")
    same = {row for row, ours in rows().items() if ours.startswith("same")}
    assert len(same) > 15
    assert same == set(SHOWN)
