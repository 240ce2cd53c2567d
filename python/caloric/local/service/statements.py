"""The statements of a resource policy, of a function or of a layer version (spec lambda-service 2.5).

The document of a policy has `Statement`, a list of IAM statements in the order in which they were added.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from caloric.local.service.errors import ServiceError

if TYPE_CHECKING:
    from caloric.local.service.operations import Members

__all__ = ["MAX_POLICY", "add_statement", "policy_document", "remove_statement"]

MAX_POLICY = 20_480
"""So many bytes a policy may have as JSON (spec lambda-service 0.6)."""


def policy_document(policy: Members) -> str:
    """Return the policy as the API shows it: a JSON text."""
    return json.dumps(
        {"Version": "2012-10-17", "Id": "default", "Statement": policy["Statement"]}, separators=(",", ":")
    )


def add_statement(policy: Members, statement: dict[str, Any]) -> None:
    """Append `statement` to `policy`.

    Raises:
        ServiceError: `ResourceConflictException` when there is one with its `Sid`, `PolicyLengthExceededException` when
            the policy has more than `MAX_POLICY` bytes then.
    """
    statements: list[dict[str, Any]] = policy["Statement"]
    if any(statement["Sid"] == other["Sid"] for other in statements):
        raise ServiceError(
            "ResourceConflictException",
            f"The statement id ({statement['Sid']}) provided already exists. "
            "Please provide a new statement id, or remove the existing statement.",
        )
    statements.append(statement)
    size = len(policy_document(policy).encode())
    if size > MAX_POLICY:
        raise ServiceError(
            "PolicyLengthExceededException",
            f"The final policy size ({size}) is bigger than the limit ({MAX_POLICY}).",
        )


def remove_statement(policy: Members, statement_id: str) -> None:
    """Remove the statement with this `Sid` from `policy`.

    Raises:
        ServiceError: `ResourceNotFoundException` when it has none.
    """
    statements: list[dict[str, Any]] = policy["Statement"]
    left = [statement for statement in statements if statement["Sid"] != statement_id]
    if len(left) == len(statements):
        raise ServiceError(
            "ResourceNotFoundException", f"Statement {statement_id} is not found in resource policy."
        )
    statements[:] = left
