"""Invocations, as far as they come here (spec lambda-service 1).

A synchronous or streaming invocation of what is published is the front's: it never enters Python. Here come `DryRun`
and `Event`, what cannot be invoked, and, where requests are signed, every invocation to be checked. One that may run is
handed back to the front, which runs it.

An event is delivered at once, and waits in this process only while there is no concurrency left for it. There is no
queue that outlives the service, and no second attempt after a failure.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from caloric._rust import decode_json
from caloric.local.environments.interface import NotPublishedError
from caloric.local.service.errors import ServiceError
from caloric.local.service.names import LATEST, FunctionReference, function_reference
from caloric.local.service.operations import CALL, Members, operation
from caloric.local.service.versions import resolve

if TYPE_CHECKING:
    from caloric._rust import InvokeResult
    from caloric.local.service.service import LambdaService

__all__ = ["RUN", "invoke", "invoke_async", "invoke_with_response_stream"]

RUN = ("X-Caloric-Invoke", "run")
"""The header with which an answer leaves an invocation to the front (`caloric._rust.ServiceFront`)."""

_LOG = logging.getLogger("caloric.local.service")

_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 300.0
"""How long an event waits that was throttled, twice as long each time (spec lambda-service 3.2)."""


@operation
def invoke(service: LambdaService, request: Members) -> Members:
    """Check whether a version can be invoked; deliver an event, leave everything else to the front."""
    kind = request.get("InvocationType", "RequestResponse")
    reference = _invocable(service, request)
    if kind == "DryRun":
        return {"StatusCode": 204}
    if kind == "Event":
        _accept(service, reference, request)
        return {"StatusCode": 202}
    return _left_to_the_front()


@operation
def invoke_with_response_stream(service: LambdaService, request: Members) -> Members:
    """Check whether a version can be invoked, and leave the invocation to the front."""
    _invocable(service, request)
    if request.get("InvocationType") == "DryRun":
        return {"StatusCode": 204}
    return _left_to_the_front()


@operation
def invoke_async(service: LambdaService, request: Members) -> Members:
    """Deliver an event: the operation that `Invoke` with `Event` has replaced."""
    reference = _invocable(service, request)
    _accept(service, reference, {"Payload": request.get("InvokeArgs")})
    return {"Status": 202}


def _left_to_the_front() -> Members:
    name, value = RUN
    CALL.get().answer_headers[name] = value
    return {}


def _invocable(service: LambdaService, request: Members) -> FunctionReference:
    """Return what is to be invoked.

    Raises:
        ServiceError: `ResourceNotFoundException`, and `ResourceConflictException` for a function that is not ready.
    """
    reference = function_reference(service, request["FunctionName"], request.get("Qualifier"))
    with service.store.read() as transaction:
        # The text names the qualifier since 2025, also where none was given (1.3).
        asked = FunctionReference(reference.name, reference.qualifier or LATEST)
        state = resolve(service, transaction, asked).document["State"]
    if state != "Active":
        raise ServiceError(
            "ResourceConflictException",
            "The operation cannot be performed at this time. The function is currently in the following state: "
            f"{state}",
        )
    return reference


def _accept(service: LambdaService, reference: FunctionReference, request: Members) -> None:
    """Take an event for delivery.

    Raises:
        ServiceError: `InvalidRequestContentException` for what is no JSON, `InvalidParameterValueException` for a
            tenant id that is missing or not wanted.
    """
    event: bytes = request.get("Payload") or b"{}"
    try:
        decode_json(event)
    except ValueError as error:
        raise ServiceError(
            "InvalidRequestContentException",
            f"Could not parse request body into json: Could not parse payload into json: {error}",
        ) from None
    _deliver(service, reference, event, request.get("TenantId"), CALL.get().request_id, CALL.get().trace_id)


def _deliver(
    service: LambdaService,
    reference: FunctionReference,
    event: bytes,
    tenant_id: str | None,
    request_id: str,
    trace_id: str | None,
    delay_s: float = _FIRST_DELAY_S,
) -> None:
    def finished(result: InvokeResult) -> None:
        if result.service_error is not None:
            _, name, message = result.service_error
            _LOG.error("the event %s for %s was not run: %s (%s)", request_id, reference.name, message, name)

    try:
        throttled = service.environments.submit(
            reference.name,
            reference.qualifier,
            event,
            finished,
            request_id=request_id,
            trace_id=trace_id,
            tenant_id=tenant_id,
        )
    except ValueError as error:
        raise ServiceError("InvalidParameterValueException", str(error)) from None
    except NotPublishedError:
        _LOG.error("the event %s was not run: %s is not there any more", request_id, reference.name)
        return
    if throttled is not None:
        again = threading.Timer(
            delay_s,
            _deliver,
            (service, reference, event, tenant_id, request_id, trace_id, min(2 * delay_s, _LONGEST_DELAY_S)),
        )
        again.daemon = True
        again.start()
