"""Commands find the service that runs on a data directory, and do not believe what a killed one left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

from caloric.local.service_file import Layout, ServiceFile

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_directory_is_its_owners_alone_and_left_out_of_version_control(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "deep" / ".caloric")
    layout.make()
    assert stat.S_IMODE(layout.folder.stat().st_mode) == 0o700
    assert (layout.folder / ".gitignore").read_text(encoding="ascii") == "*\n"
    layout.make()


def test_what_is_announced_is_found_while_the_service_runs_and_not_after_it(tmp_path: Path) -> None:
    ours, theirs = ServiceFile(Layout(tmp_path)), ServiceFile(Layout(tmp_path))
    assert theirs.running() is None
    ours.announce(url="http://127.0.0.1:9123", region="us-east-1")
    assert theirs.running() == {"url": "http://127.0.0.1:9123", "region": "us-east-1", "pid": os.getpid()}
    ours.withdraw()
    ours.withdraw()
    assert theirs.running() is None
    assert not (tmp_path / "service.json").exists()


def test_the_file_of_a_killed_service_is_not_believed_and_is_replaced(tmp_path: Path) -> None:
    program = (
        "import sys, time; from caloric.local.service_file import Layout, ServiceFile\n"
        "file = ServiceFile(Layout(sys.argv[1])); file.announce(url='http://127.0.0.1:9123', long='x' * 1000)\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    file = ServiceFile(Layout(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        running = file.running()
        assert running is not None
        assert running["pid"] == process.pid
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "service.json").exists()
    assert file.running() is None
    file.announce(url="http://127.0.0.1:9124")
    assert ServiceFile(Layout(tmp_path)).running() == {"url": "http://127.0.0.1:9124", "pid": os.getpid()}
    file.withdraw()
