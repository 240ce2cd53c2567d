"""Memory of the workers of Managed Instances, side by side: `python -m bench.managed [--workers N]`.

The figure is the proportional set size (PSS) of the main process and all workers together, after each of them has
served an invocation: a page that several share is divided among them, so the sum is what the machine has to have.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import caloric
from caloric._rust import ExecutionEnvironment
from caloric.local.process import function_environment, supervise

BOOTSTRAP = str(Path(caloric.__file__).with_name("bootstrap.py"))
FUNCTIONS = Path(__file__).parent / "functions"
RUNTIMES: dict[str, tuple[list[str], dict[str, str]]] = {
    "awslambdaric": ([sys.executable, "-m", "awslambdaric"], {}),
    "caloric": ([sys.executable, "-S", BOOTSTRAP], {}),
    "caloric, CALORIC_PREFORK_IMPORT=1": ([sys.executable, "-S", BOOTSTRAP], {"CALORIC_PREFORK_IMPORT": "1"}),
}


def pss_kb(pid: int) -> int:
    """Return the proportional set size of a process, in kB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ValueError(f"process {pid} has no Pss")


def measure(command: list[str], variables: dict[str, str], handler: str, workers: int) -> int:
    """Return the PSS of a runtime with so many workers, in kB."""
    with ExecutionEnvironment(max_concurrency=workers, timeout_ms=60_000) as environment:
        env = function_environment(environment, handler=handler, task_root=str(FUNCTIONS), user=variables)
        with supervise(environment, [*command, handler], env, cwd=str(FUNCTIONS)) as runtime:
            # Whoever is idle longest is next, so that all of them have served when each had its turn.
            for _ in range(workers):
                assert environment.invoke(b"{}").function_error is None
            pid = runtime.pid or 0
            children = Path(f"/proc/{pid}/task/{pid}/children")
            deadline = time.monotonic() + 60
            pids: list[str] = []
            while len(pids) < workers:
                assert time.monotonic() < deadline, "the workers do not come"
                time.sleep(0.01)
                pids = children.read_text(encoding="ascii").split()
            for _ in range(2 * workers):
                environment.invoke(b"{}")
            total = sum(map(pss_kb, [pid, *map(int, pids)]))
            # The peer's workers outlive it.
            subprocess.run(["kill", "-9", *pids], check=False, stderr=subprocess.DEVNULL)
            return total


def main() -> None:
    """Measure all runtimes with two handlers, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=8)
    workers = parser.parse_args().workers
    print(f"PSS of {workers} workers and their main process, MB")
    for handler in ("hello.handler", "with_boto3.handler"):
        for name, (command, variables) in RUNTIMES.items():
            total = measure(command, variables, handler, workers)
            print(f"{handler:20} {name:36} {total / 1024:8.1f}")


if __name__ == "__main__":
    main()
