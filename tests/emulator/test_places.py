"""What is found where in an image: the bootstrap, and external extensions."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from tests.emulator import image
from tests.emulator.emulators import Emulator, script
from tests.emulator.rows import shows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.emulator.emulators import Kind

pytestmark = pytest.mark.skipif(
    not image.can_be_made(), reason="this machine does not let us have mounts of our own"
)

EXTENSION = f"""#!{sys.executable} -IS
import http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def call(method, path, headers, body=b""):
    api.request(method, "/2020-01-01/extension/" + path, body, headers)
    response = api.getresponse()
    return response.headers, response.read()
name = os.path.basename(__file__)
events = json.dumps({{"events": ["INVOKE"]}}).encode()
headers, _ = call("POST", "register", {{"Lambda-Extension-Name": name}}, events)
print("registered", name, flush=True)
me = {{"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}}
while True:
    event = json.loads(call("GET", "event/next", me)[1])
    print(name, event["eventType"], event.get("requestId"), flush=True)
"""


@shows("no command: the bootstrap")
def test_without_a_command_the_first_bootstrap_is_run(kind: Kind, tmp_path: Path) -> None:
    source = "rid, _ = take()\nrespond(rid, [sys.argv[1], os.getcwd(), os.environ.get('_HANDLER')])\ntake()"
    command = script(tmp_path, source)
    root = tmp_path / "image"
    (root / "var/task").mkdir(parents=True)
    for place in ("var/task", "opt", "var/runtime"):
        (root / place).mkdir(parents=True, exist_ok=True)
        bootstrap = root / place / "bootstrap"
        bootstrap.write_text(f"#!/bin/sh\nexec {' '.join(command)} /{place}\n", encoding="utf-8")
        bootstrap.chmod(0o755)
    for place in ("var/task", "opt", "var/runtime"):
        with Emulator(
            kind, tmp_path, [], variables={"_HANDLER": "app.handler"}, prefix=image.inside(root)
        ) as emulator:
            assert emulator.invoke().json() == [f"/{place}", "/var/task", "app.handler"]
        (root / place / "bootstrap").unlink()


@shows("`/opt/extensions`")
def test_extensions_of_the_image_are_started(kind: Kind, tmp_path: Path) -> None:
    root = tmp_path / "image"
    extensions = root / "opt/extensions"
    extensions.mkdir(parents=True)
    for name in ("first", "second"):
        (extensions / name).write_text(EXTENSION, encoding="utf-8")
        (extensions / name).chmod(0o755)
    (extensions / "first-library").mkdir()
    command = script(tmp_path, "print('runtime', flush=True)\nrid, _ = take()\nrespond(rid, rid)\ntake()")
    with Emulator(kind, tmp_path, command, prefix=image.inside(root)) as emulator:
        request_id = emulator.invoke().json()
        names = ("first", "second")
        log = emulator.wait_for_log(lambda log: all(f"{name} INVOKE {request_id}" in log for name in names))
    for name in names:
        assert f"registered {name}" in log


def test_layers_take_the_place_of_what_the_image_has(tmp_path: Path) -> None:
    root = tmp_path / "image"
    for folder in (root / "opt/extensions", tmp_path / "layer/extensions"):
        folder.mkdir(parents=True)
    (tmp_path / "layer/extensions/mine").write_text(EXTENSION, encoding="utf-8")
    (tmp_path / "layer/extensions/mine").chmod(0o755)
    shutil.copy(tmp_path / "layer/extensions/mine", root / "opt/extensions/theirs")
    command = script(tmp_path, "rid, _ = take()\nrespond(rid, 1)\ntake()")
    options = ["--layer", str(tmp_path / "layer")]
    with Emulator("caloric", tmp_path, command, options=options, prefix=image.inside(root)) as emulator:
        emulator.invoke()
        log = emulator.wait_for_log(lambda log: "mine INVOKE" in log)
    assert "theirs" not in log
