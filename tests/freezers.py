"""What can stop the processes of an environment here, and whether it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from caloric._rust import ExecutionEnvironment
from caloric.testing.processes import processes

FREEZERS = ("cgroup-v2", "cgroup-v1", "signals")


def skip_unless_usable(freezer: str) -> None:
    """Skip the test where this process may not make such control groups; the reason says why."""
    try:
        ExecutionEnvironment(freezer=freezer).close()
    except ValueError as error:
        pytest.skip(str(error))


def groups(maker: int) -> set[Path]:
    """The control groups that the environments of the process `maker` have made and not removed."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="ascii").splitlines()
    points = {
        Path(line.split()[4])
        for line in mounts
        if " - cgroup2 " in line or (" - cgroup " in line and "freezer" in line.split()[-1])
    }
    return {path for point in points for path in point.glob(f"**/caloric-{maker}-*")}


def is_frozen(pid: int) -> bool:
    """Whether the process is there and stands still, by whatever means."""
    return any(process.at_rest and process.state != "Z" for process in processes([pid]))
