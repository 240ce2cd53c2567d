"""Versions of functions, and what a qualifier leads to (spec lambda-service 2.13)."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from caloric.local.service.activation import function_version
from caloric.local.service.code import snapshot_of_folder
from caloric.local.service.configuration import described, fingerprint, listed
from caloric.local.service.errors import ServiceError
from caloric.local.service.names import (
    LATEST,
    FunctionReference,
    function_arn,
    function_reference,
    is_version,
)
from caloric.local.service.operations import Members, operation
from caloric.local.service.pages import page
from caloric.local.service.states import begin_creation, check_revision, check_settled, new_revision, succeed

if TYPE_CHECKING:
    from caloric.local.service.code import Code
    from caloric.local.service.service import LambdaService
    from caloric.local.state.store import Transaction

__all__ = [
    "ResolvedVersion",
    "latest_version",
    "list_versions_by_function",
    "make_version",
    "publish_version",
    "resolve",
    "version_number",
]


class ResolvedVersion(NamedTuple):
    """A version that exists."""

    number: int
    """0 is `$LATEST`."""
    document: dict[str, Any]


def version_number(version: str) -> int | None:
    """Return the key of a version that is given as in the API; `None` for what can be none."""
    if version == LATEST:
        return 0
    # More digits than any version has would be no number for SQLite; a zero in front is none of ours.
    return int(version) if is_version(version) and len(version) < 16 and version[0] != "0" else None


def resolve(
    service: LambdaService, transaction: Transaction, reference: FunctionReference
) -> ResolvedVersion:
    """Return the version that `reference` leads to; an alias leads to its `FunctionVersion`.

    Raises:
        ServiceError: `ResourceNotFoundException`.
    """
    name, qualifier = reference.name, reference.qualifier
    number = 0 if qualifier is None else version_number(qualifier)
    if number is None and qualifier is not None:
        alias = transaction.get("alias", name, qualifier)
        number = None if alias is None else version_number(alias["FunctionVersion"])
    document = None if number is None else transaction.get("version", name, number)
    if number is None or document is None:
        raise _not_found(service, name, qualifier)
    return ResolvedVersion(number, document)


def latest_version(service: LambdaService, transaction: Transaction, name: str) -> dict[str, Any]:
    """Return the document of `$LATEST`.

    Raises:
        ServiceError: `ResourceNotFoundException`.
    """
    return resolve(service, transaction, FunctionReference(name)).document


def make_version(
    transaction: Transaction,
    name: str,
    latest: dict[str, Any],
    code: Code | None = None,
    description: str | None = None,
    *,
    ready: bool,
) -> tuple[ResolvedVersion, bool]:
    """Write the next version of the function with what `$LATEST` has, and return it and `True`.

    Or return the last one and `False`, if nothing has changed since. `code` takes the place of that of `$LATEST`. If
    not `ready`, it is to be activated.
    """
    document = copy.deepcopy(latest)
    document.pop("Running", None)
    if code is not None:
        document.update(code.members, Code=code.document)
    published = fingerprint(document)
    counter = f"function:{name}"
    last: int = (transaction.get("counter", counter) or {"last": 0})["last"]
    before = transaction.get("version", name, last) if last else None
    if before is not None and before["Published"] == published:
        return ResolvedVersion(last, before), False
    if description:
        document["Description"] = description
    document["Published"] = published
    begin_creation(document)
    if ready:
        succeed(document)
    transaction.put("counter", counter, document={"last": last + 1})
    transaction.put("version", name, last + 1, document=document)
    return ResolvedVersion(last + 1, document), True


@operation
def publish_version(service: LambdaService, request: Members) -> Members:
    """Make a version of what `$LATEST` is, or return the last one if nothing has changed since."""
    name = function_reference(service, request["FunctionName"]).name
    arn = function_arn(service, name)
    with service.store.read() as transaction:
        seen = latest_version(service, transaction, name)
    folder = seen["Code"].get("Folder")
    # Outside the transaction, since it reads many files.
    with (
        nullcontext(None) if folder is None else snapshot_of_folder(service, folder) as code,
        service.store.write() as transaction,
    ):
        latest = latest_version(service, transaction, name)
        check_settled(latest, arn)
        if latest["State"] != "Active" or latest["LastUpdateStatus"] != "Successful":
            raise ServiceError(
                "ResourceConflictException",
                "The operation cannot be performed at this time. "
                f"{latest.get('StateReason') or latest['LastUpdateStatusReason']}",
            )
        if latest["Code"].get("Folder") != folder:
            # Updated since it was looked at, in a moment.
            raise ServiceError(
                "ResourceConflictException",
                f"The operation cannot be performed at this time. An update is in progress for resource: {arn}",
            )
        if request.get("CodeSha256") not in (None, "", latest["CodeSha256"]):
            raise ServiceError(
                "InvalidParameterValueException",
                f"CodeSHA256 ({request['CodeSha256']}) is different from current CodeSHA256 in $LATEST "
                f"({latest['CodeSha256']}). Please try again with the CodeSHA256 in $LATEST.",
            )
        check_revision(latest, request)
        snap_start = latest["SnapStart"]["ApplyOn"] != "None"
        version, new = make_version(
            transaction, name, latest, code, request.get("Description"), ready=not snap_start
        )
        if new:
            new_revision(latest)
            transaction.put("version", name, 0, document=latest)
            if not snap_start:
                service.environments.publish(function_version(service, name, *version))
    if new and snap_start:
        service.activation.begin(name)
    return described(service, name, *version, str(version.number))


@operation
def list_versions_by_function(service: LambdaService, request: Members) -> Members:
    """Return the function's versions: `$LATEST`, and then by number."""
    name = function_reference(service, request["FunctionName"]).name
    with service.store.read() as transaction:
        latest_version(service, transaction, name)
        versions = transaction.scan("version", name)
    items = (((number,), (number, document)) for (_, number), document in versions)
    taken, following = page(request, items)
    return {
        "Versions": [
            listed(service, name, number, document, str(number) if number else LATEST)
            for number, document in taken
        ],
        **following,
    }


def _not_found(service: LambdaService, name: str, qualifier: str | None) -> ServiceError:
    return ServiceError(
        "ResourceNotFoundException", f"Function not found: {function_arn(service, name, qualifier)}"
    )
