"""Layers and their versions (spec lambda-service 5.1).

The document of a layer version is the API's, without `Content` and ARNs, and with the `Digest` of its archive among the
blobs, its `CodeSize` and its `UnzippedSize`. What a function was given stays: a version that is deleted can only be
attached to no further function.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from caloric.local.service.code import code_sha256, stored_archive
from caloric.local.service.downloads import download_location
from caloric.local.service.errors import ServiceError
from caloric.local.service.names import layer_arn, layer_name, layer_reference, layer_version_arn, partition
from caloric.local.service.operations import Members, operation
from caloric.local.service.pages import page
from caloric.local.service.statements import add_statement, policy_document, remove_statement
from caloric.local.service.timestamps import timestamp

if TYPE_CHECKING:
    from caloric.local.service.service import LambdaService
    from caloric.local.state.store import Transaction

__all__ = [
    "add_layer_version_permission",
    "delete_layer_version",
    "get_layer_version",
    "get_layer_version_by_arn",
    "get_layer_version_policy",
    "list_layer_versions",
    "list_layers",
    "publish_layer_version",
    "remove_layer_version_permission",
]

_STALE = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetLayerPolicy API to retrieve the latest Revision Id"
)


@operation
def publish_layer_version(service: LambdaService, request: Members) -> Members:
    """Make the next version of a layer, which is the first of a new one.

    Numbers are never given twice, and the same content makes a new version too.
    """
    name = layer_name(service, request["LayerName"])
    document: dict[str, Any] = {"Description": request.get("Description") or ""}
    for member in ("CompatibleRuntimes", "CompatibleArchitectures", "LicenseInfo"):
        if request.get(member) is not None:
            document[member] = request[member]
    with (
        stored_archive(service, request["Content"], "layer") as archive,
        service.store.write() as transaction,
    ):
        document.update(
            CreatedDate=timestamp(),
            Digest=archive.digest,
            CodeSize=archive.size,
            UnzippedSize=archive.unzipped_size,
        )
        version = _next_version(transaction, name)
        transaction.put("layer_version", name, version, document=document)
    return _with_content(service, name, version, document)


@operation
def get_layer_version(service: LambdaService, request: Members) -> Members:
    """Return a version of a layer, with an address to download it from."""
    return _get(service, layer_name(service, request["LayerName"]), _number(request))


@operation
def get_layer_version_by_arn(service: LambdaService, request: Members) -> Members:
    """Return the version of a layer with this ARN."""
    reference = layer_reference(request["Arn"], "arn")
    if (reference.region, reference.account) != (service.region, service.account):
        raise ServiceError("AccessDeniedException", None)
    return _get(service, reference.name, reference.version)


@operation
def delete_layer_version(service: LambdaService, request: Members) -> Members:
    """Delete a version of a layer, and its policy; it may be deleted already."""
    name, version = layer_name(service, request["LayerName"]), _number(request)
    with service.store.write() as transaction:
        transaction.delete("layer_version", name, version)
        transaction.delete("policy", layer_version_arn(service, name, version))
    service.activation.collect()
    return {}


@operation
def list_layer_versions(service: LambdaService, request: Members) -> Members:
    """Return the versions of a layer that fit, the newest first; none of a layer that does not exist."""
    name = layer_name(service, request["LayerName"])
    with service.store.read() as transaction:
        documents = transaction.scan("layer_version", name)
    versions, following = page(
        request,
        [
            ((-version,), _listed(service, name, version, document))
            for (_, version), document in reversed(documents)
            if _fits(document, request)
        ],
    )
    return {"LayerVersions": versions, **following}


@operation
def list_layers(service: LambdaService, request: Members) -> Members:
    """Return the layers that have a version that fits, each with the latest such version."""
    with service.store.read() as transaction:
        documents = transaction.scan("layer_version")
    latest: dict[str, Members] = {}
    for (name, version), document in documents:
        if _fits(document, request):
            latest[name] = _listed(service, name, version, document)
    layers, following = page(
        request,
        [
            (
                (name,),
                {"LayerName": name, "LayerArn": layer_arn(service, name), "LatestMatchingVersion": version},
            )
            for name, version in latest.items()
        ],
    )
    return {"Layers": layers, **following}


# ---- permissions -----------------------------------------------------------------------------------------------------


@operation
def add_layer_version_permission(service: LambdaService, request: Members) -> Members:
    """Add a statement to the policy of a layer version."""
    with service.store.write() as transaction:
        arn = _existing(service, transaction, request)
        policy = transaction.get("policy", arn) or {"Statement": []}
        _match_revision(request, policy)
        statement: dict[str, Any] = {
            "Sid": request["StatementId"],
            "Effect": "Allow",
            "Principal": _principal(service, request["Principal"]),
            "Action": request["Action"],
            "Resource": arn,
        }
        if request.get("OrganizationId"):
            statement["Condition"] = {"StringEquals": {"aws:PrincipalOrgID": request["OrganizationId"]}}
        add_statement(policy, statement)
        policy["RevisionId"] = str(uuid.uuid4())
        transaction.put("policy", arn, document=policy)
    return {"Statement": json.dumps(statement, separators=(",", ":")), "RevisionId": policy["RevisionId"]}


@operation
def remove_layer_version_permission(service: LambdaService, request: Members) -> Members:
    """Remove a statement from the policy of a layer version."""
    with service.store.write() as transaction:
        arn = _existing(service, transaction, request)
        policy = _policy(transaction, arn)
        _match_revision(request, policy)
        remove_statement(policy, request["StatementId"])
        if policy["Statement"]:
            policy["RevisionId"] = str(uuid.uuid4())
            transaction.put("policy", arn, document=policy)
        else:
            transaction.delete("policy", arn)
    return {}


@operation
def get_layer_version_policy(service: LambdaService, request: Members) -> Members:
    """Return the policy of a layer version."""
    with service.store.read() as transaction:
        policy = _policy(transaction, _existing(service, transaction, request))
    return {"Policy": policy_document(policy), "RevisionId": policy["RevisionId"]}


# ---- helpers ---------------------------------------------------------------------------------------------------------


def _next_version(transaction: Transaction, name: str) -> int:
    counter = f"layer:{name}"
    document = transaction.get("counter", counter) or {"last": 0}
    document["last"] += 1
    transaction.put("counter", counter, document=document)
    version: int = document["last"]
    return version


def _number(request: Members) -> int:
    version: int = request["VersionNumber"]
    if version < 1:
        raise ServiceError("InvalidParameterValueException", "Layer Version Cannot be less than 1")
    return version


def _get(service: LambdaService, name: str, version: int) -> Members:
    with service.store.read() as transaction:
        document = transaction.get("layer_version", name, version)
    if document is None:
        raise ServiceError("ResourceNotFoundException", "The resource you requested does not exist.")
    return _with_content(service, name, version, document)


def _listed(service: LambdaService, name: str, version: int, document: Members) -> dict[str, Any]:
    hidden = ("Digest", "CodeSize", "UnzippedSize")
    return {
        "LayerVersionArn": layer_version_arn(service, name, version),
        "Version": version,
        **{member: value for member, value in document.items() if member not in hidden},
    }


def _with_content(service: LambdaService, name: str, version: int, document: Members) -> Members:
    return {
        "Content": {
            "Location": download_location(service, document["Digest"]),
            "CodeSha256": code_sha256(document["Digest"]),
            "CodeSize": document["CodeSize"],
        },
        "LayerArn": layer_arn(service, name),
        **_listed(service, name, version, document),
    }


def _fits(document: Members, request: Members) -> bool:
    """Return whether a version says that it works with the runtime and the architecture that are asked for."""
    for member, wanted in (
        ("CompatibleRuntimes", request.get("CompatibleRuntime")),
        ("CompatibleArchitectures", request.get("CompatibleArchitecture")),
    ):
        if wanted is not None and wanted not in document.get(member, ()):
            return False
    return True


def _existing(service: LambdaService, transaction: Transaction, request: Members) -> str:
    name, version = layer_name(service, request["LayerName"]), _number(request)
    arn = layer_version_arn(service, name, version)
    if transaction.get("layer_version", name, version) is None:
        raise ServiceError("ResourceNotFoundException", f"Layer version {arn} does not exist.")
    return arn


def _policy(transaction: Transaction, arn: str) -> dict[str, Any]:
    policy = transaction.get("policy", arn)
    if policy is None:
        raise ServiceError("ResourceNotFoundException", "No policy is associated with the given resource.")
    return policy


def _match_revision(request: Members, policy: Members) -> None:
    if request.get("RevisionId") and request["RevisionId"] != policy.get("RevisionId"):
        raise ServiceError("PreconditionFailedException", _STALE)


def _principal(service: LambdaService, principal: str) -> object:
    if principal == "*":
        return principal
    return {
        "AWS": f"arn:{partition(service.region)}:iam::{principal}:root" if principal.isdigit() else principal
    }
