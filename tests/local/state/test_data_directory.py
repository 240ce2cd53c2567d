"""One service per data directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from caloric.local.state.data_directory import DataDirectory
from caloric.local.state.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import pathlib, sys
from caloric.local.state.data_directory import DataDirectory
directory = DataDirectory(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_only_the_owner_reads_environment_variables_and_code(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data") as directory:
        with directory.store.write() as transaction:
            transaction.put("function", "a", document={})
        for name in ("state.db", "state.db-wal", "state.db-shm"):
            assert (directory.folder / name).stat().st_mode & 0o777 == 0o600
        assert directory.blobs.folder.stat().st_mode & 0o777 == 0o700


def test_a_second_service_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with DataDirectory(folder):
        with pytest.raises(StateError) as raised:
            DataDirectory(folder)
        assert str(raised.value) == (
            f"{folder} is used by another local Lambda service (process {os.getpid()}): "
            "stop it, or use another data directory"
        )
    DataDirectory(folder).close()


def test_another_process_holds_it_until_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match=rf"\(process {process.pid}\)"):
            DataDirectory(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        DataDirectory(tmp_path).close()


def test_a_child_that_outlives_the_service_does_not_hold_it(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    with subprocess.Popen(["sleep", "60"]) as child:
        directory.close()
        DataDirectory(tmp_path).close()
        child.kill()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="file/data cannot be used: Not a directory"):
        DataDirectory(tmp_path / "file" / "data")


def test_a_damaged_directory_is_not_held(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"no database" * 1000)
    for _ in range(2):
        with pytest.raises(StateError, match="is damaged"):
            DataDirectory(tmp_path)
