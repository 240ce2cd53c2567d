"""Runs `caloric local ...` as a user does."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from tests.runtimes import environment

if TYPE_CHECKING:
    from collections.abc import Mapping

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")


def variables(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment variables of a command, with the machine's AWS settings taken out."""
    found = environment("")
    del found["AWS_LAMBDA_RUNTIME_API"]
    return {**found, **(extra or {})}


def caloric(*arguments: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [CALORIC, "local", *arguments],
        cwd=cwd,
        env=variables(),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
