"""The environments of a service: invoked over HTTP through the front, as users do it."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest

from caloric._rust import ServiceFront
from caloric.local.environments.controller import LocalEnvironments
from caloric.local.environments.interface import NotPublishedError
from tests.local.environments.conftest import ACCOUNT, FAILING, REGION, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from caloric._rust import InvokeResult
    from caloric.local.environments.maker import EnvironmentMaker
    from tests.conftest import WriteFunction

LIMIT_S = 30


class Service:
    """A front and the environments behind it."""

    def __init__(self, maker: EnvironmentMaker, folder: Path, **settings: Any) -> None:
        concurrency = settings.pop("concurrency", 1000)
        # Nobody listens there: what the front does not run itself is a 502.
        self.front = ServiceFront(
            str(folder / "backend"), port=0, region=REGION, account_id=ACCOUNT, concurrency=concurrency
        )
        self.environments = LocalEnvironments(self.front, maker, region=REGION, account=ACCOUNT, **settings)

    def invoke(
        self,
        name: str = "orders",
        event: object = None,
        qualifier: str | None = None,
        tenant: str | None = None,
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, document and headers of a synchronous invocation."""
        host, _, port = self.front.address.partition(":")
        connection = HTTPConnection(host, int(port), timeout=LIMIT_S)
        query = "" if qualifier is None else f"?Qualifier={qualifier}"
        headers = {} if tenant is None else {"X-Amz-Tenant-Id": tenant}
        connection.request(
            "POST", f"/2015-03-31/functions/{name}/invocations{query}", json.dumps(event), headers
        )
        response = connection.getresponse()
        body = response.read()
        connection.close()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, json.loads(body) if body else None, headers

    def result(self, *arguments: Any, **named: Any) -> Any:
        """Return what the function returned."""
        status, document, headers = self.invoke(*arguments, **named)
        assert status == 200, document
        assert "x-amz-function-error" not in headers, document
        return document

    def counts(self, name: str = "orders", version: str = "$LATEST") -> dict[str, Any]:
        (row,) = [
            row
            for row in self.environments.status()["functions"]
            if (row["function"], row["version"]) == (name, version)
        ]
        return {**row, **row["environments"]}

    def close(self) -> None:
        self.front.close()
        self.environments.close()


def until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < limit, "it did not come to that"
        time.sleep(0.01)


@pytest.fixture
def start(maker: EnvironmentMaker, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def start(**settings: Any) -> Service:
        started.append(Service(maker, tmp_path, **settings))
        return started[-1]

    yield start
    for service in started:
        service.close()


@pytest.fixture
def service(start: Callable[..., Service]) -> Service:
    return start()


SLEEPY = """
import os, time
def handler(event, context):
    if isinstance(event, str):
        # Until the test lets it go on.
        while not os.path.exists(event):
            time.sleep(0.005)
    return os.getpid()
"""


# ---- cold and warm starts --------------------------------------------------------------------------------------------


def test_an_invocation_starts_an_environment_and_the_next_uses_it(service: Service, code: Path) -> None:
    service.environments.publish(version_of(code))
    assert service.environments.status()["totals"]["environments"] == 0, "nothing is started before"
    first, second = service.result(), service.result()
    assert (first["calls"], second["calls"]) == (1, 2)
    assert first["pid"] == second["pid"]
    counts = service.counts()
    assert (counts["coldStarts"], counts["warmStarts"]) == (1, 1)
    assert counts["logStreams"] == [first["log_stream"]]
    assert counts["memoryMB"] > 1


def test_invocations_at_the_same_time_have_an_environment_each(
    service: Service, write_function: WriteFunction, tmp_path: Path
) -> None:
    service.environments.publish(version_of(write_function(SLEEPY)))
    go = tmp_path / "go"
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(service.result, event=str(go)) for _ in range(4)]
        until(lambda: service.counts()["busy"] == 4)
        go.write_text("")
        assert len({future.result() for future in running}) == 4


def test_publishing_the_same_again_changes_nothing(service: Service, code: Path) -> None:
    service.environments.publish(version_of(code))
    pid = service.result()["pid"]
    service.environments.publish(version_of(code))
    assert service.result()["pid"] == pid


def test_an_update_drains_what_runs_and_serves_the_new_meanwhile(
    service: Service, write_function: WriteFunction, tmp_path: Path
) -> None:
    code = write_function(SLEEPY)
    service.environments.publish(version_of(code))
    go = tmp_path / "go"
    with ThreadPoolExecutor(1) as threads:
        old = threads.submit(service.result, event=str(go))
        until(lambda: service.counts()["busy"] == 1)
        service.environments.publish(version_of(code, memory_mb=512))
        new = service.result()
        assert service.counts()["draining"] == 1
        assert not old.done()
        go.write_text("")
        pid = old.result()
    assert pid != new
    until(lambda: service.counts()["draining"] == 0)
    until(lambda: not Path(f"/proc/{pid}").exists())
    # What the old environments did is counted still.
    until(lambda: service.counts()["coldStarts"] == 2)


def test_versions_and_aliases_have_environments_of_their_own(service: Service, code: Path) -> None:
    for version in ("$LATEST", "1", "2"):
        service.environments.publish(version_of(code, version=version))
    service.environments.route("orders", "live", {"1": 1.0})
    seen = {qualifier: service.result(qualifier=qualifier) for qualifier in ("$LATEST", "1", "2", "live")}
    assert len({seen[qualifier]["pid"] for qualifier in ("$LATEST", "1", "2")}) == 3
    assert seen["live"]["pid"] == seen["1"]["pid"]
    assert seen["live"]["arn"].endswith(":function:orders:live")
    service.environments.route("orders", "live", {"2": 1.0})
    assert service.result(qualifier="live")["pid"] == seen["2"]["pid"]
    service.environments.withdraw("orders", "2")
    assert service.invoke(qualifier="2")[0] == 502, "the front does not know it any more"
    until(lambda: not Path(f"/proc/{seen['2']['pid']}").exists())
    assert service.result(qualifier="1")["pid"] == seen["1"]["pid"]


def test_a_function_that_is_withdrawn_leaves_nothing(service: Service, code: Path) -> None:
    service.environments.publish(version_of(code))
    pid = service.result()["pid"]
    service.environments.withdraw("orders")
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert service.environments.status()["functions"] == []
    service.environments.withdraw("never there")
    service.environments.publish(version_of(code))
    assert service.result()["calls"] == 1


def test_tenants_do_not_share_environments(service: Service, code: Path) -> None:
    service.environments.publish(version_of(code, tenant_isolation=True))
    blue, red, again = (service.result(tenant=tenant)["pid"] for tenant in ("blue", "red", "blue"))
    assert blue == again != red
    assert service.invoke()[0] == 400


def test_idle_environments_end(start: Callable[..., Service], code: Path) -> None:
    service = start(idle_s=0.2)
    service.environments.publish(version_of(code))
    pid = service.result()["pid"]
    until(lambda: service.counts()["idle"] == 0)
    until(lambda: not Path(f"/proc/{pid}").exists())
    until(lambda: service.counts()["logStreams"] == [])
    assert service.result()["calls"] == 1


# ---- started ahead ---------------------------------------------------------------------------------------------------


def test_provisioned_environments_are_initialised_ahead(service: Service, code: Path) -> None:
    service.environments.publish(version_of(code, version="1"))
    service.environments.provision("orders", "1", 2)
    until(lambda: service.environments.provisioned("orders", "1").available == 2)
    seen = service.result(qualifier="1")
    assert seen["variables"]["AWS_LAMBDA_INITIALIZATION_TYPE"] == "provisioned-concurrency"
    assert service.counts(version="1")["coldStarts"] == 0
    service.environments.provision("orders", "1", 0)
    until(lambda: service.counts(version="1")["provisioned"] == 0)
    assert service.environments.provisioned("orders", "1").allocated == 0


def test_what_is_provisioned_of_an_alias_follows_its_versions(service: Service, code: Path) -> None:
    for version in ("1", "2"):
        service.environments.publish(version_of(code, version=version))
    service.environments.route("orders", "live", {"1": 0.75, "2": 0.25})
    service.environments.provision("orders", "live", 4)
    until(lambda: service.environments.provisioned("orders", "live").available == 4)
    assert [service.counts(version=version)["provisioned"] for version in ("1", "2")] == [3, 1]
    service.environments.route("orders", "live", {"2": 1.0})
    until(lambda: service.environments.provisioned("orders", "live").available == 4)
    until(lambda: service.counts(version="1")["provisioned"] == 0)


def test_provisioned_environments_come_with_the_version_and_move_to_a_new_one(
    service: Service, code: Path
) -> None:
    service.environments.provision("orders", "1", 1)
    assert service.environments.provisioned("orders", "1").allocated == 0
    service.environments.publish(version_of(code, version="1"))
    until(lambda: service.environments.provisioned("orders", "1").available == 1)
    service.environments.publish(version_of(code, version="1", memory_mb=300))
    until(lambda: service.environments.provisioned("orders", "1").available == 1)
    assert service.result(qualifier="1")["memory"] == "300"


def test_what_cannot_be_started_ahead_says_why_and_is_not_tried_for_ever(
    service: Service, tmp_path: Path
) -> None:
    service.environments.publish(version_of(tmp_path, version="1", runtime="nodejs22.x"))
    service.environments.provision("orders", "1", 3)
    until(lambda: service.environments.provisioned("orders", "1").failure is not None)
    assert "nodejs22.x" in (service.environments.provisioned("orders", "1").failure or "")


def test_a_function_that_cannot_be_initialised_ahead_is_a_failure(
    service: Service, write_function: WriteFunction
) -> None:
    code = write_function("raise LookupError('it has no configuration')\n")
    service.environments.publish(version_of(code, version="1"))
    service.environments.provision("orders", "1", 2)
    until(lambda: service.environments.provisioned("orders", "1").failure is not None)
    until(lambda: service.environments.provisioned("orders", "1").available == 0)
    progress = service.environments.provisioned("orders", "1")
    assert progress.failure == "FUNCTION_ERROR_INIT_FAILURE"
    assert service.invoke(qualifier="1")[1]["errorType"] == "LookupError"
    until(lambda: service.environments.provisioned("orders", "1").failure is not None)
    # As AWS wants it: the configuration is removed, and put again when the function is repaired.
    (code / "app.py").write_text("def handler(event, context): return 1\n")
    service.environments.provision("orders", "1", 0)
    until(lambda: service.counts(version="1")["provisioned"] == 0)
    service.environments.provision("orders", "1", 2)
    until(lambda: service.environments.provisioned("orders", "1").available == 2)
    assert service.environments.provisioned("orders", "1").failure is None


def test_a_crash_is_no_failure_to_initialise(service: Service, write_function: WriteFunction) -> None:
    code = write_function("import os\ndef handler(event, context): os._exit(1) if event else None\n")
    service.environments.publish(version_of(code, version="1"))
    service.environments.provision("orders", "1", 1)
    until(lambda: service.environments.provisioned("orders", "1").available == 1)
    assert service.invoke(event=1, qualifier="1")[1]["errorType"] == "Runtime.ExitError"
    until(lambda: service.counts(version="1")["busy"] == 0)
    assert service.environments.provisioned("orders", "1").failure is None
    service.result(qualifier="1")
    until(lambda: service.environments.provisioned("orders", "1").available == 1)


def test_a_minimum_is_kept_beyond_the_idle_time(start: Callable[..., Service], code: Path) -> None:
    service = start(idle_s=0.1)
    service.environments.keep("orders", "$LATEST", 1)
    service.environments.publish(version_of(code))
    until(lambda: service.counts()["idle"] == 1)
    first = service.result()["pid"]
    with pytest.raises(AssertionError):
        _within(1, lambda: service.counts()["idle"] == 0)
    assert service.result()["pid"] == first
    service.environments.keep("orders", "$LATEST", 0)
    until(lambda: service.counts()["idle"] == 0)


def _within(seconds: float, holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_idle_environments_are_frozen_and_counted_so(service: Service, code: Path) -> None:
    service.environments.publish(version_of(code))
    service.result()
    until(lambda: service.counts()["frozen"] == service.counts()["idle"] == 1)


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_reserved_and_account_concurrency_are_refused_with_429(
    start: Callable[..., Service], write_function: WriteFunction, tmp_path: Path
) -> None:
    service = start(concurrency=2)
    code = write_function(SLEEPY)
    service.environments.publish(version_of(code))
    service.environments.publish(version_of(code, function_name="other"))
    service.environments.reserve("orders", 1)
    go = tmp_path / "go"
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(service.result, name, str(go)) for name in ("orders", "other")]
        until(lambda: service.counts()["busy"] == service.counts("other")["busy"] == 1)
        status, document, _ = service.invoke()
        assert (status, document["Reason"]) == (429, "ReservedFunctionConcurrentInvocationLimitExceeded")
        status, document, _ = service.invoke("other")
        assert (status, document["Reason"]) == (429, "ConcurrentInvocationLimitExceeded")
        go.write_text("")
        for future in running:
            future.result()
    assert service.counts()["throttled"] == 1
    service.environments.reserve("orders", 0)
    assert service.invoke()[0] == 429
    service.environments.reserve("orders", None)
    until(lambda: service.invoke()[0] == 200)


# ---- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "error", "timeout_s"),
    [
        ("crash", "Runtime.ExitError", 20),
        ("hang", "Sandbox.Timedout", 2),
        ("grow", "Runtime.OutOfMemory", 20),
    ],
)
def test_after_a_crash_a_timeout_and_too_much_memory_the_function_is_served_further(
    service: Service, write_function: WriteFunction, event: str, error: str, timeout_s: int
) -> None:
    code = write_function(FAILING)
    service.environments.publish(version_of(code, timeout_s=timeout_s, memory_mb=128))
    _, pid = service.result()
    status, document, headers = service.invoke(event=event)
    assert (status, document["errorType"], headers["x-amz-function-error"]) == (200, error, "Unhandled")
    # In the same environment or, where its processes take their time to end, in another: see test_maker for the first.
    assert service.result()[1] != pid
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_function_that_dies_in_init_harms_no_other_and_is_not_started_again_by_itself(
    service: Service, write_function: WriteFunction, code: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    starts = tmp_path / "starts"
    (bad / "app.py").write_text(f"import os\nopen({str(starts)!r}, 'a').write('x')\nos._exit(9)\n")
    service.environments.publish(version_of(bad, function_name="bad"))
    service.environments.publish(version_of(code))
    with ThreadPoolExecutor(8) as threads:
        failed = [threads.submit(service.invoke, "bad") for _ in range(8)]
        good = [threads.submit(service.result) for _ in range(8)]
        assert {future.result()[1]["errorType"] for future in failed} == {"Runtime.ExitError"}
        assert all(future.result() for future in good)
    count = len(starts.read_text())
    # Each invocation has an init, and the one before that failed and is run again within it.
    assert count <= 16
    with pytest.raises(AssertionError):
        _within(1, lambda: len(starts.read_text()) > count)


def test_what_no_environment_can_be_made_for_is_an_error_of_the_service(
    service: Service, code: Path, tmp_path: Path
) -> None:
    service.environments.publish(version_of(code, runtime="nodejs22.x"))
    status, document, headers = service.invoke()
    assert (status, headers["x-amzn-errortype"]) == (502, "InvalidRuntimeException")
    assert "is not available locally" in json.dumps(document)
    assert "is not available locally" in service.counts()["lastFailure"]
    service.environments.publish(version_of(code))
    assert service.result()["calls"] == 1


# ---- code that is edited ---------------------------------------------------------------------------------------------


def save(code: Path, text: str) -> None:
    (code / "app.py").write_text(f"def handler(event, context): return {text!r}\n")


def test_after_a_save_the_next_invocation_runs_the_new_code(
    service: Service, write_function: WriteFunction
) -> None:
    code = write_function("def handler(event, context): return 'first'\n")
    service.environments.publish(version_of(code, watched=True))
    assert service.result() == "first"
    for number in range(3):
        # Of the same length, and within the same second.
        save(code, f"new {number}")
        until(lambda number=number: service.result() == f"new {number}")  # type: ignore[misc]
    assert not (code / "__pycache__").exists()


def test_what_runs_finishes_on_the_old_code(
    service: Service, write_function: WriteFunction, tmp_path: Path
) -> None:
    code = write_function(SLEEPY)
    # What was saved a moment ago counts as saved since.
    os.utime(code / "app.py", (1, 1))
    service.environments.publish(version_of(code, watched=True))
    go = tmp_path / "go"
    with ThreadPoolExecutor(1) as threads:
        old = threads.submit(service.result, event=str(go))
        until(lambda: service.counts()["busy"] == 1)
        save(code, "new")
        until(lambda: service.result() == "new")
        assert not old.done()
        go.write_text("")
        assert isinstance(old.result(), int)


def test_a_folder_that_goes_is_an_error_at_invoke_and_may_come_back(
    service: Service, write_function: WriteFunction
) -> None:
    code = write_function("def handler(event, context): return 'there'\n")
    service.environments.publish(version_of(code, watched=True))
    assert service.result() == "there"
    code.rename(code.with_name("away"))
    until(lambda: service.invoke()[0] == 502)
    assert "is not there: put it back" in json.dumps(service.invoke()[1])
    code.with_name("away").rename(code)
    until(lambda: service.invoke()[0] == 200)
    save(code, "watched again")
    until(lambda: service.result() == "watched again")


def test_a_folder_that_is_watched_no_more_is_left_alone(
    service: Service, write_function: WriteFunction, tmp_path: Path
) -> None:
    code = write_function("def handler(event, context): return 'first'\n")
    service.environments.publish(version_of(code, watched=True))
    service.environments.publish(version_of(code))
    assert service.result() == "first"
    save(code, "second")
    with pytest.raises(AssertionError):
        _within(1, lambda: service.result() != "first")
    assert not any(thread.name == "code watch" for thread in threading.enumerate())


# ---- invocations from within -----------------------------------------------------------------------------------------


def test_the_service_can_invoke_by_itself(service: Service, code: Path) -> None:
    for version in ("$LATEST", "1", "2"):
        service.environments.publish(version_of(code, version=version))
    service.environments.route("orders", "live", {"1": 0.5, "2": 0.5})
    results: Queue[InvokeResult] = Queue()
    for _ in range(20):
        assert service.environments.submit("orders", "live", b'{"a": 1}', results.put) is None
    documents = [json.loads(results.get(timeout=LIMIT_S).payload) for _ in range(20)]
    assert {document["function_version"] for document in documents} == {"1", "2"}
    assert {document["arn"] for document in documents} == {
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:orders:live"
    }
    assert service.environments.submit("orders", None, b"1", results.put) is None
    assert json.loads(results.get(timeout=LIMIT_S).payload)["arn"].endswith(":function:orders")
    for name, qualifier in (("orders", "3"), ("orders", "none"), ("nobody", None)):
        with pytest.raises(NotPublishedError):
            service.environments.submit(name, qualifier, b"1", results.put)


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_closing_ends_everything_and_may_be_done_twice(
    start: Callable[..., Service], code: Path, maker: EnvironmentMaker
) -> None:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    service = start()
    for number in range(5):
        service.environments.publish(version_of(code, function_name=f"f{number}", watched=number == 0))
    pids = [service.result(f"f{number}")["pid"] for number in range(5)]
    service.close()
    service.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    until(lambda: threading.active_count() <= threads)
    service.environments.publish(version_of(code))
    with pytest.raises(NotPublishedError):
        service.environments.submit("f0", None, b"1", print)
    del service
    until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 20)


def test_many_updates_leave_nothing_behind(service: Service, code: Path) -> None:
    service.environments.publish(version_of(code))
    service.result()
    until(lambda: service.counts()["idle"] == 1)
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        service.environments.publish(version_of(code, memory_mb=128 + number))
        assert service.result()["memory"] == str(128 + number)
    until(lambda: service.counts()["draining"] == 0)
    until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 10)
    assert service.counts()["coldStarts"] == 101
