"""Which interpreter and which Caloric run `python3.X`, and what is said where there is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import caloric
from caloric._rust import __version__
from caloric.local.environments import runtimes as module
from caloric.local.environments.runtimes import (
    OWN_VERSION,
    Runtimes,
    RuntimeUnavailableError,
    find_bootstrap,
)
from tests.local.environments.conftest import version_of

if TYPE_CHECKING:
    from tests.local.environments.conftest import Make, MakeMaker

PACKAGE = Path(caloric.__file__).parent
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def probe_anew() -> None:
    module._probe.cache_clear()


def wheel_of_this_version(folder: Path) -> Path:
    """A wheel of the installed package, as `make wheel` builds it, without building it."""
    wheel = folder / f"caloric-{__version__}-py3-none-any.whl"
    info = f"caloric-{__version__}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in PACKAGE.rglob("*"):
            relative = path.relative_to(PACKAGE.parent)
            if path.is_file() and "__pycache__" not in relative.parts and "local" not in relative.parts:
                archive.write(path, relative)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: caloric\nVersion: {__version__}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def stranger(folder: Path, version: str, **told: object) -> Path:
    """A program that says of itself, when it is asked, that it is another Python."""
    answer = {
        "version": version,
        "executable": str(folder / f"python{version}"),
        "suffixes": [".another.so"],
        "caloric": None,
        "awslambdaric": None,
        **told,
    }
    folder.mkdir(exist_ok=True)
    program = folder / f"python{version}"
    program.write_text(f"#!/bin/sh\necho 'hello from sitecustomize'\necho '{json.dumps(answer)}'\n")
    program.chmod(0o755)
    return program


def package(folder: Path, suffix: str) -> Path:
    """A folder that looks like Caloric for interpreters with this suffix."""
    (folder / "caloric").mkdir(parents=True)
    (folder / "caloric" / "bootstrap.py").write_text("")
    (folder / "caloric" / f"_rust{suffix}").write_text("")
    return folder / "caloric"


def test_the_services_own_python_needs_no_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("an interpreter was started"))
    program = Runtimes(tmp_path).program(f"python{OWN_VERSION}", tmp_path)
    assert program.command == (sys.executable, "-S", str(PACKAGE / "bootstrap.py"))
    assert program.takes_handler
    assert program.knows_layers


def test_caloric_of_another_python_is_looked_for_in_its_packages_and_then_in_the_cache(
    tmp_path: Path,
) -> None:
    program = stranger(tmp_path / "bin", "3.99")
    runtimes = Runtimes(tmp_path / "runtimes", variables={"PATH": str(tmp_path / "bin")})
    with pytest.raises(RuntimeUnavailableError) as raised:
        runtimes.program("python3.99", tmp_path)
    message = str(raised.value)
    for place in (str(PACKAGE.parent), str(program), str(tmp_path / "runtimes" / "python3.99")):
        assert place in message
    assert "`caloric local runtime add 3.99`" in message
    cached = package(tmp_path / "runtimes" / "python3.99", ".another.so")
    assert runtimes.program("python3.99", tmp_path).command == (
        str(program),
        "-S",
        str(cached / "bootstrap.py"),
    )
    installed = package(tmp_path / "site-packages", ".another.so")
    stranger(tmp_path / "bin", "3.99", caloric=str(installed))
    module._probe.cache_clear()
    again = Runtimes(tmp_path / "runtimes", variables={"PATH": str(tmp_path / "bin")})
    assert again.program("python3.99", tmp_path).command[2] == str(installed / "bootstrap.py")


def test_caloric_built_for_another_python_does_not_count(tmp_path: Path) -> None:
    wrong = package(tmp_path / "site-packages", ".cpython-310-x.so")
    stranger(tmp_path / "bin", "3.99", caloric=str(wrong))
    runtimes = Runtimes(tmp_path / "runtimes", variables={"PATH": str(tmp_path / "bin")})
    with pytest.raises(RuntimeUnavailableError, match=r"built for Python 3\.99"):
        runtimes.program("python3.99", tmp_path)


def test_a_stand_in_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    # As pyenv has them for versions that are not switched on.
    first = tmp_path / "shims"
    first.mkdir()
    (first / "python3.99").write_text(
        "#!/bin/sh\necho 'pyenv: python3.99: command not found' >&2\nexit 127\n"
    )
    (first / "python3.99").chmod(0o755)
    pyenv = tmp_path / "pyenv"
    for version in ("3.99.2", "3.99.10"):
        (pyenv / "versions" / version).mkdir(parents=True)
        stranger(pyenv / "versions" / version / "bin", "3.99")
    package(tmp_path / "runtimes" / "python3.99", ".another.so")
    runtimes = Runtimes(
        tmp_path / "runtimes", variables={"PATH": f"{first}:/nowhere", "PYENV_ROOT": str(pyenv)}
    )
    newest = pyenv / "versions" / "3.99.10" / "bin" / "python3.99"
    assert runtimes.program("python3.99", tmp_path).command[0] == str(newest)


def test_a_python_that_is_not_there_is_named_with_the_places(tmp_path: Path) -> None:
    runtimes = Runtimes(tmp_path, variables={"PATH": str(tmp_path), "PYENV_ROOT": "/nowhere"})
    with pytest.raises(RuntimeUnavailableError, match=r"neither PATH nor /nowhere/versions has python3\.98"):
        runtimes.check("python3.98")


@pytest.mark.parametrize("runtime", ["nodejs22.x", "java21", "python2.7", "provided.", "", "ruby3.4"])
def test_other_runtimes_are_refused(tmp_path: Path, runtime: str) -> None:
    with pytest.raises(RuntimeUnavailableError, match="is not available locally"):
        Runtimes(tmp_path).check(runtime)


def test_the_peer_is_used_where_it_can_be_imported(tmp_path: Path) -> None:
    runtimes = Runtimes(tmp_path, runtime_client="awslambdaric")
    program = runtimes.program(f"python{OWN_VERSION}", tmp_path)
    assert program.command == (sys.executable, "-m", "awslambdaric")
    assert not program.knows_layers
    other = stranger(tmp_path / "bin", "3.99")
    runtimes = Runtimes(
        tmp_path, runtime_client="awslambdaric", variables={"PATH": str(tmp_path / "bin"), "PYENV_ROOT": "/"}
    )
    with pytest.raises(RuntimeUnavailableError, match=f"cannot be imported by {other}"):
        runtimes.check("python3.99")


def test_another_runtime_client_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one of caloric, awslambdaric"):
        Runtimes(tmp_path, runtime_client="node")


def test_the_codes_bootstrap_comes_before_the_layers(tmp_path: Path) -> None:
    code, opt = tmp_path / "code", tmp_path / "opt"
    for folder in (code, opt):
        folder.mkdir()
        (folder / "bootstrap").write_text("#!/bin/sh\n")
    (opt / "bootstrap").chmod(0o755)
    assert find_bootstrap(code, opt) == str(opt / "bootstrap")
    (code / "bootstrap").chmod(0o755)
    assert find_bootstrap(code, opt) == str(code / "bootstrap")
    assert find_bootstrap(tmp_path, None) == str(tmp_path / "bootstrap")


# ---- caloric local runtime add ---------------------------------------------------------------------------------------


def other_pythons() -> list[str]:
    return [f"3.{minor}" for minor in range(10, 14) if f"3.{minor}" != OWN_VERSION]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the wheel requires is not fetched: the runtime needs it for SnapStart alone."""
    monkeypatch.setenv("PIP_NO_DEPS", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.mark.usefixtures("offline")
def test_a_wheel_that_was_added_is_what_runs(tmp_path: Path) -> None:
    runtimes = Runtimes(tmp_path / "runtimes")
    folder = runtimes.add(OWN_VERSION, wheel_of_this_version(tmp_path))
    assert folder == tmp_path / "runtimes" / f"python{OWN_VERSION}"
    assert any((folder / "caloric" / f"_rust{suffix}").is_file() for suffix in EXTENSION_SUFFIXES)
    assert (folder / "caloric" / "bootstrap.py").is_file()
    (folder / "left").write_text("of the one before")
    assert runtimes.add(OWN_VERSION, wheel_of_this_version(tmp_path)) == folder
    assert not (folder / "left").exists()
    assert os.listdir(folder.parent) == [folder.name]


@pytest.mark.usefixtures("offline")
def test_a_wheel_for_another_python_is_refused(tmp_path: Path) -> None:
    for version in other_pythons():
        with pytest.raises(RuntimeUnavailableError) as raised:
            Runtimes(tmp_path / "runtimes").add(version, wheel_of_this_version(tmp_path))
        if "is not on this machine" not in str(raised.value):
            assert f"holds no Caloric for Python {version}" in str(raised.value)
            assert os.listdir(tmp_path / "runtimes") == []
            return
    pytest.skip("this machine has one Python only")


@pytest.mark.parametrize(
    ("version", "wheel", "message"),
    [
        ("3", None, "'3' is no Python version"),
        ("3.12.1", None, "is no Python version"),
        (OWN_VERSION, "missing.whl", "missing.whl' does not exist"),
        ("3.98", None, "is not on this machine"),
    ],
)
def test_what_cannot_be_added_is_named(tmp_path: Path, version: str, wheel: str | None, message: str) -> None:
    with pytest.raises(RuntimeUnavailableError, match=message):
        Runtimes(tmp_path).add(version, None if wheel is None else tmp_path / wheel)


def test_what_pip_says_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "caloric-1-py3-none-any.whl"
    broken.write_bytes(b"no zip file")
    with pytest.raises(RuntimeUnavailableError, match=f"pip of {sys.executable} cannot install {broken}: "):
        Runtimes(tmp_path / "runtimes").add(OWN_VERSION, broken)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("version", other_pythons())
def test_functions_of_another_python_run_when_its_caloric_was_added(
    make: Make, make_maker: MakeMaker, code: Path, tmp_path: Path, version: str
) -> None:
    # As `make test-all` builds them, or whoever runs the tests names their folder.
    folders = [ROOT / ".venvs" / version / "wheel", Path(os.environ.get("TEST_WHEELS", "/nowhere"))]
    tag = f"cp{version.replace('.', '')}"
    wheels = [wheel for folder in folders for wheel in folder.glob(f"caloric-*-{tag}-{tag}-*.whl")]
    if not wheels:
        pytest.skip(f"no wheel for Python {version}: make test-all builds it")
    runtimes = Runtimes(tmp_path / "runtimes")
    runtimes.add(version, wheels[0])
    running = make(version_of(code, runtime=f"python{version}"), maker=make_maker(runtimes=runtimes))
    seen = json.loads(running.environment.invoke(b"{}").payload)
    assert seen["version"] == version
    assert seen["variables"]["AWS_EXECUTION_ENV"] == f"AWS_Lambda_python{version}"
    shutil.rmtree(tmp_path / "runtimes")
