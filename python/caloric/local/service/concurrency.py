"""Reserved and provisioned concurrency (spec lambda-service 7.3 and 7.4).

The environments hold to both. They are told while the change is written, so that they hear of changes in the order in
which these are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caloric.local.service.account import (
    MINIMUM_UNRESERVED,
    account_concurrency,
)
from caloric.local.service.errors import ServiceError
from caloric.local.service.names import LATEST, FunctionReference, function_arn, function_reference
from caloric.local.service.operations import Members, operation
from caloric.local.service.pages import page
from caloric.local.service.targets import find_target, function_document, reference_of, unqualified
from caloric.local.service.timestamps import timestamp

if TYPE_CHECKING:
    from caloric.local.service.service import LambdaService
    from caloric.local.service.targets import Target
    from caloric.local.state.store import Transaction

__all__ = [
    "delete_function_concurrency",
    "delete_provisioned_concurrency_config",
    "get_function_concurrency",
    "get_provisioned_concurrency_config",
    "list_provisioned_concurrency_configs",
    "put_function_concurrency",
    "put_provisioned_concurrency_config",
    "restore_concurrency",
]


def restore_concurrency(service: LambdaService) -> None:
    """Tell the environments what is reserved and provisioned, once when the service starts."""
    with service.store.read() as transaction:
        for name, reserved in account_concurrency(transaction).reserved.items():
            service.environments.reserve(name, reserved)
        for (name, qualifier), document in transaction.scan("provisioned_concurrency"):
            service.environments.provision(
                name, qualifier, document["RequestedProvisionedConcurrentExecutions"]
            )


# ---- reserved --------------------------------------------------------------------------------------------------------


@operation
def put_function_concurrency(service: LambdaService, request: Members) -> Members:
    """Reserve concurrency for all versions of a function together; 0 lets it run no more."""
    name, reserved = unqualified(service, request), request["ReservedConcurrentExecutions"]
    with service.store.write() as transaction:
        document = function_document(service, transaction, name, LATEST)
        concurrency = account_concurrency(transaction)
        # A function's provisioned concurrency is unreserved as long as it has reserved none.
        own = concurrency.reserved.get(name, concurrency.provisioned.get(name, 0))
        if concurrency.unreserved + own - reserved < MINIMUM_UNRESERVED:
            raise ServiceError(
                "InvalidParameterValueException",
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
                f"below its minimum value of [{MINIMUM_UNRESERVED}].",
                Type=None,
            )
        provisioned = concurrency.provisioned.get(name, 0)
        if reserved < provisioned:
            raise ServiceError(
                "InvalidParameterValueException",
                f" ReservedConcurrentExecutions  {reserved} should not be lower than function's total provisioned "
                f"concurrency [{provisioned}].",
            )
        document["ReservedConcurrentExecutions"] = reserved
        transaction.put("function", name, document=document)
        service.environments.reserve(name, reserved)
    return {"ReservedConcurrentExecutions": reserved}


@operation
def get_function_concurrency(service: LambdaService, request: Members) -> Members:
    """Return what is reserved for a function; nothing where nothing is."""
    name = unqualified(service, request)
    with service.store.read() as transaction:
        document = function_document(service, transaction, name)
    return {"ReservedConcurrentExecutions": document.get("ReservedConcurrentExecutions")}


@operation
def delete_function_concurrency(service: LambdaService, request: Members) -> Members:
    """Give back what is reserved for a function, if something is."""
    name = unqualified(service, request)
    with service.store.write() as transaction:
        document = function_document(service, transaction, name)
        if document.pop("ReservedConcurrentExecutions", None) is not None:
            transaction.put("function", name, document=document)
            service.environments.reserve(name, None)
    return {}


# ---- provisioned -----------------------------------------------------------------------------------------------------


@operation
def put_provisioned_concurrency_config(service: LambdaService, request: Members) -> Members:
    """Keep environments of a version, or of the version an alias leads to, initialised."""
    reference = reference_of(service, request)
    requested = request["ProvisionedConcurrentExecutions"]
    unpublished = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    with service.store.write() as transaction:
        target, qualifier = _qualified(service, transaction, reference, unpublished)
        if LATEST in target.versions:
            raise ServiceError("InvalidParameterValueException", unpublished)
        _check_snap_start(transaction, target)
        _check_conflicts(service, transaction, target)
        _check_limits(transaction, reference.name, qualifier, requested)
        document = {
            "RequestedProvisionedConcurrentExecutions": requested,
            "LastModified": timestamp(milliseconds=False),
        }
        transaction.put("provisioned_concurrency", reference.name, qualifier, document=document)
        service.environments.provision(reference.name, qualifier, requested)
    return _with_progress(service, reference.name, qualifier, document)


@operation
def get_provisioned_concurrency_config(service: LambdaService, request: Members) -> Members:
    """Return what is provisioned, and how far the environments are."""
    reference = reference_of(service, request)
    with service.store.read() as transaction:
        _, qualifier = _qualified(service, transaction, reference)
        document = transaction.get("provisioned_concurrency", reference.name, qualifier)
    if document is None:
        raise ServiceError(
            "ProvisionedConcurrencyConfigNotFoundException",
            "No Provisioned Concurrency Config found for this function",
        )
    return _with_progress(service, reference.name, qualifier, document)


@operation
def delete_provisioned_concurrency_config(service: LambdaService, request: Members) -> Members:
    """Provision no more environments, if some are."""
    reference = reference_of(service, request)
    with service.store.write() as transaction:
        _, qualifier = _qualified(service, transaction, reference)
        if transaction.delete("provisioned_concurrency", reference.name, qualifier):
            service.environments.provision(reference.name, qualifier, 0)
    return {}


@operation
def list_provisioned_concurrency_configs(service: LambdaService, request: Members) -> Members:
    """Return what is provisioned for a function's versions and aliases."""
    name = function_reference(service, request["FunctionName"]).name
    with service.store.read() as transaction:
        function_document(service, transaction, name)
        documents = transaction.scan("provisioned_concurrency", name)
    configs, following = page(
        request,
        [
            (
                (qualifier,),
                {
                    "FunctionArn": function_arn(service, name, qualifier),
                    **_with_progress(service, name, qualifier, document),
                },
            )
            for (_, qualifier), document in documents
        ],
    )
    return {"ProvisionedConcurrencyConfigs": configs, **following}


def _qualified(
    service: LambdaService,
    transaction: Transaction,
    reference: FunctionReference,
    latest: str = "The function resource provided must be an alias or a published version.",
) -> tuple[Target, str]:
    """Return the version or alias, and its qualifier; `latest` is what is said of `$LATEST`."""
    if reference.qualifier is None or reference.qualifier == LATEST:
        raise ServiceError("InvalidParameterValueException", latest)
    return find_target(service, transaction, reference), reference.qualifier


def _check_snap_start(transaction: Transaction, target: Target) -> None:
    """Check that no version of `target` has SnapStart, which excludes provisioned concurrency (spec 2.4)."""
    for version in target.versions:
        document = transaction.get("version", target.reference.name, int(version)) or {}
        if document.get("SnapStart", {}).get("ApplyOn", "None") != "None":
            raise ServiceError(
                "InvalidParameterValueException",
                f"Provisioned concurrency is not supported with SnapStart, which version {version} has.",
            )


def _check_conflicts(service: LambdaService, transaction: Transaction, target: Target) -> None:
    """Check that the versions of `target` have no environments provisioned under another name."""
    name = target.reference.name
    for (_, qualifier), _ in transaction.scan("provisioned_concurrency", name):
        if qualifier == target.reference.qualifier:
            continue
        other = find_target(service, transaction, FunctionReference(name, qualifier))
        if other.versions & target.versions:
            raise ServiceError(
                "ResourceConflictException",
                "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
                if target.table == "alias"
                else "Version is pointed by a Provisioned Concurrency alias",
            )


def _check_limits(transaction: Transaction, name: str, qualifier: str, requested: int) -> None:
    before = transaction.get("provisioned_concurrency", name, qualifier) or {}
    own = before.get("RequestedProvisionedConcurrentExecutions", 0)
    concurrency = account_concurrency(transaction)
    if name in concurrency.reserved:
        if concurrency.provisioned.get(name, 0) - own + requested > concurrency.reserved[name]:
            raise ServiceError(
                "InvalidParameterValueException",
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution "
                "for function",
            )
        return
    unreserved = concurrency.unreserved + own
    if requested > unreserved:
        raise ServiceError(
            "InvalidParameterValueException",
            f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency "
            f"[{unreserved}].",
            Type=None,
        )
    if unreserved - requested < MINIMUM_UNRESERVED:
        raise ServiceError(
            "InvalidParameterValueException",
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
            f"minimum value of [{MINIMUM_UNRESERVED}].",
            Type=None,
        )


def _with_progress(service: LambdaService, name: str, qualifier: str, document: Members) -> dict[str, Any]:
    requested = document["RequestedProvisionedConcurrentExecutions"]
    progress = service.environments.provisioned(name, qualifier)
    if progress.available >= requested:
        status = "READY"
    else:
        status = "IN_PROGRESS" if progress.failure is None else "FAILED"
    return {
        "RequestedProvisionedConcurrentExecutions": requested,
        # Where fewer are requested than before, the rest may not have ended yet.
        "AvailableProvisionedConcurrentExecutions": min(progress.available, requested),
        "AllocatedProvisionedConcurrentExecutions": min(progress.allocated, requested),
        "Status": status,
        "StatusReason": progress.failure if status == "FAILED" else None,
        "LastModified": document["LastModified"],
    }
