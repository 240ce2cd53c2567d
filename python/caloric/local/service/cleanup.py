"""What goes with a function, a version or an alias when that is deleted.

Called in the transaction that deletes it. What is the function's own document, such as tags and reserved concurrency,
goes with that. The environments are told to withdraw a function or version by who deletes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloric.local.service.names import function_arn

if TYPE_CHECKING:
    from caloric.local.service.service import LambdaService
    from caloric.local.state.store import Transaction

__all__ = ["forget_alias", "forget_function", "forget_version"]


def forget_function(service: LambdaService, transaction: Transaction, name: str) -> None:
    """Remove the policies, URLs, event invoke configs and provisioned concurrency of a function and its qualifiers."""
    for table in ("function_url", "event_invoke_config", "provisioned_concurrency"):
        transaction.delete(table, name)
    arn = function_arn(service, name)
    transaction.delete("policy", arn)
    # Those of its versions and aliases follow one another.
    prefix = after = f"{arn}:"
    while following := transaction.scan("policy", after=after, limit=1):
        ((after,), _), *_ = following
        if not after.startswith(prefix):
            break
        transaction.delete("policy", after)


def forget_version(service: LambdaService, transaction: Transaction, name: str, version: str) -> None:
    """Remove what belongs to a published version of a function."""
    _forget(service, transaction, name, version)
    document = transaction.get("function", name)
    if document is not None and document.get("RuntimeManagement", {}).pop(version, None) is not None:
        transaction.put("function", name, document=document)


def forget_alias(service: LambdaService, transaction: Transaction, name: str, alias: str) -> None:
    """Remove what belongs to an alias. Its URL stays: with a new alias of that name it works again."""
    _forget(service, transaction, name, alias)


def _forget(service: LambdaService, transaction: Transaction, name: str, qualifier: str) -> None:
    transaction.delete("policy", function_arn(service, name, qualifier))
    transaction.delete("event_invoke_config", name, qualifier)
    if transaction.delete("provisioned_concurrency", name, qualifier):
        service.environments.provision(name, qualifier, 0)
