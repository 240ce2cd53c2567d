"""Whatever botocore can say arrives as it was meant, and the other way round, for every operation of the model."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import botocore.session
import pytest
from botocore.awsrequest import HeadersDict, create_request_object, prepare_request_dict
from botocore.parsers import create_parser
from botocore.response import StreamingBody
from botocore.serialize import create_serializer
from hypothesis import given, settings
from hypothesis import strategies as st

from caloric.local.http import limits, messages, model, routes, validation
from tests.local.http.server import serving
from tests.local.http.strategies import members_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caloric.local.service.operations import Members
    from caloric.local.service.service import LambdaService

MODEL = model.load()
ROUTES = routes.Routes(MODEL.operations.values())
OPERATIONS = sorted(MODEL.operations)
BOTOCORE = botocore.session.Session().get_service_model("lambda")


def prepared(name: str, members: dict[str, Any]) -> Any:
    """Return botocore's request, ready for the wire."""
    request = create_serializer("rest-json").serialize_to_request(members, BOTOCORE.operation_model(name))
    prepare_request_dict(request, endpoint_url="http://127.0.0.1")
    return create_request_object(request).prepare()


def understood(request: Any) -> tuple[str, dict[str, Any]]:
    """Return what our parser makes of it."""
    url = urlsplit(request.url)
    query = parse_qsl(url.query, keep_blank_values=True)
    match = ROUTES.match(request.method, url.path, query)
    assert match is not None, f"no route for {request.method} {request.url}"
    headers = {
        name.lower(): value.decode("ascii") if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else bytes(body)
    members = messages.parse(match.operation, match.path_members, query, headers, body)
    validation.validate(match.operation, members)
    return match.operation.name, members


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=4)
@given(data=st.data())
def test_what_botocore_writes_is_read_as_it_was_meant(name: str, data: st.DataObject) -> None:
    members = data.draw(members_of(MODEL.operations[name].input))
    assert said(*understood(prepared(name, members)), members) == (name, members)


def said(name: str, asked: dict[str, Any], members: Members) -> tuple[str, dict[str, Any]]:
    """Take out what botocore put in itself: idempotency tokens, and an empty structure where it is all of the body."""
    shape = BOTOCORE.operation_model(name).input_shape
    own = {
        member
        for member, type_ in (shape.members if shape else {}).items()
        if "idempotencyToken" in type_.metadata
    }
    input_shape = MODEL.operations[name].input
    payload = input_shape.payload if input_shape is not None else None
    if payload is not None and asked.get(payload.name) == {}:
        own.add(payload.name)
    return name, {member: value for member, value in asked.items() if member in members or member not in own}


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=4)
@given(data=st.data())
def test_what_is_written_botocore_reads_as_it_was_meant(name: str, data: st.DataObject) -> None:
    operation = MODEL.operations[name]
    members = data.draw(members_of(operation.output))
    answer = messages.write(operation, members)
    if answer.status == 204:
        assert answer.body == b""
        return
    if has_event_stream(name):
        # Its events are read from a connection: test_event_stream.
        return
    parsed = create_parser("rest-json").parse(
        {
            "status_code": answer.status,
            "headers": HeadersDict(answer.headers),
            "body": streamed(name, answer.body),
        },
        BOTOCORE.operation_model(name).output_shape,
    )
    read_payload(name, parsed)
    assert parsed.pop("ResponseMetadata")["HTTPStatusCode"] == operation.status
    assert without_defaults(name, parsed, members) == members


def streamed(name: str, body: bytes) -> Any:
    """Return the body as botocore's client gives it to its parser."""
    streaming = BOTOCORE.operation_model(name).has_streaming_output
    return StreamingBody(io.BytesIO(body), len(body)) if streaming else body


def read_payload(name: str, parsed: dict[str, Any]) -> None:
    """Put what a streamed payload has in its place."""
    if BOTOCORE.operation_model(name).has_streaming_output:
        payload = MODEL.operations[name].output.payload  # type: ignore[union-attr]
        assert payload is not None
        parsed[payload.name] = parsed[payload.name].read()


def has_event_stream(name: str) -> bool:
    output = MODEL.operations[name].output
    return output is not None and output.payload is not None and output.payload.shape.event_stream


def without_defaults(name: str, parsed: dict[str, Any], members: Members) -> dict[str, Any]:
    """Take out what botocore puts in itself: the status, and an empty payload."""
    output = MODEL.operations[name].output
    assert output is not None or not parsed
    for member in output.members.values() if output is not None else ():
        if member.name not in members and member.location in ("statusCode", "payload"):
            parsed.pop(member.name, None)
    return parsed


class Double:
    """Takes every operation's part: keeps what it was asked and answers what the test says."""

    def __init__(self) -> None:
        self.asked: tuple[str, dict[str, Any]] | None = None
        self.answer: dict[str, Any] = {}
        self.thread: threading.Thread | None = None

    def operations(self) -> dict[str, Any]:
        return {name: self._operation(name) for name in OPERATIONS}

    def _operation(self, name: str) -> Any:
        def operate(_service: LambdaService, request: Members) -> Members:
            self.asked = (name, dict(request))
            self.thread = threading.current_thread()
            return self.answer

        return operate


@pytest.fixture(scope="module")
def double() -> Iterator[tuple[Double, Any]]:
    double = Double()
    with serving(double.operations(), model=MODEL) as server:
        client = server.client()
        yield double, client
        client.close()


@pytest.mark.parametrize("name", [name for name in OPERATIONS if not has_event_stream(name)])
@settings(max_examples=3)
@given(data=st.data())
def test_boto3_and_an_operation_understand_each_other(
    double: tuple[Double, Any], name: str, data: st.DataObject
) -> None:
    service, client = double
    operation = MODEL.operations[name]
    members = data.draw(members_of(operation.input))
    service.answer = data.draw(members_of(operation.output))
    method = {operation: python for python, operation in client.meta.method_to_api_mapping.items()}[name]

    answer = getattr(client, method)(**members)

    status = limits.STATUSES.get(name, operation.status)
    metadata = answer.pop("ResponseMetadata")
    assert metadata["HTTPStatusCode"] == status
    assert service.asked is not None
    assert said(*service.asked, members) == (name, members)
    read_payload(name, answer)
    if status != 204:
        assert without_defaults(name, answer, service.answer) == service.answer
    assert service.thread is not None
    assert service.thread.name.startswith("operation")
