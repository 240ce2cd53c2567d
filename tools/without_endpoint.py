"""Check the build of the extension that the layer ships: without its `endpoint` feature.

Run by an interpreter in which the default build is installed. Builds the other one for the same interpreter,
imports both, and fails when the endpoint is in the wrong one. What is looked for has to be in the default
build, so the check cannot pass by looking for the wrong thing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MATURIN = str(ROOT / ".venv" / "bin" / "maturin")
WORK = ROOT / ".cache" / "without-endpoint"
# Panic messages carry the path of the crate that raised them, also in a stripped build.
SERVER_CRATES = (b"/hyper-", b"/tokio-")
# The endpoint's classes are made when they are asked for, so they have to be.
INSPECT = """
from caloric import _rust
for name in ("ExecutionEnvironment", "HttpFront", "InvokeResult"):
    hasattr(_rust, name)
print(_rust.__file__, *sorted(vars(_rust)))
"""


def build() -> Path:
    """Build the wheel without the endpoint and return the folder it was unpacked to."""
    command = [MATURIN, "build", "--quiet", "--profile", "ci", "--locked", "--no-default-features"]
    subprocess.run([*command, "--interpreter", sys.executable, "--out", str(WORK)], cwd=ROOT, check=True)
    wheel = max(WORK.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    target = WORK / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        extensions = [name for name in archive.namelist() if name.endswith(".so")]
        if len(extensions) != 1:
            sys.exit(f"{wheel.name} should hold one extension module, it holds {extensions}")
        archive.extractall(target)
    return target


def inspect(path: str) -> tuple[Path, set[str]]:
    """Import `caloric._rust` with PYTHONPATH set to `path`; return its file and its names."""
    environ = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", INSPECT]
    result = subprocess.run(command, env=environ, cwd=WORK, check=True, stdout=subprocess.PIPE, text=True)
    file, *names = result.stdout.split()
    return Path(file), set(names)


def server_crates(extension: Path) -> list[str]:
    """Return the server's crates that left traces in the extension."""
    code = extension.read_bytes()
    return [crate.decode() for crate in SERVER_CRATES if crate in code]


def main() -> None:
    """Exit with a sentence if one of the two builds is not what it should be."""
    WORK.mkdir(parents=True, exist_ok=True)
    with_file, with_names = inspect("")
    without_file, without_names = inspect(str(build()))
    if not without_file.is_relative_to(WORK):
        sys.exit(f"imported {without_file}, not the build without the endpoint")
    if not with_names > without_names:
        sys.exit(f"the endpoint adds no name to caloric._rust: {sorted(with_names ^ without_names)}")
    if len(server_crates(with_file)) != len(SERVER_CRATES):
        sys.exit(f"{with_file} shows no trace of {SERVER_CRATES}: look for something else")
    if found := server_crates(without_file):
        sys.exit(f"the build without the endpoint still holds {', '.join(found)}")
    added = ", ".join(sorted(with_names - without_names))
    sizes = f"{without_file.stat().st_size // 1024} kB without, {with_file.stat().st_size // 1024} kB with"
    print(f"the endpoint adds {added}; extension {sizes}")


if __name__ == "__main__":
    main()
