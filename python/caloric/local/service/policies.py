"""Resource policies of functions, versions and aliases: who may invoke them (spec lambda-service 2.5).

There is one for each of them, under its ARN. Its revision is that of what it is attached to.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from caloric.local.service.errors import ServiceError
from caloric.local.service.names import LATEST, function_arn, partition
from caloric.local.service.operations import Members, operation
from caloric.local.service.statements import add_statement, policy_document, remove_statement
from caloric.local.service.targets import find_target, reference_of, renew_revision

if TYPE_CHECKING:
    from caloric.local.service.service import LambdaService
    from caloric.local.service.targets import Target

__all__ = ["add_permission", "get_policy", "remove_permission"]

_STALE = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetPolicy API to retrieve the latest Revision Id"
)

_SERVICE = re.compile(r"([a-z0-9-]+\.)+(amazonaws\.com(\.cn)?|amazon\.com|aws\.internal)")
_IDENTITY = re.compile(r"arn:aws[a-z-]*:(iam|sts)::\d{12}:[^\s:]+", re.ASCII)


@operation
def add_permission(service: LambdaService, request: Members) -> Members:
    """Add a statement to the policy of a function, a version or an alias."""
    reference = reference_of(service, request)
    if reference.qualifier == LATEST:
        raise ServiceError(
            "InvalidParameterValueException", "We currently do not support adding policies for $LATEST."
        )
    with service.store.write() as transaction:
        target = find_target(service, transaction, reference)
        arn = function_arn(service, reference.name, reference.qualifier)
        statement = _statement(service, arn, request)
        _match_revision(request, target)
        policy = transaction.get("policy", arn) or {"Statement": []}
        add_statement(policy, statement)
        transaction.put("policy", arn, document=policy)
        renew_revision(transaction, target)
    return {"Statement": json.dumps(statement, separators=(",", ":"))}


@operation
def remove_permission(service: LambdaService, request: Members) -> Members:
    """Remove a statement from the policy of a function, a version or an alias; the policy goes with the last one."""
    reference = reference_of(service, request)
    with service.store.write() as transaction:
        if transaction.get("function", reference.name) is None:
            raise ServiceError(
                "ResourceNotFoundException", f"No policy found for: {function_arn(service, reference.name)}"
            )
        target = find_target(service, transaction, reference)
        arn = function_arn(service, reference.name, reference.qualifier)
        policy = transaction.get("policy", arn)
        if policy is None:
            raise ServiceError(
                "ResourceNotFoundException", "No policy is associated with the given resource."
            )
        _match_revision(request, target)
        remove_statement(policy, request["StatementId"])
        if policy["Statement"]:
            transaction.put("policy", arn, document=policy)
        else:
            transaction.delete("policy", arn)
        renew_revision(transaction, target)
    return {}


@operation
def get_policy(service: LambdaService, request: Members) -> Members:
    """Return the policy of a function, a version or an alias."""
    reference = reference_of(service, request)
    missing = ServiceError("ResourceNotFoundException", "The resource you requested does not exist.")
    with service.store.read() as transaction:
        policy = transaction.get("policy", function_arn(service, reference.name, reference.qualifier))
        if policy is None:
            raise missing
        try:
            target = find_target(service, transaction, reference)
        except ServiceError:
            raise missing from None
    return {"Policy": policy_document(policy), "RevisionId": target.document["RevisionId"]}


def _match_revision(request: Members, target: Target) -> None:
    if request.get("RevisionId") and request["RevisionId"] != target.document["RevisionId"]:
        raise ServiceError("PreconditionFailedException", _STALE)


def _statement(service: LambdaService, arn: str, request: Members) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Sid": request["StatementId"],
        "Effect": "Allow",
        "Principal": _principal(service, request["Principal"]),
        "Action": request["Action"],
        "Resource": arn,
    }
    if request.get("FunctionUrlAuthType") and request["Action"] != "lambda:InvokeFunctionUrl":
        raise ServiceError(
            "InvalidParameterValueException",
            "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action",
        )
    invoked_via_url = request.get("InvokedViaFunctionUrl")
    conditions = {
        "StringEquals": {
            "AWS:SourceAccount": request.get("SourceAccount"),
            "lambda:FunctionUrlAuthType": request.get("FunctionUrlAuthType"),
            "lambda:EventSourceToken": request.get("EventSourceToken"),
            "aws:PrincipalOrgID": request.get("PrincipalOrgID"),
        },
        "ArnLike": {"AWS:SourceArn": request.get("SourceArn")},
        "Bool": {
            "lambda:InvokedViaFunctionUrl": None if invoked_via_url is None else str(invoked_via_url).lower()
        },
    }
    given = {
        operator: {key: value for key, value in keys.items() if value}
        for operator, keys in conditions.items()
    }
    condition = {operator: keys for operator, keys in given.items() if keys}
    return {**statement, "Condition": condition} if condition else statement


def _principal(service: LambdaService, principal: str) -> str | dict[str, str]:
    if principal == "*":
        return principal
    if re.fullmatch(r"\d{12}", principal, re.ASCII):
        return {"AWS": f"arn:{partition(service.region)}:iam::{principal}:root"}
    if _IDENTITY.fullmatch(principal):
        return {"AWS": principal}
    if _SERVICE.fullmatch(principal):
        return {"Service": principal}
    raise ServiceError(
        "InvalidParameterValueException",
        "The provided principal was invalid. Please check the principal and try again.",
    )
