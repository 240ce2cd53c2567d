"""Aliases: names for versions, with a second version for a part of the invocations (spec lambda-service 2.14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caloric.local.service.activation import weights
from caloric.local.service.cleanup import forget_alias
from caloric.local.service.errors import ServiceError
from caloric.local.service.names import LATEST, function_arn, function_reference
from caloric.local.service.operations import Members, operation
from caloric.local.service.pages import page
from caloric.local.service.states import check_revision, new_revision
from caloric.local.service.versions import latest_version, version_number

if TYPE_CHECKING:
    from caloric.local.service.service import LambdaService
    from caloric.local.state.store import Transaction

__all__ = ["create_alias", "delete_alias", "get_alias", "list_aliases", "update_alias"]


@operation
def create_alias(service: LambdaService, request: Members) -> Members:
    """Make an alias."""
    name, alias = function_reference(service, request["FunctionName"]).name, request["Name"]
    document: dict[str, Any] = {
        "Name": alias,
        "FunctionVersion": request["FunctionVersion"],
        "Description": request.get("Description") or "",
    }
    _set_routing(document, request)
    with service.store.write() as transaction:
        _check(service, transaction, name, document)
        if transaction.get("alias", name, alias) is not None:
            raise ServiceError(
                "ResourceConflictException", f"Alias already exists: {function_arn(service, name, alias)}"
            )
        _write(service, transaction, name, document)
    return _described(service, name, document)


@operation
def get_alias(service: LambdaService, request: Members) -> Members:
    """Return an alias."""
    name, alias = function_reference(service, request["FunctionName"]).name, request["Name"]
    with service.store.read() as transaction:
        document = transaction.get("alias", name, alias)
    if document is None:
        raise ServiceError(
            "ResourceNotFoundException", f"Cannot find alias arn: {function_arn(service, name, alias)}"
        )
    return _described(service, name, document)


@operation
def update_alias(service: LambdaService, request: Members) -> Members:
    """Change an alias; members that are not given stay, and an empty `RoutingConfig` removes it."""
    name, alias = function_reference(service, request["FunctionName"]).name, request["Name"]
    with service.store.write() as transaction:
        document = transaction.get("alias", name, alias)
        if document is None:
            raise ServiceError(
                "ResourceNotFoundException", f"Alias not found: {function_arn(service, name, alias)}"
            )
        check_revision(document, request)
        document.update(
            (member, request[member]) for member in ("FunctionVersion", "Description") if member in request
        )
        _set_routing(document, request)
        _check(service, transaction, name, document)
        _write(service, transaction, name, document)
    return _described(service, name, document)


@operation
def delete_alias(service: LambdaService, request: Members) -> Members:
    """Delete an alias with what goes with it (`cleanup`); it may be deleted already."""
    name, alias = function_reference(service, request["FunctionName"]).name, request["Name"]
    with service.store.write() as transaction:
        if transaction.delete("alias", name, alias):
            forget_alias(service, transaction, name, alias)
            service.environments.route(name, alias, None)
    return {}


@operation
def list_aliases(service: LambdaService, request: Members) -> Members:
    """Return the function's aliases by name, or those that lead to `FunctionVersion`."""
    name, version = function_reference(service, request["FunctionName"]).name, request.get("FunctionVersion")
    with service.store.read() as transaction:
        latest_version(service, transaction, name)
        aliases = transaction.scan("alias", name)
    items = (
        ((alias,), _described(service, name, document))
        for (_, alias), document in aliases
        if version in (None, document["FunctionVersion"])
    )
    taken, following = page(request, items)
    return {"Aliases": taken, **following}


def _set_routing(document: dict[str, Any], request: Members) -> None:
    if "RoutingConfig" not in request:
        return
    document.pop("RoutingConfig", None)
    additional = request["RoutingConfig"].get("AdditionalVersionWeights")
    if additional:
        document["RoutingConfig"] = {"AdditionalVersionWeights": additional}


def _check(service: LambdaService, transaction: Transaction, name: str, document: Members) -> None:
    """Check that the versions of an alias exist and may share one."""
    version = document["FunctionVersion"]
    additional = document.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    if len(additional) > 1:
        raise _invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
    main = _existing(service, transaction, name, version)
    for other in additional:
        if other == version:
            raise _invalid(
                f"Invalid function version {version}. "
                f"Function version {version} is already included in routing configuration."
            )
        if version == LATEST:
            raise _invalid("$LATEST is not supported for an alias pointing to more than 1 version")
        second = _existing(service, transaction, name, other)
        for member in ("Role", "DeadLetterConfig"):
            if main.get(member) != second.get(member):
                raise _invalid(
                    f"The versions {version} and {other} cannot share an alias: their {member} differs."
                )


def _existing(service: LambdaService, transaction: Transaction, name: str, version: str) -> dict[str, Any]:
    number = version_number(version)
    document = None if number is None else transaction.get("version", name, number)
    if document is None:
        raise ServiceError(
            "ResourceNotFoundException", f"Function not found: {function_arn(service, name, version)}"
        )
    return document


def _write(service: LambdaService, transaction: Transaction, name: str, document: dict[str, Any]) -> None:
    new_revision(document)
    transaction.put("alias", name, document["Name"], document=document)
    service.environments.route(name, document["Name"], weights(document))


def _described(service: LambdaService, name: str, document: Members) -> Members:
    return {"AliasArn": function_arn(service, name, document["Name"]), **document}


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterValueException", message)
