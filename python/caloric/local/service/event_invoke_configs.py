"""How asynchronous invocations are retried, and where their results go (spec lambda-service 3.3).

One document for each qualifier that has a configuration: the members of the request, and `LastModified` in seconds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from caloric.local.service.errors import ServiceError
from caloric.local.service.names import (
    LATEST,
    FunctionReference,
    function_arn,
    function_reference,
    function_reference_of_arn,
)
from caloric.local.service.operations import Members, operation
from caloric.local.service.pages import page
from caloric.local.service.targets import find_target, reference_of

if TYPE_CHECKING:
    from caloric.local.service.service import LambdaService
    from caloric.local.state.store import Transaction

__all__ = [
    "delete_function_event_invoke_config",
    "get_function_event_invoke_config",
    "list_function_event_invoke_configs",
    "put_function_event_invoke_config",
    "update_function_event_invoke_config",
]

_SETTINGS = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")

_DESTINATIONS = {
    "OnSuccess": ("sqs", "sns", "lambda", "events"),
    "OnFailure": ("sqs", "sns", "lambda", "events", "s3"),
}
"""The services that a result can be sent to."""


@operation
def put_function_event_invoke_config(service: LambdaService, request: Members) -> Members:
    """Set how asynchronous invocations are handled, in place of everything that was set before."""
    return _write(service, request, keep=False)


@operation
def update_function_event_invoke_config(service: LambdaService, request: Members) -> Members:
    """Change how asynchronous invocations are handled; what the request leaves out stays as it is."""
    return _write(service, request, keep=True)


@operation
def get_function_event_invoke_config(service: LambdaService, request: Members) -> Members:
    """Return how asynchronous invocations are handled."""
    reference = _qualified(reference_of(service, request))
    with service.store.read() as transaction:
        document = transaction.get("event_invoke_config", *_key(reference))
    if document is None:
        raise _not_configured(service, reference)
    return _answer(service, reference, document)


@operation
def delete_function_event_invoke_config(service: LambdaService, request: Members) -> Members:
    """Go back to two retries, six hours and no destinations."""
    reference = _qualified(reference_of(service, request))
    with service.store.write() as transaction:
        if not transaction.delete("event_invoke_config", *_key(reference)):
            raise _not_configured(service, reference)
    return {}


@operation
def list_function_event_invoke_configs(service: LambdaService, request: Members) -> Members:
    """Return what is set for a function and its versions and aliases."""
    name = function_reference(service, request["FunctionName"]).name
    with service.store.read() as transaction:
        if transaction.get("function", name) is None:
            raise _no_function()
        documents = transaction.scan("event_invoke_config", name)
    configs, following = page(
        request,
        [
            ((qualifier,), _answer(service, FunctionReference(name, qualifier), document))
            for (_, qualifier), document in documents
        ],
    )
    return {"FunctionEventInvokeConfigs": configs, **following}


def _write(service: LambdaService, request: Members, *, keep: bool) -> Members:
    reference = _qualified(reference_of(service, request))
    settings = {name: request[name] for name in _SETTINGS if request.get(name) is not None}
    if not settings:
        raise ServiceError(
            "InvalidParameterValueException",
            "You must specify at least one of error handling or destination setting.",
        )
    with service.store.write() as transaction:
        try:
            find_target(service, transaction, reference)
        except ServiceError:
            raise _no_function() from None
        _check_destinations(service, transaction, reference, settings.get("DestinationConfig") or {})
        before = transaction.get("event_invoke_config", *_key(reference))
        if keep and before is None:
            raise _not_configured(service, reference)
        document = {**(before or {}), **settings} if keep else settings
        document["LastModified"] = round(time.time(), 3)
        transaction.put("event_invoke_config", *_key(reference), document=document)
    return _answer(service, reference, document)


def _check_destinations(
    service: LambdaService, transaction: Transaction, reference: FunctionReference, destinations: Members
) -> None:
    for condition, services in _DESTINATIONS.items():
        arn = (destinations.get(condition) or {}).get("Destination")
        if not arn:
            continue
        receiver = arn.split(":")[2] if arn.startswith("arn:") else ""
        # A standard queue or topic: a FIFO one wants a group for each message.
        if receiver not in services or arn.endswith(".fifo"):
            raise ServiceError(
                "InvalidParameterValueException",
                f"The provided destination config {_shown(destinations)} is invalid.",
            )
        if receiver != "lambda":
            continue
        target = function_reference_of_arn(service, arn)
        if target is not None and target.name == reference.name:
            raise ServiceError(
                "InvalidParameterValueException",
                "You can't specify the function as a destination for itself.",
            )
        if target is None or transaction.get("function", target.name) is None:
            raise ServiceError("InvalidParameterValueException", f"The destination ARN {arn} is invalid.")


def _shown(destinations: Members) -> str:
    """Return the destinations as AWS's error shows them."""

    def one(condition: str, name: str) -> str:
        if destinations.get(condition) is None:
            return "null"
        destination = destinations[condition].get("Destination")
        return f"{name}(destination={'null' if destination is None else destination})"

    return f"DestinationConfig(onSuccess={one('OnSuccess', 'OnSuccess')}, onFailure={one('OnFailure', 'OnFailure')})"


def _qualified(reference: FunctionReference) -> FunctionReference:
    return FunctionReference(reference.name, reference.qualifier or LATEST)


def _key(reference: FunctionReference) -> tuple[str, str]:
    return reference.name, reference.qualifier or LATEST


def _answer(service: LambdaService, reference: FunctionReference, document: Members) -> dict[str, Any]:
    destinations = document.get("DestinationConfig") or {}
    return {
        **document,
        "FunctionArn": function_arn(service, reference.name, reference.qualifier),
        "DestinationConfig": {condition: destinations.get(condition) or {} for condition in _DESTINATIONS},
    }


def _no_function() -> ServiceError:
    return ServiceError("ResourceNotFoundException", "The function doesn't exist.")


def _not_configured(service: LambdaService, reference: FunctionReference) -> ServiceError:
    arn = function_arn(service, reference.name, reference.qualifier)
    return ServiceError("ResourceNotFoundException", f"The function {arn} doesn't have an EventInvokeConfig")
