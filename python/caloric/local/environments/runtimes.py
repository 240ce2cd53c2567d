"""Which program runs a function: the interpreter and the runtime interface client of `python3.X`, or a `bootstrap`."""

from __future__ import annotations

import functools
import os
import re
import sys
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["OWN_VERSION", "RUNTIME_CLIENTS", "Program", "RuntimeUnavailableError", "Runtimes"]

RUNTIME_CLIENTS = ("caloric", "awslambdaric")
"""What may run Python handlers."""

OWN_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
"""The Python that the service runs on."""

_PYTHON = re.compile(r"python(3\.\d+)")
_OS_ONLY = re.compile(r"provided(\.\w+)?")
_PROBE_LIMIT_S = 20
_PIP_LIMIT_S = 300

# What an interpreter tells of itself. Printed last: a site customisation may print, too.
_PROBE = """
import importlib.machinery, importlib.util, json, sys
def folder(name):
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return next(iter(spec.submodule_search_locations or ()), None) if spec is not None else None
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "executable": sys.executable,
    "suffixes": importlib.machinery.EXTENSION_SUFFIXES,
    "caloric": folder("caloric"),
    "awslambdaric": folder("awslambdaric"),
}))
"""


class RuntimeUnavailableError(Exception):
    """A runtime cannot be had on this machine; the message says what was looked for, where, and what helps."""


@dataclass(frozen=True)
class Program:
    """How the runtime of a function is started."""

    command: tuple[str, ...]
    """Program and arguments, without the handler."""
    takes_handler: bool
    """The handler's name is the last argument; otherwise it is in `_HANDLER` alone."""
    knows_layers: bool
    """It finds layers where `CALORIC_OPT` says; others find them by `PYTHONPATH`."""
    managed: bool
    """A runtime that AWS maintains: it has `AWS_EXECUTION_ENV` and heeds `AWS_LAMBDA_EXEC_WRAPPER`."""


@dataclass(frozen=True)
class _Interpreter:
    """A Python on this machine, and what it can import."""

    executable: str
    version: str
    suffixes: tuple[str, ...]
    """Of the extension modules it loads."""
    caloric: str | None
    """The folder of the package, where it is installed, whether or not it is for this version."""
    awslambdaric: str | None


class Runtimes:
    """Finds the program of each runtime. Safe for threads; what was found is remembered.

    `folder` is where `add` puts Caloric for other Python versions, one folder for each; it need not be there.
    `runtime_client` is one of `RUNTIME_CLIENTS`. `variables` are those that `PATH` and `PYENV_ROOT` are taken from.

    Raises `ValueError` for another runtime client.
    """

    def __init__(
        self, folder: Path, *, runtime_client: str = "caloric", variables: Mapping[str, str] | None = None
    ) -> None:
        if runtime_client not in RUNTIME_CLIENTS:
            raise ValueError(
                f"the runtime client {runtime_client!r} is not one of {', '.join(RUNTIME_CLIENTS)}"
            )
        self._folder = folder
        self._client = runtime_client
        self._variables = os.environ if variables is None else variables
        self._found: dict[str, Program] = {}

    def program(self, runtime: str, code: Path, opt: Path | None = None) -> Program:
        """Return what runs functions of this runtime. `code` and `opt` are where a `bootstrap` may be.

        Raises `RuntimeUnavailableError` for a runtime that is not known here, a Python that is not on this machine, and
        one that has no Caloric of its version, or no awslambdaric. A missing `bootstrap` is no such error: it is the
        function's, and shows when the program is started (spec lambda-service 1.4).
        """
        if _OS_ONLY.fullmatch(runtime):
            return Program(
                (find_bootstrap(code, opt),), takes_handler=False, knows_layers=False, managed=False
            )
        known = _PYTHON.fullmatch(runtime)
        if known is None:
            raise RuntimeUnavailableError(
                f"the runtime {runtime!r} is not available locally: python3.X and provided.* are; a function of another"
                " language can be deployed for provided.al2023 with an executable named bootstrap"
            )
        program = self._found.get(runtime)
        if program is None:
            program = self._found[runtime] = self._python(known[1])
        return program

    def check(self, runtime: str) -> None:
        """Raise `RuntimeUnavailableError` if no function of this runtime can run here."""
        self.program(runtime, Path(os.devnull))

    def add(self, version: str, wheel: Path | None = None) -> Path:
        """Install Caloric for Python `version`, such as `3.12`, and return the folder: for `caloric local runtime add`.

        `wheel` is a file; without one, pip fetches Caloric of our own version from the index it is configured for.
        What was there before is replaced when the new one is complete.

        Raises `RuntimeUnavailableError` when that Python is not on this machine, when pip fails (with its last lines),
        and when what it installed is not for this Python.
        """
        import shutil
        import tempfile

        if not re.fullmatch(r"3\.\d+", version):
            raise RuntimeUnavailableError(f"{version!r} is no Python version: name one such as 3.12")
        if wheel is not None and not wheel.is_file():
            raise RuntimeUnavailableError(f"the wheel {str(wheel)!r} does not exist")
        interpreter = next(self._interpreters(version), None)
        if interpreter is None:
            raise RuntimeUnavailableError(self._no_interpreter(version))
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._cache(version)
        new = Path(tempfile.mkdtemp(dir=self._folder, prefix=".new-"))
        try:
            _pip_install(interpreter, new, wheel)
            if not _is_for(new / "caloric", interpreter.suffixes):
                raise RuntimeUnavailableError(
                    f"{'the wheel' if wheel is None else wheel.name} holds no Caloric for Python {version}"
                    " on this machine"
                )
            new.chmod(0o755)
            if target.exists():
                shutil.rmtree(target)
            new.rename(target)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        self._found.pop(f"python{version}", None)
        return target

    def _cache(self, version: str) -> Path:
        return self._folder / f"python{version}"

    def _python(self, version: str) -> Program:
        looked: list[str] = []
        found = False
        for interpreter in self._interpreters(version):
            found = True
            if self._client == "awslambdaric":
                if interpreter.awslambdaric is not None:
                    return Program(
                        (interpreter.executable, "-m", "awslambdaric"),
                        takes_handler=True,
                        knows_layers=False,
                        managed=True,
                    )
                looked.append(interpreter.executable)
                continue
            package = self._package(interpreter, looked)
            if package is not None:
                command = (interpreter.executable, "-S", str(package / "bootstrap.py"))
                return Program(command, takes_handler=True, knows_layers=True, managed=True)
        if not found:
            raise RuntimeUnavailableError(self._no_interpreter(version))
        if self._client == "awslambdaric":
            raise RuntimeUnavailableError(
                f"the runtime python{version} needs awslambdaric, which cannot be imported by"
                f" {' or '.join(looked)}: install it there with pip"
            )
        raise RuntimeUnavailableError(
            f"the runtime python{version} needs Caloric built for Python {version}, which is not in"
            f" {', '.join(dict.fromkeys(looked))}: install it with `caloric local runtime add {version}`"
        )

    def _package(self, interpreter: _Interpreter, looked: list[str]) -> Path | None:
        """Return the folder of Caloric for this interpreter; where it is not is added to `looked`."""
        own = Path(__file__).parents[2]
        for place in (own, interpreter.caloric, self._cache(interpreter.version) / "caloric"):
            if place is None:
                looked.append(f"the packages of {interpreter.executable}")
            elif _is_for(Path(place), interpreter.suffixes):
                return Path(place)
            else:
                looked.append(str(Path(place).parent))
        return None

    def _no_interpreter(self, version: str) -> str:
        return (
            f"the runtime python{version} needs Python {version}, which is not on this machine: neither PATH nor"
            f" {self._pyenv()} has python{version}"
        )

    def _pyenv(self) -> Path:
        return Path(self._variables.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"

    def _interpreters(self, version: str) -> Iterator[_Interpreter]:
        """Yield the interpreters of `version`, the service's own first: it has Caloric, and need not be asked."""
        seen = set()
        for candidate in self._candidates(version):
            interpreter = _probe(candidate)
            if (
                interpreter is not None
                and interpreter.version == version
                and interpreter.executable not in seen
            ):
                seen.add(interpreter.executable)
                yield interpreter

    def _candidates(self, version: str) -> Iterator[str]:
        if version == OWN_VERSION:
            yield sys.executable
        name = f"python{version}"
        for folder in self._variables.get("PATH", os.defpath).split(os.pathsep):
            path = os.path.join(folder, name)
            if folder and os.access(path, os.X_OK) and os.path.isfile(path):
                yield path
        installed = self._pyenv().glob(f"{version}*/bin/{name}")
        yield from map(str, sorted(installed, key=lambda path: _numbers(path.parts[-3]), reverse=True))


def find_bootstrap(code: Path, opt: Path | None) -> str:
    """Return the `bootstrap` to start: the code's, else the layers' (spec lambda-service 5.3).

    Where neither is an executable file it is the code's all the same: starting it fails, which is the answer's reason.
    """
    candidates = [folder / "bootstrap" for folder in (code, opt) if folder is not None]
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    return str(candidates[0])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def _is_for(package: Path, suffixes: Sequence[str]) -> bool:
    """Return whether this is Caloric with the extension module for an interpreter with these suffixes."""
    return (package / "bootstrap.py").is_file() and any(
        (package / f"_rust{suffix}").is_file() for suffix in suffixes
    )


@functools.lru_cache(maxsize=64)
def _probe(executable: str) -> _Interpreter | None:
    """Return what this interpreter is; `None` if it does not run, as pyenv's stand-ins of other versions do not."""
    if executable == sys.executable:
        return _Interpreter(
            executable,
            OWN_VERSION,
            tuple(EXTENSION_SUFFIXES),
            str(Path(__file__).parents[2]),
            _folder("awslambdaric"),
        )
    import json
    import subprocess

    try:
        # `-I`: what the service has in PYTHONPATH is not the other's.
        output = subprocess.run(
            [executable, "-I", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_LIMIT_S,
            check=True,
        ).stdout
        told = json.loads(output.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return _Interpreter(
        told["executable"] or executable,
        told["version"],
        tuple(told["suffixes"]),
        told["caloric"],
        told["awslambdaric"],
    )


def _folder(name: str) -> str | None:
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    return next(iter(spec.submodule_search_locations or ()), None) if spec is not None else None


def _pip_install(interpreter: _Interpreter, target: Path, wheel: Path | None) -> None:
    """Install Caloric and what the runtime requires into `target`. Raises `RuntimeUnavailableError`."""
    import subprocess

    from caloric._rust import __version__

    what = f"caloric=={__version__}" if wheel is None else str(wheel)
    command = [interpreter.executable, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # A build from source would take minutes, and need Rust.
    command += ["--no-input", "--only-binary=:all:", "--target", str(target), what]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PIP_LIMIT_S,
            check=False,
        )
    except OSError as error:
        raise RuntimeUnavailableError(f"{interpreter.executable} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise RuntimeUnavailableError(f"pip took longer than {_PIP_LIMIT_S} s to install {what}") from None
    if result.returncode != 0:
        lines = result.stdout.decode(errors="replace").strip().splitlines()[-3:]
        raise RuntimeUnavailableError(
            f"pip of {interpreter.executable} cannot install {what}: {' '.join(lines)}"
        )
