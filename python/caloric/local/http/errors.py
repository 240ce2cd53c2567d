"""Errors of the service as answers (spec lambda-service 0.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from caloric.local.http.messages import JSON, Answer

if TYPE_CHECKING:
    from caloric.local.http.model import Model
    from caloric.local.service.errors import ServiceError

__all__ = ["answer"]


class _Form(NamedTuple):
    """How an error that is not in the model looks."""

    status: int
    message_key: str
    typed: bool = False


# 0.4, and what AWS's front answers before a service is asked.
_FORMS = {
    "AccessDeniedException": _Form(403, "Message"),
    "IncompleteSignatureException": _Form(403, "message"),
    "InvalidSignatureException": _Form(403, "message"),
    "MissingAuthenticationTokenException": _Form(403, "message"),
    # Ours: an operation that AWS has.
    "NotImplementedException": _Form(501, "message"),
    # What the wire says for the model's RequestTooLargeException.
    "RequestEntityTooLargeException": _Form(413, "Message"),
    "SerializationException": _Form(400, "message"),
    "UnknownOperationException": _Form(404, "message"),
    "UnrecognizedClientException": _Form(403, "message"),
    "ValidationException": _Form(400, "message"),
}

# In botocore's newer models only.
_OTHERWISE = _Form(400, "Message", typed=True)


def answer(error: ServiceError, model: Model) -> Answer:
    """Return the answer that tells of `error`: status, headers and body as the model describes its exception."""
    shape = model.exception(error.name)
    headers = {"x-amzn-ErrorType": error.name, "Content-Type": JSON}
    members: dict[str, Any] = dict(error.members)
    if shape is None:
        form = _FORMS.get(error.name, _OTHERWISE)
    else:
        message_key = "message" if "message" in shape.members else "Message"
        form = _Form(shape.status or 400, message_key, typed="Type" in shape.members)
        for member in shape.members.values():
            if member.location == "header" and member.name in members:
                headers[member.wire_name] = str(members.pop(member.name))
    if form.typed:
        members.setdefault("Type", "User" if form.status < 500 else "Service")
    document = {name: value for name, value in members.items() if value is not None}
    document[form.message_key] = error.message
    return Answer(form.status, headers, orjson.dumps(document))
