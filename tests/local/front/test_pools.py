"""Pools whose environments come and go: cold and warm starts, ends, replacements, tenants, provisioned concurrency."""

from __future__ import annotations

import collections
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from caloric._rust import EnvironmentSupply, FunctionPool, InvokeResult
from tests.local.front.service import PATIENCE, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local.front.service import Answer, Service

# Waits for the file that the event names; says who it is.
GATED = """
import os, time

def handler(event, context):
    while event and not os.path.exists(event):
        time.sleep(0.005)
    return {"pid": os.getpid(), "where": os.environ["WHERE"], "tenant": context.tenant_id}
"""


def run_gated(service: Service, pool: FunctionPool, count: int, name: str = "gated") -> list[Answer]:
    """Run so many invocations at the same time, each in an environment of its own."""
    gate = service.folder / f"gate-{len(list(service.folder.iterdir()))}"
    with ThreadPoolExecutor(count) as callers:
        answers = [callers.submit(service.invoke, name, str(gate)) for _ in range(count)]
        wait_until(lambda: pool.counts()["busy"] == count, f"{count} environments are busy")
        gate.touch()
        return [answer.result() for answer in answers]


def pids(answers: list[Answer]) -> set[int]:
    return {answer.document["pid"] for answer in answers}


def alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def test_environments_are_made_as_they_are_needed_and_used_again(service: Service) -> None:
    pool = service.publish("gated", service.code(GATED))
    assert pool.counts()["init"] == pool.counts()["idle"] == 0
    first = service.invoke("gated").document["pid"]
    assert [service.invoke("gated").document["pid"] for _ in range(5)] == [first] * 5
    together = run_gated(service, pool, 3)
    assert len(pids(together)) == 3
    assert first in pids(together)
    counts = pool.counts()
    wait_until(lambda: pool.counts()["idle"] == 3, "all are idle")
    assert (counts["cold_starts"], counts["warm_starts"], counts["waiting"]) == (3, 6, 0)
    assert len(service.made) == 3
    assert {(made.function_name, made.function_version, made.ahead) for made in service.made} == {
        ("gated", "$LATEST", False)
    }


def test_the_environment_that_was_used_last_is_used_next(service: Service) -> None:
    pool = service.publish("gated", service.code(GATED))
    run_gated(service, pool, 3)
    wait_until(lambda: pool.counts()["idle"] == 3, "all are idle")
    used = {service.invoke("gated").document["pid"] for _ in range(10)}
    assert len(used) == 1


def test_who_is_idle_for_too_long_is_closed_and_the_minimum_stays(service: Service) -> None:
    pool = service.publish("gated", service.code(GATED), idle_s=3600)
    every = pids(run_gated(service, pool, 3))
    wait_until(lambda: pool.counts()["idle"] == 3, "all are idle")
    pool.keep(1)
    pool.set_idle_time(0.2)
    assert pool.idle_s == 0.2
    wait_until(lambda: pool.counts()["idle"] == 1, "two are closed")
    last = service.invoke("gated").document["pid"]
    wait_until(lambda: [pid for pid in every if alive(pid)] == [last], "their processes are gone")
    pool.keep(0)
    wait_until(lambda: not alive(last) and pool.counts()["idle"] == 0, "the last one is closed")
    assert service.invoke("gated").document["pid"] not in every, "and there are others when they are needed"


def test_a_minimum_is_started_ahead(service: Service) -> None:
    pool = service.publish("gated", service.code(GATED))
    pool.keep(2)
    wait_until(lambda: pool.counts()["idle"] == 2, "two are ready")
    assert all(made.ahead and not made.provisioned for made in service.made)
    assert service.invoke("gated").status == 200
    assert len(service.made) == 2


def test_a_retired_pool_finishes_what_it_runs_and_no_invocation_is_lost(service: Service) -> None:
    old = service.publish("gated", service.code(GATED, variables={"WHERE": "old"}))
    old_pid = service.invoke("gated").document["pid"]
    gate = service.folder / "gate"
    with ThreadPoolExecutor(2) as callers:
        running = [callers.submit(service.invoke, "gated", str(gate)) for _ in range(2)]
        wait_until(lambda: old.counts()["busy"] == 2, "two are busy")
        new = service.publish("gated", service.code(GATED, variables={"WHERE": "new"}))
        assert (old.retired, old.ended, new.retired) == (True, False, False)
        assert service.invoke("gated").document["where"] == "new"
        assert not old.wait_until_ended(0.05)
        gate.touch()
        assert [answer.result().document["where"] for answer in running] == ["old", "old"]
    assert old.wait_until_ended(PATIENCE)
    wait_until(lambda: not alive(old_pid), "the old process is gone")
    assert sum(old.counts()[state] for state in ("init", "busy", "idle")) == 0


def test_a_retired_pool_that_nobody_knows_any_more_finishes_too(service: Service) -> None:
    service.publish("gated", service.code(GATED, variables={"WHERE": "old"}))
    gate = service.folder / "gate"
    with ThreadPoolExecutor(1) as callers:
        running = callers.submit(service.invoke, "gated", str(gate))
        wait_until(lambda: service.pools[0].counts()["busy"] == 1, "it is busy")
        service.publish("gated", service.code(GATED, variables={"WHERE": "new"}))
        del service.pools[0]
        gate.touch()
        assert running.result().document["where"] == "old"


def test_replacing_under_load_loses_nothing(service: Service) -> None:
    def code(number: int) -> FunctionPool:
        return service.publish(
            "fast", service.code("import os\ndef handler(event, context): return event", str(number))
        )

    code(0)
    stop = threading.Event()
    wrong: list[object] = []
    served = collections.Counter[int]()

    def call(caller: int) -> None:
        connection = service.connect()
        number = 0
        while not stop.is_set():
            number += 1
            answer = service.invoke("fast", [caller, number], connection=connection)
            if (answer.status, answer.document) != (200, [caller, number]):
                wrong.append((answer.status, answer.body))
        served[caller] = number
        connection.close()

    callers = [threading.Thread(target=call, args=(caller,)) for caller in range(4)]
    for caller in callers:
        caller.start()
    for number in range(1, 8):
        pool = code(number)
        wait_until(lambda pool=pool: pool.counts()["warm_starts"] > 20, "the new code serves")  # type: ignore[misc]
    stop.set()
    for caller in callers:
        caller.join(PATIENCE)
    assert wrong == []
    assert min(served.values()) > 0
    assert all(old.wait_until_ended(PATIENCE) for old in service.pools[:-1])


def test_who_waits_for_an_environment_that_cannot_be_made_is_told(service: Service) -> None:
    pool = service.publish("gated", service.code(GATED))
    service.refuse["gated"] = ("There is no Python 3.99 here", "InvalidRuntimeException", 502)
    for path in (
        "/2015-03-31/functions/gated/invocations",
        "/2021-11-15/functions/gated/response-streaming-invocations",
    ):
        answer = service.call(path)
        assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (502, "InvalidRuntimeException")
        assert answer.document == {"Type": "Service", "Message": "There is no Python 3.99 here"}
    assert pool.counts()["failures"] == 2
    assert pool.last_failure == "There is no Python 3.99 here"
    assert service.front.concurrency()["running"] == 0
    del service.refuse["gated"]
    assert service.invoke("gated").status == 200, "the next one asks anew"
    assert pool.last_failure is None


def test_a_request_that_is_forgotten_is_given_up() -> None:
    supply = EnvironmentSupply()
    pool = FunctionPool(supply, "subject", function_name="f")
    results: list[InvokeResult] = []
    done = threading.Event()

    def finished(result: InvokeResult) -> None:
        results.append(result)
        done.set()

    assert pool.submit(b"{}", finished) is None
    wanted = supply.next_wanted(PATIENCE)
    assert wanted is not None
    assert wanted.still_wanted
    assert wanted.subject == "subject"
    del wanted
    assert done.wait(PATIENCE)
    [result] = results
    status, error_type, message = result.service_error or (0, "", "")
    assert (status, error_type) == (500, "ServiceException")
    assert message == "No execution environment was made for the invocation"
    assert supply.next_wanted(0) is None
    supply.close()
    assert supply.closed
    assert supply.next_wanted() is None


def test_a_request_is_answered_once(service: Service) -> None:
    service.publish("gated", service.code(GATED))
    service.invoke("gated")
    [made] = service.made
    assert not made.still_wanted
    with pytest.raises(RuntimeError, match="answered before"):
        made.give_up("no")


def test_tenants_share_no_environment(service: Service) -> None:
    pool = service.publish("gated", service.code(GATED), tenant_isolation=True)
    seen: dict[str, set[int]] = {"blue": set(), "green": set()}
    for _ in range(5):
        for tenant, processes in seen.items():
            answer = service.invoke("gated", X_Amz_Tenant_Id=tenant)
            assert answer.document["tenant"] == tenant
            processes.add(answer.document["pid"])
    assert all(len(processes) == 1 for processes in seen.values())
    assert seen["blue"] != seen["green"]
    assert sorted(made.tenant_id or "" for made in service.made) == ["blue", "green"]
    assert pool.counts()["cold_starts"] == 2
    with pytest.raises(ValueError, match="tenant isolation"):
        pool.provision(1)


def test_a_tenant_is_named_where_tenants_are_apart_and_nowhere_else(service: Service) -> None:
    service.publish("apart", service.code(GATED), tenant_isolation=True)
    service.publish("shared", service.code(GATED))
    missing, unexpected = service.invoke("apart"), service.invoke("shared", X_Amz_Tenant_Id="blue")
    for answer in (missing, unexpected):
        assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (400, "InvalidParameterValueException")
        assert answer.document["Type"] == "User"
    assert missing.document["message"].endswith("Add a valid tenant ID in your request and try again.")
    assert unexpected.document["message"].endswith("Remove the tenant ID from your request and try again.")
    with pytest.raises(ValueError, match="enabled with tenancy"):
        service.pools[0].submit(b"{}", print)


def test_tenants_do_not_have_more_environments_than_the_account_allows(folder: Path) -> None:
    from tests.local.front.service import serving

    with serving(folder, concurrency=2) as service:
        service.publish("gated", service.code(GATED), tenant_isolation=True)
        for tenant in range(5):
            assert service.invoke("gated", X_Amz_Tenant_Id=str(tenant)).status == 200
        answer = service.invoke("gated", X_Amz_Tenant_Id="one too many")
        assert (answer.status, answer.document["Reason"]) == (429, "ConcurrentInvocationLimitExceeded")
        assert service.invoke("gated", X_Amz_Tenant_Id="0").status == 200


def test_provisioned_environments_are_ready_ahead_and_used_first(service: Service) -> None:
    pool = service.publish("gated", service.code(GATED), "1", idle_s=0.1)
    pool.provision(2)
    wait_until(lambda: pool.counts()["provisioned_ready"] == 2, "both are ready")
    assert all(made.provisioned and made.ahead for made in service.made)
    assert service.front.function_concurrency("gated") == {"reserved": None, "provisioned": 2, "running": 0}
    assert service.front.concurrency()["provisioned"] == 2
    answers = run_gated(service, pool, 3, "gated:1")
    assert len(pids(answers)) == 3
    counts = pool.counts()
    assert (counts["cold_starts"], counts["warm_starts"]) == (1, 2), (
        "the third one was caused by its invocation"
    )
    wait_until(lambda: pool.counts()["idle"] == 2, "the third one has grown too old")
    used = service.invoke("gated:1").document["pid"]
    pool.provision(1)
    wait_until(lambda: pool.counts()["provisioned"] == 1, "one is closed")
    assert service.invoke("gated:1").document["pid"] == used, "the one that was used last stays"
    pool.provision(0)
    wait_until(lambda: not alive(used), "the last one is closed")
    assert service.front.concurrency()["provisioned"] == 0


def test_what_cannot_be_made_ahead_is_not_asked_for_again_and_again(service: Service) -> None:
    pool = service.publish("gated", service.code(GATED))
    service.refuse["gated"] = ("No", "ServiceException", 500)
    pool.provision(3)
    wait_until(lambda: pool.counts()["failures"] >= 1, "the first one has failed")
    assert not threading.Event().wait(0.3)
    assert pool.counts()["failures"] <= 3
    del service.refuse["gated"]
    pool.provision(3)
    wait_until(lambda: pool.counts()["provisioned_ready"] == 3, "all are ready")


def test_events_from_python_count_and_are_answered(service: Service) -> None:
    pool = service.publish("gated", service.code(GATED))
    results: list[InvokeResult] = []
    assert pool.submit(b'""', results.append, request_id="8f5b7c8e-0000-4000-8000-000000000000") is None
    wait_until(lambda: results, "the invocation is finished")
    assert results[0].request_id == "8f5b7c8e-0000-4000-8000-000000000000"
    assert json.loads(results[0].payload)["where"] == "gated:$LATEST"
    assert results[0].service_error is None
    service.front.reserve("gated", 0)
    assert pool.submit(b'""', print) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert pool.counts()["throttled"] == 1


def test_a_callback_may_submit_at_once_under_a_reservation_of_one(service: Service) -> None:
    pool = service.publish("gated", service.code(GATED))
    service.front.reserve("gated", 1)
    refused: list[str | None] = []
    done = threading.Event()

    def next_one(_result: InvokeResult) -> None:
        if len(refused) == 50:
            done.set()
        else:
            refused.append(pool.submit(b'""', next_one))

    next_one(None)  # type: ignore[arg-type]
    assert done.wait(PATIENCE)
    assert set(refused) == {None}
    assert len(service.made) == 1


def test_a_closed_pool_fails_what_waits_and_a_retired_one_refuses(service: Service) -> None:
    supply = EnvironmentSupply()
    pool = FunctionPool(supply, None, function_name="f")
    results: list[InvokeResult] = []
    pool.submit(b"{}", results.append)
    assert pool.counts()["waiting"] == 1
    pool.close()
    pool.close()
    assert [result.service_error and result.service_error[0] for result in results] == [500]
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(b"{}", print)
    other = FunctionPool(supply, None, function_name="f")
    other.retire()
    assert other.ended
    with pytest.raises(RuntimeError, match="retired"):
        other.submit(b"{}", print)
    with pytest.raises(RuntimeError, match="retired"):
        service.front.publish("f", "$LATEST", other)
    with pytest.raises(ValueError, match="cannot be published as g"):
        service.front.publish("g", "$LATEST", other)


def test_an_environment_that_somebody_closed_is_replaced(service: Service) -> None:
    pool = service.publish("gated", service.code(GATED))
    service.front.reserve("gated", 1)
    first = service.invoke("gated").document["pid"]
    service.environments[0].close()
    assert service.invoke("gated").document["pid"] != first
    assert sum(pool.counts()[state] for state in ("init", "busy", "idle")) == 1
    assert service.front.concurrency()["running"] == 0


def test_a_crash_is_its_invocations_and_resets_the_environment(service: Service) -> None:
    pool = service.publish("crash", service.code("import os\ndef handler(event, context): os._exit(3)"))
    for _ in range(2):
        answer = service.invoke("crash")
        assert (answer.status, answer.document["errorType"]) == (200, "Runtime.ExitError")
    assert (pool.counts()["cold_starts"], pool.counts()["warm_starts"]) == (1, 1)


def test_a_pool_that_is_closed_while_it_runs_fails_what_it_runs(service: Service) -> None:
    pool = service.publish("gated", service.code(GATED))
    with ThreadPoolExecutor(1) as callers:
        running = callers.submit(service.invoke, "gated", str(service.folder / "never"))
        wait_until(lambda: pool.counts()["busy"] == 1, "it is busy")
        pool.close()
        assert running.result().headers["X-Amz-Function-Error"] == "Unhandled"
    assert pool.wait_until_ended(PATIENCE)
    assert service.front.concurrency()["running"] == 0
    answer = service.invoke("gated")
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (500, "ServiceException")
