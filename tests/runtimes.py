"""The runtimes that tests start: Caloric's two ways in, and the peer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import caloric

BOOTSTRAP = Path(caloric.__file__).with_name("bootstrap.py")

COMMANDS = {
    "fast": [sys.executable, "-S", str(BOOTSTRAP)],
    "module": [sys.executable, "-m", "caloric"],
    "awslambdaric": [sys.executable, "-m", "awslambdaric"],
}
CALORIC = ["fast", "module"]


def environment(address: str, **variables: str) -> dict[str, str]:
    """A small environment like a function's, so that what this test run has set does not count."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LANG": "C.UTF-8", "AWS_LAMBDA_RUNTIME_API": address, **variables}


def start(way: str, handler: str, folder: Path, address: str, **variables: str) -> subprocess.Popen[bytes]:
    """Start a runtime in `folder` for `handler`."""
    return subprocess.Popen(
        [*COMMANDS[way], handler],
        cwd=folder,
        env=environment(address, **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
