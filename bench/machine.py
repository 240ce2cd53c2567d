"""Where and on what a run was made: a figure without it says little."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from bench.layout import PACKAGES, ROOT

GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def describe(python: str) -> dict[str, Any]:
    """Return the facts that are kept with the results: machine, versions, commit, load at this moment.

    `python` is the interpreter that runs the contestants.
    """
    from importlib.metadata import version

    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "governor": _read(GOVERNOR),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": _output([python, "-I", "-c", "import sys; print(sys.version.split()[0])"]),
        "commit": _output(["git", "rev-parse", "--short=12", "HEAD"]),
        "dirty": bool(_output(["git", "status", "--porcelain"])),
        "packages": {name: version(name) for name in ("caloric", *PACKAGES)},
    }


def cpu_model() -> str:
    """Return the processor's name as the kernel has it, or the architecture where it has none."""
    for line in (_read(Path("/proc/cpuinfo")) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def slug(facts: dict[str, Any]) -> str:
    """Return a name for files: processor, cores and Python of the machine that `facts` describe."""
    words = f"{facts['cpu']} {facts['cores']} cores py{facts['python']}"
    return re.sub(r"[^a-z0-9.]+", "-", re.sub(r"\((r|tm)\)", "", words.lower())).strip("-")


def is_busy(facts: dict[str, Any]) -> bool:
    """Say whether others were using the machine when the run began."""
    return bool(facts["load_average"][0] > 0.5 * (facts["cores"] or 1))


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _output(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
