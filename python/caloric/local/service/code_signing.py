"""Code signing configs, and which functions have one (spec lambda-service 2.11).

They are stored and shown. Signatures are not checked when code is deployed.
"""

from __future__ import annotations

import random
import string
from typing import TYPE_CHECKING, Any

from caloric.local.service.errors import ServiceError
from caloric.local.service.names import code_signing_config_arn, function_arn, function_reference
from caloric.local.service.operations import Members, operation
from caloric.local.service.pages import page
from caloric.local.service.tags import check_tags
from caloric.local.service.targets import function_document, unqualified
from caloric.local.service.timestamps import timestamp

if TYPE_CHECKING:
    from caloric.local.service.service import LambdaService
    from caloric.local.state.store import Transaction

__all__ = [
    "create_code_signing_config",
    "delete_code_signing_config",
    "delete_function_code_signing_config",
    "find_code_signing_config",
    "get_code_signing_config",
    "get_function_code_signing_config",
    "list_code_signing_configs",
    "list_functions_by_code_signing_config",
    "put_function_code_signing_config",
    "update_code_signing_config",
]

_DEFAULT_POLICIES = {"UntrustedArtifactOnDeployment": "Warn"}


def find_code_signing_config(transaction: Transaction, arn: str) -> dict[str, Any]:
    """Return the document of the code signing config that a function is to have.

    Raises:
        ServiceError: `CodeSigningConfigNotFoundException`.
    """
    document = transaction.get("code_signing_config", arn)
    if document is None:
        raise ServiceError(
            "CodeSigningConfigNotFoundException",
            "The code signing configuration cannot be found. "
            f"Check that the provided configuration is not deleted: {arn}.",
        )
    return document


# ---- configs ---------------------------------------------------------------------------------------------------------


@operation
def create_code_signing_config(service: LambdaService, request: Members) -> Members:
    """Make a code signing config: who may sign, and what happens to code that nobody of them has signed."""
    tags = request.get("Tags") or {}
    check_tags(tags)
    identifier = "csc-" + "".join(random.choices(string.ascii_lowercase + string.digits, k=17))
    arn = code_signing_config_arn(service, identifier)
    document = {
        "CodeSigningConfigId": identifier,
        "CodeSigningConfigArn": arn,
        "Description": request.get("Description") or "",
        "AllowedPublishers": request["AllowedPublishers"],
        "CodeSigningPolicies": {**_DEFAULT_POLICIES, **(request.get("CodeSigningPolicies") or {})},
        "LastModified": timestamp(),
        "Tags": tags,
    }
    with service.store.write() as transaction:
        transaction.put("code_signing_config", arn, document=document)
    return {"CodeSigningConfig": _shown(document)}


@operation
def update_code_signing_config(service: LambdaService, request: Members) -> Members:
    """Change a code signing config; what the request leaves out stays as it is."""
    arn = request["CodeSigningConfigArn"]
    with service.store.write() as transaction:
        document = _existing(transaction, arn)
        for member in ("Description", "AllowedPublishers", "CodeSigningPolicies"):
            if request.get(member) is not None:
                document[member] = request[member]
        document["CodeSigningPolicies"] = {**_DEFAULT_POLICIES, **document["CodeSigningPolicies"]}
        document["LastModified"] = timestamp()
        transaction.put("code_signing_config", arn, document=document)
    return {"CodeSigningConfig": _shown(document)}


@operation
def get_code_signing_config(service: LambdaService, request: Members) -> Members:
    """Return a code signing config."""
    with service.store.read() as transaction:
        document = _existing(transaction, request["CodeSigningConfigArn"])
    return {"CodeSigningConfig": _shown(document)}


@operation
def delete_code_signing_config(service: LambdaService, request: Members) -> Members:
    """Delete a code signing config that no function has."""
    arn = request["CodeSigningConfigArn"]
    with service.store.write() as transaction:
        _existing(transaction, arn)
        users = _functions(transaction, arn)
        if users:
            raise ServiceError(
                "ResourceConflictException",
                f"The code signing configuration {arn} cannot be deleted: {len(users)} functions use it.",
            )
        transaction.delete("code_signing_config", arn)
    return {}


@operation
def list_code_signing_configs(service: LambdaService, request: Members) -> Members:
    """Return the code signing configs."""
    with service.store.read() as transaction:
        documents = transaction.scan("code_signing_config")
    configs, following = page(request, [(key, _shown(document)) for key, document in documents])
    return {"CodeSigningConfigs": configs, **following}


# ---- functions -------------------------------------------------------------------------------------------------------


@operation
def list_functions_by_code_signing_config(service: LambdaService, request: Members) -> Members:
    """Return the ARNs of the functions that have a code signing config."""
    arn = request["CodeSigningConfigArn"]
    with service.store.read() as transaction:
        _existing(transaction, arn)
        names = _functions(transaction, arn)
    arns, following = page(request, [((name,), function_arn(service, name)) for name in names])
    return {"FunctionArns": arns, **following}


@operation
def put_function_code_signing_config(service: LambdaService, request: Members) -> Members:
    """Give a function a code signing config, in place of the one it has."""
    name, arn = unqualified(service, request), request["CodeSigningConfigArn"]
    with service.store.write() as transaction:
        find_code_signing_config(transaction, arn)
        document = function_document(service, transaction, name)
        latest = transaction.get("version", name, 0) or {}
        if latest.get("PackageType") == "Image":
            raise ServiceError(
                "InvalidParameterValueException",
                "Code signing is not supported for functions with the package type Image.",
            )
        transaction.put("function", name, document={**document, "CodeSigningConfigArn": arn})
    return {"CodeSigningConfigArn": arn, "FunctionName": name}


@operation
def get_function_code_signing_config(service: LambdaService, request: Members) -> Members:
    """Return which code signing config a function has; nothing where it has none."""
    name = function_reference(service, request["FunctionName"]).name
    with service.store.read() as transaction:
        arn = function_document(service, transaction, name).get("CodeSigningConfigArn")
    return {} if arn is None else {"CodeSigningConfigArn": arn, "FunctionName": name}


@operation
def delete_function_code_signing_config(service: LambdaService, request: Members) -> Members:
    """Take the code signing config from a function, if it has one."""
    name = unqualified(service, request)
    with service.store.write() as transaction:
        document = function_document(service, transaction, name)
        if document.pop("CodeSigningConfigArn", None) is not None:
            transaction.put("function", name, document=document)
    return {}


def _existing(transaction: Transaction, arn: str) -> dict[str, Any]:
    document = transaction.get("code_signing_config", arn)
    if document is None:
        raise ServiceError(
            "ResourceNotFoundException", f"The Lambda code signing configuration {arn} can not be found."
        )
    return document


def _functions(transaction: Transaction, arn: str) -> list[str]:
    """Return the names of the functions that have this code signing config."""
    return [
        name
        for (name,), document in transaction.scan("function")
        if document.get("CodeSigningConfigArn") == arn
    ]


def _shown(document: Members) -> Members:
    return {member: value for member, value in document.items() if member != "Tags"}
