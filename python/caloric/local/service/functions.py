"""Functions: created, looked at, changed and deleted (spec lambda-service 2.1 and 2.2)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from caloric.local.archives import MAX_SIZE
from caloric.local.service.attached_layers import attach
from caloric.local.service.cleanup import forget_function, forget_version
from caloric.local.service.code import code_location, given_code
from caloric.local.service.code_signing import find_code_signing_config
from caloric.local.service.configuration import configure, described, listed
from caloric.local.service.errors import ServiceError
from caloric.local.service.names import (
    LATEST,
    function_arn,
    function_reference,
    is_alias,
    new_function_name,
)
from caloric.local.service.operations import Members, operation
from caloric.local.service.pages import page
from caloric.local.service.states import begin_creation, begin_update, check_revision, check_settled
from caloric.local.service.tags import check_tags
from caloric.local.service.timestamps import timestamp
from caloric.local.service.versions import latest_version, make_version, resolve, version_number

if TYPE_CHECKING:
    from caloric.local.service.service import LambdaService
    from caloric.local.state.store import Transaction

__all__ = [
    "create_function",
    "delete_function",
    "get_function",
    "get_function_configuration",
    "list_functions",
    "update_function_code",
    "update_function_configuration",
]


@operation
def create_function(service: LambdaService, request: Members) -> Members:
    """Make a function, which is `Pending` until its code and layers are where it can run."""
    name = new_function_name(service, request["FunctionName"])
    document = configure(service, name, None, request)
    check_tags(request.get("Tags") or {})
    with service.store.read() as transaction:
        _check_new(transaction, name)
    with (
        given_code(service, request["Code"], document["PackageType"]) as code,
        service.store.write() as transaction,
    ):
        # Another thread may have been faster while the code was read.
        _check_new(transaction, name)
        document.update(code.members, Code=code.document, LastModified=timestamp())
        _set_layers(service, transaction, document, request.get("Layers", []))
        begin_creation(document)
        function: dict[str, Any] = {"Id": str(uuid.uuid4())}
        if request.get("Tags"):
            function["Tags"] = request["Tags"]
        if request.get("CodeSigningConfigArn"):
            find_code_signing_config(transaction, request["CodeSigningConfigArn"])
            function["CodeSigningConfigArn"] = request["CodeSigningConfigArn"]
        transaction.put("function", name, document=function)
        transaction.put("version", name, 0, document=document)
        number = 0
        if request.get("Publish"):
            (number, document), _ = make_version(transaction, name, document, ready=False)
    service.activation.begin(name)
    # The version's document, but the function's ARN [O].
    return described(service, name, number, document, None)


@operation
def get_function(service: LambdaService, request: Members) -> Members:
    """Return a version's configuration, where its code is, and what is set for the function as a whole."""
    reference = function_reference(service, request["FunctionName"], request.get("Qualifier"))
    with service.store.read() as transaction:
        version = resolve(service, transaction, reference)
        function = transaction.get("function", reference.name) or {}
    answer = {
        "Configuration": described(service, reference.name, *version, reference.qualifier),
        "Code": code_location(service, version.document["Code"]),
    }
    if function.get("Tags"):
        answer["Tags"] = function["Tags"]
    if "ReservedConcurrentExecutions" in function:
        reserved = function["ReservedConcurrentExecutions"]
        answer["Concurrency"] = {"ReservedConcurrentExecutions": reserved}
    return answer


@operation
def get_function_configuration(service: LambdaService, request: Members) -> Members:
    """Return a version's configuration."""
    reference = function_reference(service, request["FunctionName"], request.get("Qualifier"))
    with service.store.read() as transaction:
        version = resolve(service, transaction, reference)
    return described(service, reference.name, *version, reference.qualifier)


@operation
def list_functions(service: LambdaService, request: Members) -> Members:
    """Return the functions by name, each with `$LATEST`, or with `FunctionVersion=ALL` with all its versions."""
    every = request.get("FunctionVersion") == "ALL"
    with service.store.read() as transaction:
        items = ((key, key) for key in transaction.keys("version") if every or key[1] == 0)
        taken, following = page(request, items)
        functions = []
        for name, number in taken:
            document = transaction.get("version", name, number)
            assert document is not None, "of a key that was just read in this transaction"
            qualifier = (str(number) if number else LATEST) if every else None
            functions.append(listed(service, name, number, document, qualifier))
    return {"Functions": functions, **following}


@operation
def update_function_configuration(service: LambdaService, request: Members) -> Members:
    """Change `$LATEST`: members that are given take the place of the whole member, others stay."""
    name = function_reference(service, request["FunctionName"]).name
    with service.store.write() as transaction:
        before = _to_update(service, transaction, name, request)
        document = configure(service, name, before, request)
        if "Layers" in request:
            _set_layers(service, transaction, document, request["Layers"])
        _update(transaction, name, before, document)
    service.activation.begin(name)
    return described(service, name, 0, document, None)


@operation
def update_function_code(service: LambdaService, request: Members) -> Members:
    """Change the code of `$LATEST`, and publish it as a version if `Publish` is set.

    With `DryRun` nothing is changed, and the answer is what it would be.
    """
    name = function_reference(service, request["FunctionName"]).name
    with service.store.read() as transaction:
        before = _to_update(service, transaction, name, request)
    with given_code(service, request, before["PackageType"]) as code, service.store.write() as transaction:
        # Another thread may have been faster while the code was read.
        before = _to_update(service, transaction, name, request)
        document = {**before, **code.members, "Code": code.document}
        if request.get("Architectures"):
            document["Architectures"] = request["Architectures"]
        _check_size(document)
        if request.get("DryRun"):
            return described(service, name, 0, document, None)
        _update(transaction, name, before, document)
        number, answer, qualifier = 0, document, None
        if request.get("Publish"):
            (number, answer), _ = make_version(transaction, name, document, ready=False)
            qualifier = str(number)
    service.activation.begin(name)
    return described(service, name, number, answer, qualifier)


@operation
def delete_function(service: LambdaService, request: Members) -> Members:
    """Delete a function with its versions, aliases and all that is set for them, or one version."""
    reference = function_reference(service, request["FunctionName"], request.get("Qualifier"))
    name, qualifier = reference.name, reference.qualifier
    if qualifier == LATEST:
        raise _invalid("$LATEST version cannot be deleted without deleting the function.")
    if qualifier is not None and is_alias(qualifier) and "$" not in qualifier:
        raise _invalid("Deletion of aliases is not currently supported.")
    with service.store.write() as transaction:
        number = None if qualifier is None else version_number(qualifier)
        exists = transaction.get("function", name) is not None
        if not exists or (qualifier is not None and number is None):
            raise _not_found(service, name)
        if number is None:
            _delete(service, transaction, name)
            service.environments.withdraw(name)
        else:
            if transaction.get("version", name, number) is None:
                raise _not_found(service, name)
            _delete_version(service, transaction, name, number)
            service.environments.withdraw(name, str(number))
    service.activation.collect()
    return {}


def _check_new(transaction: Transaction, name: str) -> None:
    if transaction.get("function", name) is not None:
        raise ServiceError("ResourceConflictException", f"Function already exist: {name}")


def _set_layers(
    service: LambdaService, transaction: Transaction, document: dict[str, Any], arns: list[str]
) -> None:
    layers = attach(service, transaction, arns)
    document.pop("Layers", None)
    if arns:
        document["Layers"] = layers.configuration
    document["LayerDigests"] = layers.digests
    document["LayersUnzippedSize"] = layers.unzipped_size
    _check_size(document)


def _check_size(document: Members) -> None:
    size = document.get("UnzippedSize", 0) + document["LayersUnzippedSize"]
    if size > MAX_SIZE:
        raise _invalid(
            f"Function code combined with layers exceeds the maximum allowed size of {MAX_SIZE} bytes. "
            f"The actual size is {size} bytes."
        )


def _to_update(
    service: LambdaService, transaction: Transaction, name: str, request: Members
) -> dict[str, Any]:
    document = latest_version(service, transaction, name)
    check_settled(document, function_arn(service, name))
    check_revision(document, request)
    return document


def _update(transaction: Transaction, name: str, before: Members, document: dict[str, Any]) -> None:
    """Write `document` as what `$LATEST` is to become, and keep what it runs until then."""
    if before["State"] == "Active" and before["LastUpdateStatus"] == "Successful":
        document["Running"] = {member: value for member, value in before.items() if member != "Running"}
    document["LastModified"] = timestamp()
    begin_update(document)
    transaction.put("version", name, 0, document=document)


def _delete(service: LambdaService, transaction: Transaction, name: str) -> None:
    # The number of the last version stays: none is given twice, not even to a function of the same name.
    forget_function(service, transaction, name)
    for table in ("function", "version", "alias"):
        transaction.delete(table, name)


def _delete_version(service: LambdaService, transaction: Transaction, name: str, number: int) -> None:
    version = str(number)
    aliases = [
        alias
        for (_, alias), document in transaction.scan("alias", name)
        if version == document["FunctionVersion"]
        or version in document.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    ]
    if aliases:
        raise ServiceError(
            "ResourceConflictException",
            f"Unable to delete version because the following aliases reference it: [{', '.join(aliases)}]",
        )
    transaction.delete("version", name, number)
    forget_version(service, transaction, name, version)


def _not_found(service: LambdaService, name: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", f"Function not found: {function_arn(service, name)}")


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterValueException", message)
