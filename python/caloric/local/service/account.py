"""The account: its limits, their use, and how its concurrency is divided (spec lambda-service 2.15 and 7.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from caloric.local.service.operations import Members, operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caloric.local.service.service import LambdaService
    from caloric.local.state.store import Transaction

__all__ = [
    "CONCURRENT_EXECUTIONS",
    "MINIMUM_UNRESERVED",
    "Concurrency",
    "account_concurrency",
    "get_account_settings",
]

CONCURRENT_EXECUTIONS = 1000
"""So many environments may run at once."""

MINIMUM_UNRESERVED = 100
"""So many of them must stay for functions that have reserved none."""

_LIMITS = {
    "TotalCodeSize": 80_530_636_800,
    "CodeSizeUnzipped": 262_144_000,
    "CodeSizeZipped": 52_428_800,
    "ConcurrentExecutions": CONCURRENT_EXECUTIONS,
}


@dataclass(frozen=True)
class Concurrency:
    """How the account's concurrency is divided."""

    reserved: Mapping[str, int]
    """By the name of the function, where it has reserved some, or none at all."""
    provisioned: Mapping[str, int]
    """By the name of the function, for all its versions and aliases together."""

    @property
    def unreserved(self) -> int:
        """What is left: provisioned concurrency counts where it is not part of what its function has reserved."""
        provisioned = sum(count for name, count in self.provisioned.items() if name not in self.reserved)
        return CONCURRENT_EXECUTIONS - sum(self.reserved.values()) - provisioned


def account_concurrency(transaction: Transaction) -> Concurrency:
    """Return how the account's concurrency is divided."""
    reserved = {
        name: document["ReservedConcurrentExecutions"]
        for (name,), document in transaction.scan("function")
        if document.get("ReservedConcurrentExecutions") is not None
    }
    provisioned: dict[str, int] = {}
    for (name, _), document in transaction.scan("provisioned_concurrency"):
        requested = document["RequestedProvisionedConcurrentExecutions"]
        provisioned[name] = provisioned.get(name, 0) + requested
    return Concurrency(reserved, provisioned)


@operation
def get_account_settings(service: LambdaService, request: Members) -> Members:
    """Return the account's limits, and how much code and how many functions it has.

    Every version of a function and of a layer counts with the size of its archive.
    """
    del request
    with service.store.read() as transaction:
        unreserved = account_concurrency(transaction).unreserved
        functions = len(transaction.keys("function"))
        size = sum(transaction.total(table, "CodeSize") for table in ("version", "layer_version"))
    return {
        "AccountLimit": {**_LIMITS, "UnreservedConcurrentExecutions": unreserved},
        "AccountUsage": {"TotalCodeSize": size, "FunctionCount": functions},
    }
