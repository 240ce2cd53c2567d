"""What goes with a function, a version or an alias."""

from __future__ import annotations

import pytest

from caloric.local.service.cleanup import forget_alias, forget_function, forget_version
from caloric.local.service.concurrency import put_provisioned_concurrency_config
from caloric.local.service.event_invoke_configs import put_function_event_invoke_config
from caloric.local.service.function_urls import create_function_url_config
from caloric.local.service.policies import add_permission
from caloric.local.service.settings import put_runtime_management_config
from tests.local.service.harness import ARN, Harness

TABLES = ("policy", "provisioned_concurrency", "event_invoke_config", "function_url")


@pytest.fixture
def lambda_(lambda_: Harness) -> Harness:
    """A service with two functions that have everything set, the name of one the beginning of the other's."""
    for name in ("orders", "orders2"):
        lambda_.function(name, versions=2, live="1")
        for qualifier in (None, "live"):
            lambda_(create_function_url_config, FunctionName=name, Qualifier=qualifier, AuthType="NONE")
        for qualifier in (None, "live", "2"):
            which = {"FunctionName": name, "Qualifier": qualifier}
            lambda_(
                add_permission,
                **which,
                StatementId="all",
                Action="lambda:InvokeFunction",
                Principal="*",
            )
            lambda_(put_function_event_invoke_config, **which, MaximumRetryAttempts=0)
            if qualifier is not None:
                lambda_(put_provisioned_concurrency_config, **which, ProvisionedConcurrentExecutions=1)
        lambda_(
            put_runtime_management_config, FunctionName=name, Qualifier="2", UpdateRuntimeOn="FunctionUpdate"
        )
    return lambda_


def kept(lambda_: Harness, *ends: str) -> dict[str, int]:
    """Return how many documents of each table belong to something that ends so."""
    with lambda_.service.store.read() as transaction:
        return {
            table: sum(":".join(key).endswith(ends) for key, _ in transaction.scan(table)) for table in TABLES
        }


def test_everything_goes_with_a_function_and_nothing_of_another(lambda_: Harness) -> None:
    everything = {"policy": 3, "provisioned_concurrency": 2, "event_invoke_config": 3, "function_url": 2}

    def of(name: str) -> dict[str, int]:
        return kept(lambda_, name, *(f"{name}:{qualifier}" for qualifier in ("$LATEST", "live", "2")))

    assert of("orders") == of("orders2") == everything
    with lambda_.service.store.write() as transaction:
        forget_function(lambda_.service, transaction, "orders")
    assert not any(of("orders").values())
    assert of("orders2") == everything


def test_the_policy_of_a_layer_stays(lambda_: Harness) -> None:
    with lambda_.service.store.write() as transaction:
        transaction.put("policy", f"{ARN}:layer:orders:1", document={"Statement": []})
        forget_function(lambda_.service, transaction, "orders")
        forget_function(lambda_.service, transaction, "orders2")
        assert [key for key, _ in transaction.scan("policy")] == [(f"{ARN}:layer:orders:1",)]


def test_what_goes_with_a_version(lambda_: Harness) -> None:
    with lambda_.service.store.write() as transaction:
        forget_version(lambda_.service, transaction, "orders", "2")
        function = transaction.get("function", "orders")
    assert not any(kept(lambda_, "orders:2").values())
    assert kept(lambda_, "orders:live") == dict.fromkeys(TABLES, 1)
    assert function is not None
    assert function["RuntimeManagement"] == {}
    assert ("orders", "2") not in lambda_.environments.provisions


def test_what_goes_with_an_alias(lambda_: Harness) -> None:
    with lambda_.service.store.write() as transaction:
        forget_alias(lambda_.service, transaction, "orders", "live")
    assert kept(lambda_, "orders:live") == dict.fromkeys(TABLES, 0) | {"function_url": 1}
    assert ("orders", "live") not in lambda_.environments.provisions
    assert lambda_.environments.provisions["orders", "2"] == 1
