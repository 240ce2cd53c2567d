"""The whole service, killed with SIGKILL under load: nothing that boto3 was told is lost, and functions run again."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import botocore.exceptions
import botocore.parsers
import pytest

from tests.local.cli.commands import Started
from tests.local.conftest import connect
from tests.local.functions import RUNTIME
from tests.local.service.load import THREADS, Function, Step, after, found, names, perform, steps

if TYPE_CHECKING:
    from pathlib import Path

    from caloric.local.service.operations import Operation

KILLS = 6


class CutAnswerError(Exception):
    """The service ended between an answer's head and its body, which boto3 takes for an empty one."""


GONE = (
    CutAnswerError,
    botocore.parsers.ResponseParserError,
    botocore.exceptions.EndpointConnectionError,
    botocore.exceptions.ConnectionClosedError,
    botocore.exceptions.ReadTimeoutError,
    botocore.exceptions.HTTPClientError,
)
"""What is raised when there is no whole answer."""


class OverHttp:
    """The service, asked by boto3."""

    def __init__(self, url: str) -> None:
        self.client = connect(url)

    def __call__(self, operation: Operation, **members: Any) -> dict[str, Any]:
        if "Runtime" in members:
            members["Runtime"] = RUNTIME
        return self._ask(operation.__name__, **members)

    def _ask(self, method: str, **members: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self.client, method)(**members)
        if answer.pop("ResponseMetadata")["HTTPStatusCode"] != 204 and not answer:
            raise CutAnswerError
        return answer

    def settled(self, name: str, qualifier: str | None = None) -> dict[str, Any]:
        asked = {"FunctionName": name} | ({} if qualifier is None else {"Qualifier": qualifier})
        end = time.monotonic() + 30
        while True:
            answer = self._ask("get_function_configuration", **asked)
            if answer["State"] != "Pending" and answer.get("LastUpdateStatus") != "InProgress":
                return answer
            assert time.monotonic() < end, answer
            time.sleep(0.005)


class Load(threading.Thread):
    """Steps on functions of its own, one after the other, until there is no answer."""

    def __init__(self, url: str, functions: dict[str, Function | None], seed: str) -> None:
        super().__init__(daemon=True)
        self.functions = functions
        self.highest = dict.fromkeys(functions, 0)
        self.done = 0
        self.interrupted: Step | None = None
        self.failure: BaseException | None = None
        self._aws = OverHttp(url)
        self._chance = random.Random(seed)

    def run(self) -> None:
        try:
            for step in steps(self._chance, self.functions):
                self.interrupted = step
                before = self.functions[step.name]
                version = perform(self._aws, before, step, self._chance.random() < 0.5)
                self.functions[step.name] = after(before, step, version)
                self.highest[step.name] = max(self.highest[step.name], version or 0)
                self.interrupted = None
                self.done += 1
        except GONE:
            pass
        except BaseException as error:
            self.failure = error
        finally:
            self._aws.client.close()


def check(aws: OverHttp, load: Load) -> None:
    """Check that the service has what the load was told, and take over what came of the step without an answer."""
    for name, before in load.functions.items():
        actual = found(aws, name)
        possible = [before]
        if load.interrupted is not None and load.interrupted.name == name:
            # It may have happened or not, but not by half.
            step = load.interrupted
            numbers = {0} | (set(actual.versions) if actual else set()) - set(
                before.versions if before else ()
            )
            assert all(number == 0 or number > load.highest[name] for number in numbers)
            possible += [after(before, step, number or None) for number in numbers]
        assert actual in possible, f"{name}: {load.interrupted}"
        load.functions[name] = actual


@pytest.mark.timeout(300)
def test_what_was_acknowledged_is_there_and_runs_after_every_kill(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    functions: list[dict[str, Function | None]] = [dict.fromkeys(names(thread)) for thread in range(THREADS)]
    done = 0
    for kill in range(KILLS):
        with Started(tmp_path) as service:
            loads = [
                Load(service.url, own, f"{seed}/{kill}/{thread}") for thread, own in enumerate(functions)
            ]
            for load in loads:
                load.start()
            wanted, end = chance.randint(5, 60), time.monotonic() + 40
            while sum(load.done for load in loads) < wanted and any(load.is_alive() for load in loads):
                assert time.monotonic() < end
                time.sleep(0.001)
            service.kill()
            service.wait()
            for load in loads:
                load.join(60)
                assert load.failure is None, f"{load.interrupted}: {load.failure!r}"
            done += sum(load.done for load in loads)
        with Started(tmp_path) as service:
            aws = OverHttp(service.url)
            for load in loads:
                check(aws, load)
            for own in functions:
                for name, function in own.items():
                    if function is not None:
                        answer = aws.client.invoke(FunctionName=name)
                        assert json.loads(answer["Payload"].read()) == function.code
            aws.client.close()
    assert done > KILLS
