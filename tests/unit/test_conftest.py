from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import WriteFunction


@pytest.fixture(scope="module", autouse=True)
def settings_of_the_machine() -> None:
    os.environ["AWS_REGION"] = "eu-west-1"
    os.environ["_HANDLER"] = "left.over"


def test_settings_of_the_machine_are_hidden() -> None:
    assert not {"AWS_REGION", "_HANDLER"} & set(os.environ)


def test_function_is_written_without_the_tests_indentation(write_function: WriteFunction) -> None:
    root = write_function(
        """
        def handler(event, context):
            return event
        """,
        "pkg/app.py",
    )
    assert (root / "pkg" / "app.py").read_text().startswith("\ndef handler")
