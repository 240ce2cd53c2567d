"""`caloric local runtime add`: a wheel for a Python that is not the service's own."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

import caloric as package
from tests.local.cli.commands import caloric

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Return a wheel of Caloric for this Python, of what is installed, which requires nothing."""
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    path = tmp_path / f"caloric-0.1.0-{tag}-{tag}-linux_x86_64.whl"
    source = Path(package.__file__).parent
    with zipfile.ZipFile(path, "w") as archive:
        names = []
        for file in sorted(source.rglob("*")):
            name = f"caloric/{file.relative_to(source)}"
            if file.is_file() and "__pycache__" not in name:
                archive.write(file, name)
                names.append(name)
        info = "caloric-0.1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: caloric\nVersion: 0.1.0\n")
        archive.writestr(
            f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}-{tag}-linux_x86_64\n"
        )
        names += [f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD"]
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))
    return path


def test_a_wheel_is_installed_where_the_service_looks(wheel: Path, tmp_path: Path) -> None:
    run = caloric("runtime", "add", VERSION, str(wheel), cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    target = tmp_path / ".caloric/runtimes" / f"python{VERSION}"
    assert f"find it in {target}" in run.stderr
    assert (target / "caloric/bootstrap.py").is_file()


def test_a_file_that_is_no_wheel_is_a_mistake_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.whl").write_text("no wheel", encoding="utf-8")
    run = caloric("runtime", "add", VERSION, "broken.whl", cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("caloric local: ")
    assert "Traceback" not in run.stderr
    assert list((tmp_path / ".caloric/runtimes").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["3.99"], "needs Python 3.99, which is not on this machine"),
        (["3.99", "missing.whl"], "the wheel 'missing.whl' does not exist"),
    ],
)
def test_what_cannot_be_added_is_named(arguments: list[str], message: str, tmp_path: Path) -> None:
    run = caloric("runtime", "add", *arguments, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert message in run.stderr.splitlines()[-1]
