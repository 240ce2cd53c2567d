"""What settings, policies and limits are attached to: a function, one of its versions, or an alias."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caloric.local.service.errors import ServiceError
from caloric.local.service.names import (
    LATEST,
    FunctionReference,
    function_arn,
    function_reference,
    is_version,
)

if TYPE_CHECKING:
    from caloric.local.service.operations import Members
    from caloric.local.service.service import LambdaService
    from caloric.local.state.store import Transaction

__all__ = [
    "Target",
    "find_target",
    "function_document",
    "not_found",
    "reference_of",
    "renew_revision",
    "unqualified",
]

_ALIAS = re.compile(r"[a-zA-Z0-9_-]+")


@dataclass(frozen=True)
class Target:
    """A function's `$LATEST`, a published version or an alias that exists."""

    reference: FunctionReference
    table: str
    key: tuple[str, str | int]
    document: dict[str, Any]
    """As stored; has its `RevisionId`."""

    @property
    def versions(self) -> set[str]:
        """The versions that an invocation of it runs."""
        if self.table == "version":
            return {LATEST if self.key[1] == 0 else str(self.key[1])}
        routing = self.document.get("RoutingConfig") or {}
        return {self.document["FunctionVersion"], *routing.get("AdditionalVersionWeights", ())}


def reference_of(service: LambdaService, request: Members) -> FunctionReference:
    """Return what the request's `FunctionName` and `Qualifier` refer to (errors: `function_reference`)."""
    return function_reference(service, request["FunctionName"], request.get("Qualifier"))


def find_target(service: LambdaService, transaction: Transaction, reference: FunctionReference) -> Target:
    """Return what `reference` refers to.

    Raises:
        ServiceError: `ResourceNotFoundException`, with the text that `not_found` has.
    """
    name, qualifier = reference.name, reference.qualifier
    table: str
    key: tuple[str, str | int]
    if qualifier is None or qualifier == LATEST:
        table, key = "version", (name, 0)
    elif is_version(qualifier):
        # No version has so many digits, or begins with a zero.
        if len(qualifier) > 15 or qualifier.startswith("0"):
            raise not_found(service, reference)
        table, key = "version", (name, int(qualifier))
    else:
        table, key = "alias", (name, qualifier)
    document = transaction.get(table, *key)
    if document is None:
        raise not_found(service, reference)
    return Target(reference, table, key, document)


def not_found(service: LambdaService, reference: FunctionReference) -> ServiceError:
    """Return the error for a function, version or alias that does not exist."""
    name, qualifier = reference.name, reference.qualifier
    arn = function_arn(service, name, qualifier)
    alias = qualifier is not None and not is_version(qualifier) and _ALIAS.fullmatch(qualifier)
    return ServiceError(
        "ResourceNotFoundException", f"{'Cannot find alias arn' if alias else 'Function not found'}: {arn}"
    )


def renew_revision(transaction: Transaction, target: Target) -> str:
    """Give what a policy is attached to a new `RevisionId`, and return it."""
    target.document["RevisionId"] = revision = str(uuid.uuid4())
    transaction.put(target.table, *target.key, document=target.document)
    return revision


def unqualified(service: LambdaService, request: Members) -> str:
    """Return the function's name in a request that versions and aliases cannot be named in.

    Raises:
        ServiceError: `InvalidParameterValueException` for a qualifier (text: spec lambda-service 7.3), and as
            `function_reference` does.
    """
    reference = function_reference(service, request["FunctionName"])
    if reference.qualifier is not None:
        raise ServiceError(
            "InvalidParameterValueException",
            "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
            "Please specify either a function name or an unqualified function ARN.",
        )
    return reference.name


def function_document(
    service: LambdaService, transaction: Transaction, name: str, qualifier: str | None = None
) -> dict[str, Any]:
    """Return what is set for the function as a whole. `qualifier` is part of the ARN in the error.

    Raises:
        ServiceError: `ResourceNotFoundException`.
    """
    document = transaction.get("function", name)
    if document is None:
        raise ServiceError(
            "ResourceNotFoundException", f"Function not found: {function_arn(service, name, qualifier)}"
        )
    return document
