"""What the contestants run in: a virtual environment as clean as the interpreter in Lambda, built once and
kept.

Lambda's interpreter has no `.pth` file on its path. One in ours (an editable install has one, and some
machines put one into every interpreter) would add its cost to every start, ours and the peer's alike, and
flatter the ratio to nobody's profit. So: a virtual environment without pip, the wheel as `make wheel`
builds it, the peer and boto3, all compiled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "bench"
FUNCTIONS = ROOT / "bench" / "functions"
FLOORS = ROOT / "bench" / "floors"

# Beside Caloric; in the versions that this environment has, which pyproject.toml pins or bounds.
PACKAGES = ("awslambdaric", "boto3", "orjson")

# Of the environment that the local Lambda's service is started from: what its extra brings.
SERVICE_PACKAGES = ("botocore", "orjson", "starlette", "uvicorn", "watchfiles")

# The peer of the local Lambda. It pins its own botocore, so it has an environment to itself.
MINISTACK = "ministack==1.5.33"


class LayoutError(Exception):
    """The environment cannot be set up; the message says why and what to do."""


@dataclass(frozen=True)
class Environment:
    """A clean virtual environment with Caloric and its peers."""

    folder: Path

    @property
    def python(self) -> str:
        """The interpreter."""
        return str(self.folder / "bin" / "python")

    @property
    def caloric(self) -> str:
        """The command `caloric`."""
        return str(self.folder / "bin" / "caloric")

    @property
    def site_packages(self) -> Path:
        """Where everything is installed."""
        return next(iter((self.folder / "lib").glob("python3.*"))) / "site-packages"

    @property
    def bootstrap(self) -> str:
        """The script of the fast way in."""
        return str(self.site_packages / "caloric" / "bootstrap.py")


@dataclass(frozen=True)
class Layout:
    """Everything that contestants are started from."""

    default: Environment
    production: Environment | None
    """With the wheel that has no endpoint in it. None where it was not asked for."""
    floor_client: str
    """The program of rust/core/examples/floor_client.rs."""
    service: Environment | None = None
    """With what `caloric local start` needs. None where it was not asked for."""
    ministack: str = ""
    """The program `ministack`, where the local Lambda takes part."""


def prepare(python: str, *, production: bool, tell: Callable[[str], None], service: bool = False) -> Layout:
    """Build what is missing or out of date for the interpreter `python`, and return where it is.

    `tell` is called with one line before each step that takes time. Raises `LayoutError`.
    """
    tag = _run([python, "-I", "-c", "import sysconfig; print(sysconfig.get_config_var('SOABI'))"]).strip()
    # An interpreter that maturin knows by another path would make cargo build for it from the start.
    same = tag == sysconfig.get_config_var("SOABI")
    base = _run([python, "-I", "-c", "import sys; print(sys._base_executable)"]).strip()
    build = _Build(base, sys.executable if same else python, tag, tell)
    return Layout(
        default=build.environment("default", []),
        production=build.environment("production", ["--no-default-features"]) if production else None,
        floor_client=_build_floor_client(tell),
        service=build.environment("service", [], SERVICE_PACKAGES) if service else None,
        ministack=_install_ministack(base, tell) if service else "",
    )


@dataclass(frozen=True)
class _Build:
    base: str
    """The interpreter that virtual environments are made with."""
    interpreter: str
    """The one that maturin is told."""
    tag: str
    tell: Callable[[str], None]

    def environment(
        self, kind: str, maturin_options: list[str], packages: Sequence[str] = PACKAGES
    ) -> Environment:
        """Return the environment of one kind of build; make it again when anything in it has changed."""
        folder = CACHE / f"{self.tag}-{kind}"
        stamp = folder / "made-from"
        requirements = [f"{name}=={version(name)}" for name in packages]
        made_from = "\n".join([_digest(_sources()), self.base, *requirements, *maturin_options])
        environment = Environment(folder)
        if not (stamp.is_file() and stamp.read_text() == made_from):
            shutil.rmtree(folder, ignore_errors=True)
            self.tell(f"building the {kind} wheel for {self.tag}")
            wheels = folder / "wheel"
            command = [sys.executable, "-m", "maturin", "build", "--release", "--locked", "--quiet"]
            _run([*command, "--interpreter", self.interpreter, "--out", str(wheels), *maturin_options])
            self.tell(f"installing it beside {', '.join(requirements)}")
            _run([self.base, "-m", "venv", "--without-pip", str(folder)])
            pip = [sys.executable, "-m", "pip", "--python", environment.python, "--disable-pip-version-check"]
            _run([*pip, "install", "-q", *map(str, wheels.glob("*.whl")), *requirements])
            _run([environment.python, "-m", "compileall", "-q", str(environment.site_packages)])
            stamp.write_text(made_from)
        with_pth = sorted(environment.site_packages.glob("*.pth"))
        if with_pth:
            raise LayoutError(
                f"{with_pth[0]} would be charged to every start: see who puts it there, and remove it"
            )
        return environment


def _install_ministack(base: str, tell: Callable[[str], None]) -> str:
    folder = CACHE / MINISTACK.replace("==", "-")
    program = folder / "bin" / "ministack"
    if not program.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        tell(f"installing {MINISTACK}")
        _run([base, "-m", "venv", "--without-pip", str(folder)])
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
        _run([*pip, "--disable-pip-version-check", "install", "-q", MINISTACK])
    return str(program)


def _build_floor_client(tell: Callable[[str], None]) -> str:
    tell("building the floor client")
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--package", "caloric-core"]
    messages = _run([*command, "--example", "floor_client", "--message-format", "json"])
    for line in messages.splitlines():
        executable = json.loads(line).get("executable")
        if executable:
            # A copy: the target folder may be shared, and cleaned by somebody else in the middle of a run.
            CACHE.mkdir(parents=True, exist_ok=True)
            return str(shutil.copy2(executable, CACHE / "floor_client"))
    raise LayoutError("cargo built the example floor_client and named no program")


def _sources() -> list[Path]:
    """What the wheel is made of, as tools/setup sees it."""
    files = [ROOT / name for name in ("Cargo.toml", "Cargo.lock", "pyproject.toml")]
    for path in sorted([*(ROOT / "rust").rglob("*"), *(ROOT / "python" / "caloric").rglob("*")]):
        left_out = {"target", "fuzz", "examples", "__pycache__"} & set(path.relative_to(ROOT).parts)
        if path.is_file() and path.suffix != ".so" and not left_out:
            files.append(path)
    return files


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(ROOT)}\n{path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _run(command: Sequence[str]) -> str:
    # maturin refuses to choose between two kinds of environment.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("CONDA_PREFIX", "PYTHONPATH")
    }
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise LayoutError(f"cannot run {command[0]}: {error.strerror}") from None
    if done.returncode:
        raise LayoutError(f"`{' '.join(command)}` failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
