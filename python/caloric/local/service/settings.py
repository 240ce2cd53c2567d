"""What else is set for a function: recursion detection and when its runtime is updated (spec lambda-service 3.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloric.local.service.errors import ServiceError
from caloric.local.service.names import LATEST, function_arn
from caloric.local.service.operations import Members, operation
from caloric.local.service.targets import find_target, function_document, reference_of, unqualified

if TYPE_CHECKING:
    from caloric.local.service.service import LambdaService

__all__ = [
    "get_function_recursion_config",
    "get_runtime_management_config",
    "put_function_recursion_config",
    "put_runtime_management_config",
]


@operation
def put_function_recursion_config(service: LambdaService, request: Members) -> Members:
    """Say whether a function may be part of a chain of invocations that leads back to it."""
    name = unqualified(service, request)
    with service.store.write() as transaction:
        document = function_document(service, transaction, name)
        document["RecursiveLoop"] = request["RecursiveLoop"]
        transaction.put("function", name, document=document)
    return {"RecursiveLoop": request["RecursiveLoop"]}


@operation
def get_function_recursion_config(service: LambdaService, request: Members) -> Members:
    """Return whether a function may be part of a chain of invocations that leads back to it."""
    name = unqualified(service, request)
    with service.store.read() as transaction:
        document = function_document(service, transaction, name)
    return {"RecursiveLoop": document.get("RecursiveLoop", "Terminate")}


@operation
def put_runtime_management_config(service: LambdaService, request: Members) -> Members:
    """Say when a function's version gets a newer patch of its runtime."""
    reference = reference_of(service, request)
    config = {"UpdateRuntimeOn": request["UpdateRuntimeOn"]}
    if config["UpdateRuntimeOn"] == "Manual":
        if not request.get("RuntimeVersionArn"):
            raise ServiceError(
                "InvalidParameterValueException",
                "You must specify the RuntimeVersionArn when UpdateRuntimeOn is Manual.",
            )
        config["RuntimeVersionArn"] = request["RuntimeVersionArn"]
    elif request.get("RuntimeVersionArn"):
        raise ServiceError(
            "InvalidParameterValueException",
            "You can specify the RuntimeVersionArn only when UpdateRuntimeOn is Manual.",
        )
    with service.store.write() as transaction:
        if find_target(service, transaction, reference).table == "alias":
            raise _alias()
        document = function_document(service, transaction, reference.name)
        document.setdefault("RuntimeManagement", {})[reference.qualifier or LATEST] = config
        transaction.put("function", reference.name, document=document)
    return {**config, "FunctionArn": function_arn(service, reference.name, reference.qualifier)}


@operation
def get_runtime_management_config(service: LambdaService, request: Members) -> Members:
    """Return when a function's version gets a newer patch of its runtime."""
    reference = reference_of(service, request)
    with service.store.read() as transaction:
        if find_target(service, transaction, reference).table == "alias":
            raise _alias()
        document = function_document(service, transaction, reference.name)
    configs = document.get("RuntimeManagement", {})
    config = configs.get(reference.qualifier or LATEST, {"UpdateRuntimeOn": "Auto"})
    return {**config, "FunctionArn": function_arn(service, reference.name, reference.qualifier)}


def _alias() -> ServiceError:
    return ServiceError(
        "InvalidParameterValueException",
        "Aliases do not support this operation. Please specify a function or a version of it.",
    )
