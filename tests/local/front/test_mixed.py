"""Twenty functions invoked at the same time by many callers: every answer is its caller's."""

from __future__ import annotations

import collections
import json
import random
import threading
from typing import TYPE_CHECKING

from tests.local.front.service import PATIENCE

if TYPE_CHECKING:
    import http.client

    from tests.local.front.service import Service

FUNCTIONS = 20
CALLERS = 8
EACH = 500

SOURCE = """
import os

def handler(event, context):
    if event["fail"]:
        raise ValueError(event["token"])
    return {**event, "where": os.environ["WHERE"], "request_id": context.aws_request_id}
"""


def test_no_answer_is_lost_or_crossed(service: Service) -> None:
    code = service.code(SOURCE)
    for number in range(FUNCTIONS):
        service.publish(f"function-{number}", code)
    wrong: list[object] = []
    served = collections.Counter[str]()

    def call(caller: int) -> None:
        rng = random.Random(caller)
        connection = service.connect()
        for turn in range(EACH):
            name = f"function-{rng.randrange(FUNCTIONS)}"
            kind = rng.choice(["plain", "plain", "fail", "stream", "tail", "large", "unknown"])
            event = {
                "token": f"{caller}/{turn}",
                "fail": kind == "fail",
                "pad": "x" * (100_000 if kind == "large" else 0),
            }
            problem = check(service, connection, name, kind, event)
            if problem:
                wrong.append((caller, turn, name, kind, problem))
            served[kind] += 1
        connection.close()

    callers = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(4 * PATIENCE)
        assert not caller.is_alive()
    assert wrong == []
    assert sum(served.values()) == CALLERS * EACH
    counts = [pool.counts() for pool in service.pools]
    invoked = sum(served[kind] for kind in served if kind != "unknown")
    assert sum(count["cold_starts"] + count["warm_starts"] for count in counts) == invoked
    # One that was made may have come too late for what it was made for.
    assert sum(count["cold_starts"] for count in counts) <= len(service.made)


def check(
    service: Service, connection: http.client.HTTPConnection, name: str, kind: str, event: dict[str, object]
) -> object:
    """What is wrong with the answer to an invocation; None if nothing is."""
    if kind == "stream":
        path = f"/2021-11-15/functions/{name}/response-streaming-invocations"
        answer = service.call(path, json.dumps(event).encode(), connection=connection)
        expected = f'"token":"{event["token"]}"'.encode()
        return None if expected in answer.body and f"{name}:".encode() in answer.body else answer
    if kind == "unknown":
        answer = service.invoke("nobody", event, connection=connection)
        return None if json.loads(answer.document["body"]) == event else answer
    headers = {"X_Amz_Log_Type": "Tail"} if kind == "tail" else {}
    answer = service.invoke(name, event, connection=connection, **headers)
    if kind == "fail":
        return None if answer.document["errorMessage"] == event["token"] else answer
    request_id = answer.headers["x-amzn-RequestId"]
    expected_document = {**event, "where": f"{name}:$LATEST", "request_id": request_id}
    return None if answer.document == expected_document else answer
