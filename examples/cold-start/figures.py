"""Print what a cold start is made of, and what keeping warm, a lighter init and provisioned concurrency change.

Drives a running local Lambda with boto3: python figures.py [--endpoint-url http://127.0.0.1:9001]
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import statistics
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from botocore.config import Config

HERE = Path(__file__).parent
ROLE = "arn:aws:iam::012345678912:role/cold-start"
RUNTIME = f"python{sys.version_info[0]}.{sys.version_info[1]}"
AT_ONCE = 4
WAIT_S = 0.2
SOON = {"Delay": 0.02, "MaxAttempts": 1000}


class Invocation(NamedTuple):
    """One invocation, in milliseconds."""

    total: float
    """From the request to the response, as the caller sees it."""
    init: float | None
    """Init Duration of the REPORT line, which only a cold start has."""
    duration: float
    """Duration of the REPORT line: the handler."""

    @property
    def cold(self) -> bool:
        """Whether the caller has waited for the init. That of a provisioned environment was over before."""
        return self.init is not None and self.total > self.init


class Figures:
    """Makes functions, and measures their invocations."""

    def __init__(self, endpoint_url: str) -> None:
        self.client: Any = boto3.client(
            "lambda",
            endpoint_url=endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(max_pool_connections=AT_ONCE, retries={"max_attempts": 0}),
        )

    def deploy(self, name: str, **configuration: Any) -> str:
        """Make a function of the file with this name, in place of one that is there; return the function's name."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.write(HERE / f"{name}.py", f"{name}.py")
        function = f"cold-start-{name}"
        self.remove(function)
        self.client.create_function(
            FunctionName=function,
            Role=ROLE,
            Runtime=RUNTIME,
            Handler=f"{name}.handler",
            Code={"ZipFile": content.getvalue()},
            Timeout=30,
            MemorySize=512,
            **configuration,
        )
        self.client.get_waiter("function_active_v2").wait(FunctionName=function, WaiterConfig=SOON)
        return function

    def remove(self, function: str) -> None:
        """Delete the function, if it is there."""
        with suppress(self.client.exceptions.ResourceNotFoundException):
            self.client.delete_function(FunctionName=function)

    def make_cold(self, function: str) -> None:
        """Have the next invocation be a cold start, as after every deployment."""
        self.client.update_function_configuration(
            FunctionName=function, Environment={"Variables": {"CHANGED": str(time.time_ns())}}
        )
        self.client.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig=SOON)

    def invoke(self, function: str, qualifier: str = "$LATEST", wait: float = 0) -> Invocation:
        """Invoke once, and return the times. The handler waits for so many seconds, as for another service."""
        begin = time.perf_counter()
        answer = self.client.invoke(
            FunctionName=function,
            Qualifier=qualifier,
            Payload=json.dumps({"number": 12, "wait": wait}).encode(),
            LogType="Tail",
        )
        payload = json.loads(answer["Payload"].read())
        total = (time.perf_counter() - begin) * 1000
        if payload.get("square") != 144:
            raise SystemExit(f"{function} answered {payload}")
        report = base64.b64decode(answer["LogResult"]).decode()
        return Invocation(
            total, _milliseconds("Init Duration", report), _milliseconds("Duration", report) or 0.0
        )

    def at_once(self, function: str, qualifier: str = "$LATEST") -> list[Invocation]:
        """Invoke several times at the same moment."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return list(threads.map(lambda _: self.invoke(function, qualifier, WAIT_S), range(AT_ONCE)))


def _milliseconds(name: str, report: str) -> float | None:
    found = re.search(rf"\t{name}: ([0-9.]+) ms", report)
    return float(found[1]) if found else None


def _cold(invocations: list[Invocation]) -> int:
    return sum(invocation.cold for invocation in invocations)


def measure(figures: Figures, repeat: int) -> dict[str, Any]:
    """Return all figures, in milliseconds: medians of `repeat` cold starts."""
    heavy, light = figures.deploy("heavy"), figures.deploy("light")
    cold: dict[str, list[Invocation]] = {heavy: [], light: []}
    for _ in range(repeat):
        for function, starts in cold.items():
            figures.make_cold(function)
            starts.append(figures.invoke(function))
    warm = [figures.invoke(heavy) for _ in range(10 * repeat)]

    # A ping every few minutes keeps one environment, and no more than that.
    figures.make_cold(heavy)
    figures.invoke(heavy)
    after_ping = figures.invoke(heavy)
    burst_after_ping = figures.at_once(heavy)

    version = figures.client.publish_version(FunctionName=heavy)["Version"]
    figures.client.put_provisioned_concurrency_config(
        FunctionName=heavy, Qualifier=version, ProvisionedConcurrentExecutions=AT_ONCE
    )
    begin = time.perf_counter()
    while True:
        state = figures.client.get_provisioned_concurrency_config(FunctionName=heavy, Qualifier=version)
        if state["Status"] != "IN_PROGRESS":
            break
        time.sleep(0.05)
    if state["Status"] != "READY":
        raise SystemExit(f"provisioned concurrency failed: {state.get('StatusReason')}")
    allocated = (time.perf_counter() - begin) * 1000
    provisioned = figures.invoke(heavy, version)
    burst_provisioned = figures.at_once(heavy, version)
    for function in (heavy, light):
        figures.remove(function)

    def median(values: list[float]) -> float:
        return round(statistics.median(values), 1)

    def parts(starts: list[Invocation]) -> dict[str, float]:
        return {
            "total": median([start.total for start in starts]),
            "init": median([start.init or 0.0 for start in starts]),
            "handler": median([start.duration for start in starts]),
            "rest": median([start.total - (start.init or 0.0) - start.duration for start in starts]),
        }

    return {
        "cold": parts(cold[heavy]),
        "cold_light": parts(cold[light]),
        "cold_starts": _cold(cold[heavy]),
        "warm": median([invocation.total for invocation in warm]),
        "after_ping": {
            "total": round(after_ping.total, 1),
            "cold_starts": _cold([after_ping]),
            "burst_cold_starts": _cold(burst_after_ping),
            "burst_slowest": round(max(invocation.total for invocation in burst_after_ping), 1),
        },
        "provisioned": {
            "total": round(provisioned.total, 1),
            "allocated": round(allocated, 1),
            "cold_starts": _cold([provisioned]),
            "burst_cold_starts": _cold(burst_provisioned),
            "burst_slowest": round(max(invocation.total for invocation in burst_provisioned), 1),
        },
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table with the reasons."""
    cold, light = figures["cold"], figures["cold_light"]
    ping, provisioned = figures["after_ping"], figures["provisioned"]
    print("What a cold start is made of (ms, as the caller sees it)")
    print(f"  {'':34}{'heavy.py':>10}{'light.py':>10}")
    for name, title in (
        ("rest", "start the process, and the way"),
        ("init", "init: runtime and imports"),
        ("handler", "the handler itself"),
        ("total", "together"),
    ):
        print(f"  {title:34}{cold[name]:10.1f}{light[name]:10.1f}")
    print(f"  {'a warm invocation, to compare':34}{figures['warm']:10.1f}")
    print()
    print(f"{'What changes it (heavy.py)':36}{'first':>10}{'cold of ' + str(AT_ONCE):>12}{'slowest':>10}")
    print(
        f"  {'kept warm by a ping':34}{ping['total']:10.1f}{ping['burst_cold_starts']:12}{ping['burst_slowest']:10.1f}"
    )
    print(
        f"  {'provisioned concurrency of ' + str(AT_ONCE):34}{provisioned['total']:10.1f}"
        f"{provisioned['burst_cold_starts']:12}{provisioned['burst_slowest']:10.1f}"
    )
    print(f"  (its environments were ready after {provisioned['allocated']:.0f} ms, before anyone asked)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--endpoint-url", default="http://127.0.0.1:9001")
    parser.add_argument("--repeat", type=int, default=5, help="cold starts to take the median of")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    figures = measure(Figures(options.endpoint_url), options.repeat)
    if options.json:
        print(json.dumps(figures))
    else:
        show(figures)


if __name__ == "__main__":
    main()
