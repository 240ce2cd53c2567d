"""What `make` says on a machine that lacks something."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ALWAYS_THERE = ("bash", "cut", "dirname", "find", "head", "make", "sed", "sort")


class Machine:
    """A PATH with chosen programs on it, and a home without pyenv."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "bin"
        self.bin.mkdir()
        self.home = root / "home"
        for name in ALWAYS_THERE:
            found = shutil.which(name)
            assert found, f"this test needs {name} on PATH"
            (self.bin / name).symlink_to(found)
        self.add("cargo", "exit 1")
        self.add("rustc", "echo 'rustc 1.999.0 (0000000 2026-01-01)'")
        self.add("cc", "exit 1")
        self.add("python3", f'exec {sys.executable} "$@"')

    def add(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!{self.bin}/bash\n{script}\n")
        path.chmod(0o755)

    def remove(self, name: str) -> None:
        (self.bin / name).unlink()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": str(self.bin), "HOME": str(self.home)}
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def assert_one_line(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert part in result.stderr


@pytest.mark.parametrize("target", ["build", "demo", "test", "test-all", "lint", "bench", "wheel"])
def test_missing_cargo_is_one_line(machine: Machine, target: str) -> None:
    machine.remove("cargo")
    assert_one_line(machine.run("make", target), "cargo is missing", "https://rustup.rs")


def test_old_rust_is_one_line_with_both_versions(machine: Machine) -> None:
    machine.add("rustc", "echo 'rustc 1.70.0 (0000000 2023-01-01)'")
    assert_one_line(machine.run("make", "build"), "Rust 1.70.0 is too old", "1.88 or later")


def test_missing_linker_is_one_line(machine: Machine) -> None:
    machine.remove("cc")
    assert_one_line(machine.run("make", "build"), "a C linker is missing", "apt install gcc")


def test_missing_python_is_one_line(machine: Machine) -> None:
    machine.remove("python3")
    assert_one_line(machine.run("make", "build"), "no CPython 3.10 to 3.13", "https://www.python.org")


def test_python_without_venv_is_no_python(machine: Machine) -> None:
    machine.add("python3", "echo \"No module named 'ensurepip'\" >&2; exit 1")
    assert_one_line(machine.run("make", "build"), "can make a virtual environment")


def test_python_is_found_under_pyenv_and_by_version(machine: Machine) -> None:
    version = "{}.{}".format(*sys.version_info)
    base = Path(sys.base_prefix) / "bin" / "python3"
    machine.remove("python3")
    machine.add(f"python{version}", f'exec {base} "$@"')
    assert machine.run("tools/toolchain", "pythons").stdout.startswith(f"{version} ")
    machine.remove(f"python{version}")
    pyenv = machine.home / ".pyenv" / "versions" / f"{version}.0" / "bin"
    pyenv.mkdir(parents=True)
    (pyenv / "python").symlink_to(base)
    assert machine.run("tools/toolchain", "pythons").stdout.startswith(f"{version} ")
    assert machine.run("tools/toolchain", "python").stdout.strip()
    assert version not in machine.run("tools/toolchain", "absent").stdout.split()


def test_everything_there_says_nothing(machine: Machine) -> None:
    result = machine.run("tools/toolchain", "missing")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_make_alone_needs_nothing_and_lists_the_targets(machine: Machine) -> None:
    for name in ("cargo", "rustc", "cc", "python3"):
        machine.remove(name)
    os.symlink(shutil.which("expand") or "", machine.bin / "expand")
    result = machine.run("make")
    assert result.returncode == 0
    assert "make test-all" in result.stdout


def test_a_missing_browser_is_one_line_before_anything_is_built(machine: Machine) -> None:
    result = machine.run("make", "test")
    assert_one_line(result, "Chromium is missing", "apt install chromium", "CHROMIUM=/path/to/chromium")


def test_a_browser_that_is_named_must_be_there(machine: Machine) -> None:
    machine.add("apt-get", "exit 1")
    result = machine.run("bash", "-c", "CHROMIUM=/no/such/browser tools/toolchain missing-browser")
    assert result.stdout.startswith("Chromium is missing")


def test_any_browser_of_the_family_will_do(machine: Machine) -> None:
    machine.add("google-chrome", "exit 0")
    assert machine.run("tools/toolchain", "missing-browser").stdout == ""
    assert machine.run("tools/toolchain", "chromium").stdout == f"{machine.bin}/google-chrome\n"
