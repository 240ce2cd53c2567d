from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests import parts

if TYPE_CHECKING:
    from pathlib import Path


def test_every_sample_event_is_json_without_placeholders() -> None:
    for name, event in parts.sample_events().items():
        assert json.loads(event), name
        assert b"{{" not in event, name


def test_placeholders_are_filled_in_the_form_sam_gives_them() -> None:
    events = {name: json.loads(event) for name, event in parts.sample_events().items()}
    assert events["apigateway/AwsProxy"]["body"] == "eyJ0ZXN0IjoiYm9keSJ9"
    assert events["apigateway/AwsProxy"]["queryStringParameters"] == {"foo": "bar"}
    assert events["s3/S3Put"]["Records"][0]["s3"]["object"]["key"] == "test/key"
    record = events["sqs/Sqs"]["Records"][0]
    assert record["md5OfBody"] == "7b270e59b47ff90a553787216d55d91d"


def test_emulator_runs_on_this_machine() -> None:
    # It takes a program it does not know for a runtime; a log level it does not know makes it stop at once.
    command = [str(parts.rie()), "--log-level", "nonsense"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    assert result.returncode == 1
    assert "Valid log levels" in result.stderr


def test_a_changed_part_is_an_error_that_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PARTS", tmp_path)
    monkeypatch.setattr(parts, "MANIFEST", tmp_path / "manifest.json")
    monkeypatch.setattr(parts, "RIE", tmp_path / "aws-lambda-rie")
    with pytest.raises(parts.PartsMissingError, match="run `make test`"):
        parts.rie()
    parts.RIE.write_bytes(b"binary")
    parts.MANIFEST.write_text(json.dumps({"inputs": parts.inputs(), "sizes": parts.sizes()}))
    assert parts.rie() == parts.RIE
    parts.RIE.write_bytes(b"cut")
    with pytest.raises(parts.PartsMissingError):
        parts.rie()
