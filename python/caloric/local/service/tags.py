"""Tags of functions and code signing configs (spec lambda-service 2.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caloric.local.service.errors import ServiceError
from caloric.local.service.names import function_reference
from caloric.local.service.operations import Members, operation
from caloric.local.service.targets import function_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caloric.local.service.service import LambdaService
    from caloric.local.state.store import Transaction

__all__ = ["check_tags", "list_tags", "tag_resource", "untag_resource"]

MAX_TAGS = 50
"""So many a resource may have (spec lambda-service 0.6)."""

# The kinds of resources that the API has tags for and that are not here, and what AWS calls them.
_OTHERS = {
    "event-source-mapping": "Event source mapping",
    "capacity-provider": "Capacity provider",
    "network-connector": "Network connector",
}


def check_tags(tags: Mapping[str, str]) -> None:
    """Check all the tags that a resource is to have.

    Raises:
        ServiceError: `InvalidParameterValueException` for more than `MAX_TAGS`, and for keys that are AWS's own.
    """
    if len(tags) > MAX_TAGS:
        raise ServiceError("InvalidParameterValueException", "Number of tags exceeds resource tag limit.")
    if any(key.lower().startswith("aws:") for key in tags):
        raise ServiceError(
            "InvalidParameterValueException",
            "aws: prefixed tag key names are not allowed for external use.",
        )


@operation
def tag_resource(service: LambdaService, request: Members) -> Members:
    """Add tags to a resource, in the place of those with the same keys."""
    if not request["Tags"]:
        raise ServiceError(
            "InvalidParameterValueException", "An error occurred and the request cannot be processed."
        )
    with service.store.write() as transaction:
        table, key, document = _tagged(service, transaction, request["Resource"])
        if table == "function":
            _check_no_update(transaction, key, request["Resource"])
        tags = {**document.get("Tags", {}), **request["Tags"]}
        check_tags(tags)
        transaction.put(table, key, document={**document, "Tags": tags})
    return {}


@operation
def untag_resource(service: LambdaService, request: Members) -> Members:
    """Remove tags from a resource, as far as it has them."""
    with service.store.write() as transaction:
        table, key, document = _tagged(service, transaction, request["Resource"])
        removed = set(request["TagKeys"])
        tags = {name: value for name, value in document.get("Tags", {}).items() if name not in removed}
        transaction.put(table, key, document={**document, "Tags": tags})
    return {}


@operation
def list_tags(service: LambdaService, request: Members) -> Members:
    """Return the tags of a resource."""
    with service.store.read() as transaction:
        _, _, document = _tagged(service, transaction, request["Resource"])
    return {"Tags": document.get("Tags", {})}


def _tagged(service: LambdaService, transaction: Transaction, arn: str) -> tuple[str, str, dict[str, Any]]:
    """Return the document that has the resource's tags, with its table and key there."""
    kind = arn.split(":")[5]
    if kind in _OTHERS:
        raise ServiceError("ResourceNotFoundException", f"{_OTHERS[kind]} not found: {arn}")
    if kind == "code-signing-config":
        document = transaction.get("code_signing_config", arn)
        if document is None:
            raise ServiceError(
                "ResourceNotFoundException", f"The Lambda code signing configuration {arn} can not be found."
            )
        return "code_signing_config", arn, document
    reference = function_reference(service, arn)
    if reference.qualifier is not None:
        raise ServiceError(
            "InvalidParameterValueException",
            "Tags on function aliases and versions are not supported. Please specify a function ARN.",
        )
    return "function", reference.name, function_document(service, transaction, reference.name)


def _check_no_update(transaction: Transaction, name: str, arn: str) -> None:
    latest = transaction.get("version", name, 0)
    if latest is not None and latest.get("LastUpdateStatus") == "InProgress":
        raise ServiceError(
            "ResourceConflictException",
            f"The operation cannot be performed at this time. An update is in progress for resource: {arn}",
        )
