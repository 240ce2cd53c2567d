"""The states of a function version, which are members of its document (spec lambda-service 2.2).

Each transition gives it a new `RevisionId`, as on AWS. What begins something gives it a new `Change`, too, since a
`RevisionId` also changes with a policy.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from caloric.local.service.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "STATE_MEMBERS",
    "begin_creation",
    "begin_update",
    "check_revision",
    "check_settled",
    "fail",
    "is_unfinished",
    "new_revision",
    "succeed",
]

STATE_MEMBERS = frozenset(
    "State StateReason StateReasonCode LastUpdateStatus LastUpdateStatusReason LastUpdateStatusReasonCode".split()
)

_IN_PROGRESS = "The function is being created."
"""AWS's reason, of an update too."""


def new_revision(document: dict[str, Any]) -> None:
    """Give the document a `RevisionId` that none had before."""
    document["RevisionId"] = str(uuid.uuid4())


def begin_creation(document: dict[str, Any]) -> None:
    """The version is there, and cannot be invoked yet."""
    _set(document, State="Pending", StateReason=_IN_PROGRESS, StateReasonCode="Creating")
    document["Change"] = str(uuid.uuid4())


def begin_update(document: dict[str, Any]) -> None:
    """The version has a new document, and is still invoked with the one before."""
    if document["State"] == "Active":
        _set(
            document,
            State="Active",
            LastUpdateStatus="InProgress",
            LastUpdateStatusReason=_IN_PROGRESS,
            LastUpdateStatusReasonCode="Creating",
        )
        document["Change"] = str(uuid.uuid4())
    else:
        # There is none before: its creation failed.
        begin_creation(document)


def succeed(document: dict[str, Any]) -> None:
    """What was begun is done, and the version can be invoked with this document."""
    _set(document, State="Active", LastUpdateStatus="Successful")


def fail(document: dict[str, Any], reason: str, code: str) -> None:
    """What was begun cannot be done. `code` is one of the API model's StateReasonCode."""
    if document["State"] == "Active":
        _set(
            document,
            State="Active",
            LastUpdateStatus="Failed",
            LastUpdateStatusReason=reason,
            LastUpdateStatusReasonCode=code,
        )
    else:
        _set(document, State="Failed", StateReason=reason, StateReasonCode=code)


def is_unfinished(document: Mapping[str, Any]) -> bool:
    """Return whether something was begun that has neither succeeded nor failed."""
    return document["State"] == "Pending" or document.get("LastUpdateStatus") == "InProgress"


def check_settled(document: Mapping[str, Any], function_arn: str) -> None:
    """Refuse to change a function while it is being created or updated.

    Raises:
        ServiceError: `ResourceConflictException`.
    """
    if document["State"] == "Pending":
        problem = "The function is currently in the following state: Pending"
    elif document.get("LastUpdateStatus") == "InProgress":
        problem = f"An update is in progress for resource: {function_arn}"
    else:
        return
    raise ServiceError(
        "ResourceConflictException", f"The operation cannot be performed at this time. {problem}"
    )


def check_revision(document: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    """Refuse a request with the `RevisionId` of a function's or an alias's earlier state.

    Raises:
        ServiceError: `PreconditionFailedException`.
    """
    if request.get("RevisionId") not in (None, document["RevisionId"]):
        raise ServiceError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        )


def _set(document: dict[str, Any], **members: str) -> None:
    for member in STATE_MEMBERS:
        document.pop(member, None)
    document.update(members)
    new_revision(document)
