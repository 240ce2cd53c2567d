from __future__ import annotations

import gzip
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from caloric.local.http import model

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {
    "operations": {"GetThing": {"http": {"method": "GET", "requestUri": "/2015-03-31/things/{Name}"}}},
    "shapes": {},
}


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes) -> None:
    """Put a botocore before the real one."""
    service = folder / "botocore" / "data" / "lambda"
    (service / "2014-11-11").mkdir(parents=True)
    (service / "2014-11-11" / "service-2.json").write_bytes(b"{}")
    (service / "2015-03-31").mkdir()
    (service / "2015-03-31" / name).write_bytes(content)
    (folder / "botocore" / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])


def test_the_installed_model_is_found_and_read() -> None:
    operation = model.load().operations["CreateFunction"]
    assert (operation.method, operation.uri, operation.status) == ("POST", "/2015-03-31/functions", 201)
    assert operation.input is not None
    assert operation.input.required == ("FunctionName", "Role", "Code")
    assert operation.input.members["Timeout"].shape.minimum == 1
    assert operation.input.members["Environment"].shape.members["Variables"].shape.sensitive


@pytest.mark.parametrize("name", ["service-2.json", "service-2.json.gz"])
def test_the_model_is_read_plain_and_compressed_without_importing_botocore(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.dumps(SMALL).encode()
    installed(tmp_path, monkeypatch, name, gzip.compress(content) if name.endswith("gz") else content)
    assert model.find() == tmp_path / "botocore" / "data" / "lambda" / "2015-03-31" / name
    assert list(model.load().operations) == ["GetThing"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("service-2.json", b"not json"),
        ("service-2.json", b"[]"),
        ("service-2.json", b'{"operations": {}}'),
        ("service-2.json.gz", b"not gzip"),
        ("service-2.json.gz", gzip.compress(b"{}" * 100)[:-20]),
    ],
    ids=["not JSON", "no object", "no operations in it", "not gzip", "cut off"],
)
def test_a_model_that_cannot_be_read_is_named(
    name: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch, name, content)
    with pytest.raises(model.ModelError) as raised:
        model.load()
    assert str(tmp_path) in str(raised.value)
    assert "pip install caloric[local]" in str(raised.value)


def test_a_botocore_without_lambda_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "botocore").mkdir()
    (tmp_path / "botocore" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(model.ModelError, match=r"pip install caloric\[local\]"):
        model.find()


def test_without_botocore_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(model.ModelError, match=r"needs botocore .* pip install caloric\[local\]"):
        model.load()


def test_starting_the_api_imports_neither_botocore_nor_a_client() -> None:
    program = (
        "import sys\n"
        "from caloric.local.http.application import application\n"
        "application(None)\n"
        "heavy = {'botocore', 'boto3', 'httpx', 'requests', 'urllib3', 'importlib.metadata'}\n"
        "heavy.add('anyio._backends._asyncio')\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_the_model_has_nothing_that_is_not_understood() -> None:
    """A newer botocore that fails here needs work in messages.py or routes.py."""
    api = model.load()
    traits = {"jsonvalue", "flattened", "eventheader", "document", "union", "xmlName", "hostLabel"}
    locations = {"uri", "querystring", "header", "statusCode", "body", "payload"}
    types = "structure list map string integer long double float boolean blob timestamp".split()
    for name, definition in api._definitions.items():
        shape = api.shape(name)
        assert shape.type in types
        assert not traits & set(definition), name
        for member in definition.get("members", {}).values():
            assert not traits & set(member), name
        if shape.type == "structure":
            assert {member.location for member in shape.members.values()} <= locations, name
