"""How many invocations run at once: the account's concurrency, reservations, provisioned environments, aliases."""

from __future__ import annotations

import collections
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.local.front.service import serving, wait_until
from tests.local.front.test_pools import GATED, run_gated

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local.front.service import Answer, Service

ECHO = "def handler(event, context): return context.function_version"


def check_throttled(answer: Answer, reason: str) -> None:
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (429, "TooManyRequestsException")
    assert answer.document == {"Reason": reason, "Type": "User", "message": "Rate Exceeded."}


def test_a_reservation_is_a_limit_for_all_versions_together(service: Service) -> None:
    pool = service.publish("gated", service.code(GATED))
    service.publish("gated", service.code(GATED), "1")
    service.front.reserve("gated", 2)
    gate = service.folder / "gate"
    with ThreadPoolExecutor(2) as callers:
        running = [callers.submit(service.invoke, name, str(gate)) for name in ("gated", "gated:1")]
        wait_until(lambda: service.front.function_concurrency("gated")["running"] == 2, "both run")
        for name in ("gated", "gated:1", "gated:$LATEST"):
            check_throttled(service.invoke(name), "ReservedFunctionConcurrentInvocationLimitExceeded")
        streaming = service.call("/2021-11-15/functions/gated/response-streaming-invocations")
        check_throttled(streaming, "ReservedFunctionConcurrentInvocationLimitExceeded")
        gate.touch()
        assert all(answer.result().status == 200 for answer in running)
    assert service.invoke("gated").status == 200
    assert pool.counts()["throttled"] == 3


def test_a_reservation_of_nothing_refuses_everything(service: Service) -> None:
    service.front.reserve("gated", 0)
    service.publish("gated", service.code(GATED))
    check_throttled(service.invoke("gated"), "ReservedFunctionConcurrentInvocationLimitExceeded")
    service.front.reserve("gated", None)
    assert service.invoke("gated").status == 200
    with pytest.raises(ValueError, match="from 0"):
        service.front.reserve("gated", -1)


def test_the_account_has_what_is_not_reserved(folder: Path) -> None:
    with serving(folder, concurrency=3) as service:
        service.publish("one", service.code(GATED))
        service.publish("other", service.code(GATED))
        service.front.reserve("other", 1)
        gate = service.folder / "gate"
        with ThreadPoolExecutor(3) as callers:
            running = [callers.submit(service.invoke, "one", str(gate)) for _ in range(2)]
            wait_until(lambda: service.front.concurrency()["running"] == 2, "both run")
            check_throttled(service.invoke("one"), "ConcurrentInvocationLimitExceeded")
            running.append(callers.submit(service.invoke, "other", str(gate)))
            wait_until(lambda: service.front.concurrency()["running"] == 3, "all run")
            check_throttled(service.invoke("other"), "ReservedFunctionConcurrentInvocationLimitExceeded")
            assert service.front.concurrency() == {"limit": 3, "reserved": 1, "provisioned": 0, "running": 3}
            gate.touch()
            assert all(answer.result().status == 200 for answer in running)
        wait_until(lambda: service.front.concurrency()["running"] == 0, "all is over")


def test_what_is_provisioned_is_not_the_others_to_have(folder: Path) -> None:
    with serving(folder, concurrency=3) as service:
        provisioned = service.publish("kept", service.code(GATED), "1")
        provisioned.provision(2)
        wait_until(lambda: provisioned.counts()["provisioned_ready"] == 2, "both are ready")
        other = service.publish("gated", service.code(GATED))
        gate = service.folder / "gate"
        with ThreadPoolExecutor(1) as callers:
            running = callers.submit(service.invoke, "gated", str(gate))
            wait_until(lambda: other.counts()["busy"] == 1, "it runs")
            check_throttled(service.invoke("gated"), "ConcurrentInvocationLimitExceeded")
            assert len(run_gated(service, provisioned, 2, "kept:1")) == 2
            gate.touch()
            assert running.result().status == 200


def test_one_caller_after_the_other_is_never_too_many(service: Service) -> None:
    service.publish("echo", service.code(ECHO))
    service.front.reserve("echo", 1)
    connection = service.connect()
    tail = {"X_Amz_Log_Type": "Tail"}
    answers = [
        service.invoke("echo", connection=connection, **(tail if i % 2 else {})).status for i in range(300)
    ]
    connection.close()
    assert collections.Counter(answers) == {200: 300}
    assert len(service.made) == 1


def test_an_alias_leads_to_its_versions_by_weight(service: Service) -> None:
    for version in ("1", "2"):
        service.publish("echo", service.code(ECHO), version)
    service.front.route("echo", "live", {"1": 0.8, "2": 0.2})
    count = 2000
    connection = service.connect()
    seen = collections.Counter[str]()
    for _ in range(count):
        answer = service.invoke("echo:live", connection=connection)
        assert answer.version == answer.document
        seen[answer.document] += 1
    connection.close()
    # Six standard deviations: one run in 500 million is further off.
    assert abs(seen["2"] - 0.2 * count) < 6 * math.sqrt(count * 0.2 * 0.8)
    assert seen["1"] + seen["2"] == count
    service.front.route("echo", "live", {"2": 1.0})
    assert {service.invoke("echo:live").document for _ in range(20)} == {"2"}
    service.front.route("echo", "live", None)
    assert service.invoke("echo:live").headers["x-from"] == "the control plane"


def test_an_alias_whose_version_is_gone_is_the_control_planes(service: Service) -> None:
    pool = service.publish("echo", service.code(ECHO), "1")
    service.front.route("echo", "live", {"1": 1.0})
    assert service.invoke("echo:live").document == "1"
    service.front.withdraw("echo", "1")
    assert pool.retired
    assert service.invoke("echo:live").headers["x-from"] == "the control plane"
    service.publish("echo", service.code(ECHO), "1")
    assert service.invoke("echo:live").document == "1"
    service.front.withdraw("echo")
    assert service.invoke("echo:live").headers["x-from"] == "the control plane"
    service.front.withdraw("echo")


@pytest.mark.parametrize("weights", [{}, {"1": 0.0}, {"1": -0.5, "2": 1.5}, {"1": math.nan}])
def test_an_alias_leads_somewhere(service: Service, weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="leads nowhere"):
        service.front.route("echo", "live", weights)
