"""Function URLs: their configuration (spec lambda-service 4.1).

A URL belongs to a function, and runs `$LATEST`, or to one of its aliases. Its id never changes; it stays, and leads
nowhere, when the alias is deleted.
"""

from __future__ import annotations

import random
import string
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from caloric.local.service.errors import ServiceError
from caloric.local.service.names import LATEST, FunctionReference, function_arn, function_reference
from caloric.local.service.operations import Members, operation
from caloric.local.service.pages import page
from caloric.local.service.targets import find_target, reference_of
from caloric.local.service.timestamps import timestamp

if TYPE_CHECKING:
    from caloric.local.service.service import LambdaService
    from caloric.local.state.store import Transaction

__all__ = [
    "create_function_url_config",
    "delete_function_url_config",
    "get_function_url_config",
    "list_function_url_configs",
    "update_function_url_config",
]

_ID = string.ascii_lowercase + string.digits


@operation
def create_function_url_config(service: LambdaService, request: Members) -> Members:
    """Give a function or an alias a URL."""
    reference = reference_of(service, request)
    _check_cors(request)
    now = _now()
    document = {
        # Guessing it is no danger: who may use the URL is for AuthType and the policy to say.
        "UrlId": "".join(random.choices(_ID, k=32)),
        "AuthType": request["AuthType"],
        "InvokeMode": request.get("InvokeMode") or "BUFFERED",
        "CreationTime": now,
        "LastModifiedTime": now,
    }
    if request.get("Cors"):
        document["Cors"] = request["Cors"]
    with service.store.write() as transaction:
        _check_target(service, transaction, reference)
        if transaction.get("function_url", *_key(reference)) is not None:
            arn = function_arn(service, reference.name, reference.qualifier)
            raise ServiceError(
                "ResourceConflictException",
                f"Failed to create function url config for [functionArn = {arn}]. "
                "Error message:  FunctionUrlConfig exists for this Lambda function",
            )
        transaction.put("function_url", *_key(reference), document=document)
    return _written(request, _answer(service, reference, document) | {"LastModifiedTime": None})


@operation
def update_function_url_config(service: LambdaService, request: Members) -> Members:
    """Change a URL's configuration; what the request leaves out stays, and an empty `Cors` removes that."""
    reference = reference_of(service, request)
    _check_cors(request)
    with service.store.write() as transaction:
        _check_target(service, transaction, reference)
        document = _existing(transaction, reference)
        for member in ("AuthType", "InvokeMode", "Cors"):
            if request.get(member) is not None:
                document[member] = request[member]
        if not document.get("Cors"):
            document.pop("Cors", None)
        document["LastModifiedTime"] = _now()
        transaction.put("function_url", *_key(reference), document=document)
    return _written(request, _answer(service, reference, document))


@operation
def get_function_url_config(service: LambdaService, request: Members) -> Members:
    """Return the configuration of a function's or an alias's URL."""
    reference = reference_of(service, request)
    with service.store.read() as transaction:
        return _answer(service, reference, _existing(transaction, reference))


@operation
def delete_function_url_config(service: LambdaService, request: Members) -> Members:
    """Take the URL away. The statements that allow its use stay in the policy."""
    reference = reference_of(service, request)
    with service.store.write() as transaction:
        if not transaction.delete("function_url", *_key(reference)):
            raise _not_there()
    return {}


@operation
def list_function_url_configs(service: LambdaService, request: Members) -> Members:
    """Return the URLs of a function and its aliases."""
    name = function_reference(service, request["FunctionName"]).name
    with service.store.read() as transaction:
        if transaction.get("function", name) is None:
            raise _no_function()
        documents = transaction.scan("function_url", name)
    configs, following = page(
        request,
        [
            (
                (qualifier,),
                _answer(
                    service, FunctionReference(name, None if qualifier == LATEST else qualifier), document
                ),
            )
            for (_, qualifier), document in documents
        ],
    )
    return {"FunctionUrlConfigs": configs, **following}


def _key(reference: FunctionReference) -> tuple[str, str]:
    return reference.name, reference.qualifier or LATEST


def _check_cors(request: Members) -> None:
    cors = request.get("Cors")
    if cors and not cors.get("AllowOrigins"):
        raise ServiceError(
            "InvalidParameterValueException", "You can't leave AllowOrigins as empty when Cors is enabled."
        )


def _check_target(service: LambdaService, transaction: Transaction, reference: FunctionReference) -> None:
    try:
        find_target(service, transaction, reference)
    except ServiceError:
        raise _no_function() from None


def _existing(transaction: Transaction, reference: FunctionReference) -> dict[str, Any]:
    document = transaction.get("function_url", *_key(reference))
    if document is None:
        raise _not_there()
    return document


def _answer(service: LambdaService, reference: FunctionReference, document: Members) -> dict[str, Any]:
    endpoint = urlsplit(service.endpoint)
    port = "" if endpoint.port is None else f":{endpoint.port}"
    host = f"{document['UrlId']}.lambda-url.{service.region}.localhost{port}"
    return {
        "FunctionUrl": f"{endpoint.scheme}://{host}/",
        "FunctionArn": function_arn(service, reference.name, reference.qualifier),
        **{name: value for name, value in document.items() if name != "UrlId"},
    }


def _written(request: Members, answer: dict[str, Any]) -> Members:
    """Return the answer to a change, which shows these members only where the request had them."""
    hidden = {name for name in ("InvokeMode", "Cors") if request.get(name) is None}
    return {name: value for name, value in answer.items() if name not in hidden}


def _now() -> str:
    return timestamp().replace("+0000", "Z")


def _no_function() -> ServiceError:
    return ServiceError("ResourceNotFoundException", "Function does not exist")


def _not_there() -> ServiceError:
    return ServiceError("ResourceNotFoundException", "The resource you requested does not exist.")
