"""Hints about failed imports: only where the reason is on disk."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import sysconfig
from pathlib import Path

import pytest

from caloric import _rust, import_hints
from caloric.import_hints import hint

HERE = f"{sys.version_info[0]}{sys.version_info[1]}"
OTHER = "39"
MACHINE = platform.machine()
OTHER_MACHINE = "aarch64" if MACHINE != "aarch64" else "x86_64"
LIBC = "musl" if "musl" in (sysconfig.get_config_var("EXT_SUFFIX") or "") else "gnu"
OTHER_LIBC = "gnu" if LIBC == "musl" else "musl"


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task root that is searched first, and layers beside it."""
    root = tmp_path / "task"
    root.mkdir()
    (tmp_path / "opt").mkdir()
    monkeypatch.setattr(import_hints, "_LAYERS", str(tmp_path / "opt"))
    monkeypatch.setattr(sys, "path", [str(root), *sys.path])
    monkeypatch.chdir(root)
    return root


def write(path: Path, content: bytes | str = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    importlib.invalidate_caches()
    return path


def hint_about(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        return hint(error)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == module.partition(".")[0]]:
            del sys.modules[name]
    raise AssertionError(f"{module} can be imported")


@pytest.mark.parametrize(
    ("tag", "built_for"),
    [
        (f"cpython-{OTHER}-{MACHINE}-linux-{LIBC}.so", "CPython 3.9"),
        (f"cpython-{HERE}-{OTHER_MACHINE}-linux-{LIBC}.so", OTHER_MACHINE),
        (f"cpython-{HERE}-{MACHINE}-linux-{OTHER_LIBC}.so", "musl" if OTHER_LIBC == "musl" else "glibc"),
        (f"cpython-{HERE}-darwin.so", "macOS"),
        (f"cp{HERE}-win_amd64.pyd", "Windows"),
        ("pypy310-pp73-x86_64-linux-gnu.so", "PyPy"),
    ],
)
@pytest.mark.parametrize(
    "statement", ["from . import _speed", "from hinted._speed import f", "import hinted._speed"]
)
def test_an_extension_for_another_python_or_platform(
    task: Path, tag: str, built_for: str, statement: str
) -> None:
    write(task / "hinted/__init__.py", statement)
    extension = write(task / f"hinted/_speed.{tag}")
    found = hint_about("hinted")
    assert found is not None
    assert found.startswith(f"{extension} is built for {built_for}")


@pytest.mark.parametrize(
    "name", ["_speed.abi3.so", f"_speed{sysconfig.get_config_var('EXT_SUFFIX')}", "_speed.so"]
)
def test_an_extension_that_can_be_found_is_not_blamed(task: Path, name: str) -> None:
    write(task / "hinted/__init__.py", "import hinted.nothing")
    write(task / f"hinted/{name}")
    write(task / f"hinted/_speed.cpython-{OTHER}-{MACHINE}-linux-{LIBC}.so")
    assert hint_about("hinted") is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00" + bytes(44),
            "is built for aarch64, and this is x86_64",
        ),
        (b"\xcf\xfa\xed\xfe" + bytes(60), "is a library for macOS"),
        (b"MZ" + bytes(62), "is a library for Windows"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"", "is empty"),
        (b"<html>not found</html>", "is not a library"),
    ],
)
def test_a_file_that_is_no_library_of_this_machine(task: Path, content: bytes, says: str) -> None:
    if "x86_64" in says and MACHINE != "x86_64":
        content = content.replace(b"\xb7\x00", b"\x3e\x00")
        says = f"is built for x86_64, and this is {MACHINE}"
    path = write(task / "hinted.so", content)
    found = hint_about("hinted")
    assert found is not None
    assert found.startswith(f"{path} {says}")


def test_a_library_of_this_machine_is_not_blamed(task: Path) -> None:
    # It is another module, and says so.
    write(task / "hinted.so", Path(_rust.__file__).read_bytes())
    assert hint_about("hinted") is None


@pytest.mark.skipif(LIBC != "gnu", reason="tells of glibc")
def test_a_library_for_a_newer_glibc() -> None:
    message = "/lib64/libc.so.6: version `GLIBC_9.99' not found (required by /opt/python/x.so)"
    found = hint(ImportError(message, name="x", path="/opt/python/x.so"))
    assert found is not None
    assert found.startswith(
        f"/opt/python/x.so needs glibc 9.99, and this system has {platform.libc_ver()[1]}"
    )
    assert hint(ImportError(message.replace("9.99", "2.2"), name="x", path="/opt/python/x.so")) is None


@pytest.mark.skipif(LIBC != "gnu", reason="tells of glibc")
def test_a_library_for_musl() -> None:
    message = "libc.musl-x86_64.so.1: cannot open shared object file: No such file or directory"
    found = hint(ImportError(message, name="x", path="/opt/python/x.so"))
    assert found is not None
    assert "built for musl" in found


def test_a_name_in_another_case(task: Path) -> None:
    path = write(task / "Hinted.py")
    found = hint_about("hinted")
    assert found is not None
    assert found.startswith(f"{path} is there, but capitals count")


@pytest.mark.parametrize("place", ["hinted.py", "hinted/__init__.py"])
@pytest.mark.parametrize("folder", ["", "python/python", "lib/python{v}/site-packages"])
def test_a_layer_with_its_packages_in_the_wrong_folder(task: Path, folder: str, place: str) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    root = task.parent / "opt" / folder.replace("{v}", version)
    write(root / place)
    found = hint_about("hinted")
    assert found is not None
    assert found.startswith(f"{root}/hinted")
    assert "the layer's zip must hold a folder python" in found


def test_a_layer_for_another_python(task: Path) -> None:
    write(task.parent / "opt/python/lib/python3.9/site-packages/hinted/__init__.py")
    found = hint_about("hinted")
    assert found is not None
    assert "searched only by python3.9" in found


def test_a_module_in_a_folder_of_the_package(task: Path) -> None:
    path = write(task / "src/hinted.py")
    found = hint_about("hinted")
    assert found is not None
    assert found.startswith(f"{path} is there, but {task}/src is not searched")


def test_a_part_of_another_package_is_not_taken_for_the_module(task: Path) -> None:
    write(task / "other/__init__.py")
    write(task / "other/hinted.py")
    write(task / "folder/hinted/README")
    assert hint_about("hinted") is None


@pytest.mark.parametrize(
    "error",
    [
        ImportError(),
        ImportError("anything"),
        ModuleNotFoundError("no name"),
        ModuleNotFoundError("No module named 'nowhere.to.be.found'", name="nowhere.to.be.found"),
        ImportError("cannot import name 'x' from 'os'", name="os", path=os.__file__),
        ImportError(
            "cannot import name 'x' from 'json'", name="json", path=importlib.import_module("json").__file__
        ),
        ImportError("nul", name="x", path="/a\0b.so"),
    ],
)
def test_nothing_is_said_without_evidence(error: ImportError) -> None:
    assert hint(error) is None
