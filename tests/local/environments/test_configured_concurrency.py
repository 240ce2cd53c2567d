"""Reserved and provisioned concurrency as a client configures them, with environments that really start."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from caloric.local.environments.runtimes import OWN_VERSION
from caloric.local.service.aliases import create_alias
from caloric.local.service.concurrency import (
    delete_function_concurrency,
    delete_provisioned_concurrency_config,
    get_provisioned_concurrency_config,
    put_function_concurrency,
    put_provisioned_concurrency_config,
)
from caloric.local.service.functions import create_function, delete_function, get_function_configuration
from caloric.local.service.service import LambdaService
from caloric.local.service.versions import publish_version
from caloric.local.state.data_directory import DataDirectory
from tests.local.environments.conftest import ACCOUNT, REGION
from tests.local.environments.test_controller import LIMIT_S, Service
from tests.local.service.recording import new, zipped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from caloric.local.environments.maker import EnvironmentMaker
    from caloric.local.service.operations import Operation

HOW_STARTED = """
import os

def handler(event, context):
    return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
"""
LIVE = {"FunctionName": "orders", "Qualifier": "live"}


class Configured:
    """The service in front of environments, with the function `orders`, its version 1 and the alias `live`."""

    def __init__(self, maker: EnvironmentMaker, folder: Path) -> None:
        self.running = Service(maker, folder)
        self.directory = DataDirectory(folder / "state")
        self.service = LambdaService(
            region=REGION,
            account=ACCOUNT,
            store=self.directory.store,
            blobs=self.directory.blobs,
            environments=self.running.environments,
        )
        self.service.activation.start()

    def __call__(self, operation: Operation, **members: Any) -> Any:
        return operation(self.service, members)

    def create(self, code: str) -> None:
        runtime = f"python{OWN_VERSION}"
        self(create_function, **new(Code={"ZipFile": zipped({"app.py": code})}, Runtime=runtime, Timeout=20))
        limit = time.monotonic() + LIMIT_S
        while self(get_function_configuration, FunctionName="orders")["State"] != "Active":
            assert time.monotonic() < limit
            time.sleep(0.01)
        self(publish_version, FunctionName="orders")
        self(create_alias, FunctionName="orders", Name="live", FunctionVersion="1")

    def provisioned(self) -> dict[str, Any]:
        """Return the state of provisioned concurrency when it is in progress no more."""
        limit = time.monotonic() + LIMIT_S
        while True:
            answer = self(get_provisioned_concurrency_config, **LIVE)
            if answer["Status"] != "IN_PROGRESS":
                config: dict[str, Any] = answer
                return config
            assert time.monotonic() < limit, answer
            time.sleep(0.01)

    def close(self) -> None:
        self.running.close()
        self.service.activation.close()
        self.directory.close()


@pytest.fixture
def configured(maker: EnvironmentMaker, tmp_path: Path) -> Iterator[Configured]:
    service = Configured(maker, tmp_path)
    yield service
    service.close()


def test_provisioned_environments_are_ready_when_the_status_says_so(configured: Configured) -> None:
    configured.create(HOW_STARTED)
    begun = configured(put_provisioned_concurrency_config, **LIVE, ProvisionedConcurrentExecutions=2)
    assert begun["RequestedProvisionedConcurrentExecutions"] == 2
    ready = configured.provisioned()
    assert ready["Status"] == "READY"
    assert ready["AvailableProvisionedConcurrentExecutions"] == 2
    assert ready["AllocatedProvisionedConcurrentExecutions"] == 2
    assert configured.running.result(qualifier="live") == "provisioned-concurrency"
    assert configured.running.counts(version="1")["coldStarts"] == 0
    configured(delete_provisioned_concurrency_config, **LIVE)
    # As many as are asked for anew, and they are not those that end.
    configured(put_provisioned_concurrency_config, **LIVE, ProvisionedConcurrentExecutions=1)
    assert configured.provisioned()["AvailableProvisionedConcurrentExecutions"] == 1


def test_provisioning_fails_with_the_reason_that_the_init_had(configured: Configured) -> None:
    configured.create("raise RuntimeError('no database')\n")
    configured(put_provisioned_concurrency_config, **LIVE, ProvisionedConcurrentExecutions=1)
    failed = configured.provisioned()
    assert failed["Status"] == "FAILED"
    assert failed["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE"
    assert failed["AvailableProvisionedConcurrentExecutions"] == 0


FAILS_ONCE = """
import os, tempfile

tried = os.path.join(tempfile.gettempdir(), "tried")
if not os.path.exists(tried):
    open(tried, "w").close()
    raise RuntimeError("not yet")

def handler(event, context):
    return "at last"
"""


def test_what_failed_is_ready_when_an_invocation_has_run_its_init_again(configured: Configured) -> None:
    configured.create(FAILS_ONCE)
    configured(put_provisioned_concurrency_config, **LIVE, ProvisionedConcurrentExecutions=1)
    assert configured.provisioned()["Status"] == "FAILED"
    assert configured.running.result(qualifier="live") == "at last"
    assert configured.provisioned()["Status"] == "READY"


def test_no_invocation_of_a_function_with_nothing_reserved_for_it(configured: Configured) -> None:
    configured.create(HOW_STARTED)
    configured(put_function_concurrency, FunctionName="orders", ReservedConcurrentExecutions=0)
    for qualifier in (None, "live"):
        status, document, _ = configured.running.invoke(qualifier=qualifier)
        assert (status, document["Reason"]) == (429, "ReservedFunctionConcurrentInvocationLimitExceeded")
    configured(delete_function_concurrency, FunctionName="orders")
    assert configured.running.result() == "on-demand"


def test_a_function_made_anew_has_nothing_of_the_one_before(configured: Configured) -> None:
    configured.create(HOW_STARTED)
    configured(put_function_concurrency, FunctionName="orders", ReservedConcurrentExecutions=0)
    configured(delete_function, FunctionName="orders")
    runtime = f"python{OWN_VERSION}"
    code = {"ZipFile": zipped({"app.py": HOW_STARTED})}
    configured(create_function, **new(Code=code, Runtime=runtime, Timeout=20))
    limit = time.monotonic() + LIMIT_S
    while configured(get_function_configuration, FunctionName="orders")["State"] != "Active":
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert configured.running.result() == "on-demand"
