"""`caloric.extension` under both emulators; AWS's has the Extensions API and no telemetry."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.emulator import image
from tests.emulator.emulators import Emulator, script

if TYPE_CHECKING:
    from pathlib import Path

    from tests.emulator.emulators import Kind

EXTENSION = f"""#!{sys.executable}
from caloric.extension import Extension

extension = Extension()

def say(*what):
    # In one write: the emulator's own lines go to the same place.
    print(" ".join(map(str, what)) + "\\n", end="", flush=True)

@extension.on_init
def init():
    say("observer init", extension.handler, extension.receives_telemetry)

@extension.on_invoke
def invoked(event):
    say("observer invoke", event.request_id, event.get_remaining_time_in_millis() > 0)

@extension.on_telemetry("platform", timeout_ms=25)
def telemetry(records):
    say("observer telemetry", *[record["type"] for record in records])

@extension.on_shutdown
def shutdown(event):
    say("observer shutdown", event.reason, event.get_remaining_time_in_millis() > 0)

extension.run()
"""


@pytest.mark.skipif(not image.can_be_made(), reason="this machine does not let us have mounts of our own")
def test_an_extension_in_the_image_hears_of_invocations_and_the_end(kind: Kind, tmp_path: Path) -> None:
    extensions = tmp_path / "image/opt/extensions"
    extensions.mkdir(parents=True)
    (extensions / "observer").write_text(EXTENSION, encoding="utf-8")
    (extensions / "observer").chmod(0o755)
    command = script(tmp_path, "while True:\n    rid, _ = take()\n    respond(rid, rid)")
    with Emulator(kind, tmp_path, command, prefix=image.inside(tmp_path / "image")) as emulator:
        ids = [json.loads(emulator.invoke().body) for _ in range(2)]
        emulator.wait_for_log(lambda log: all(f"observer invoke {one} True\n" in log for one in ids))
        emulator.end()
        log = emulator.wait_for_log(lambda log: "observer shutdown " in log)
    telemetry = kind == "caloric"
    assert f" {telemetry}\n" in log.partition("observer init ")[2].partition("\n")[0] + "\n"
    assert ("observer telemetry " in log) == telemetry
    assert ("there is no telemetry here, on_telemetry is never called: 202" in log) != telemetry
    assert log.count("observer shutdown ") == 1
