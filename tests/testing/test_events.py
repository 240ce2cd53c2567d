"""Builders of events: their shapes are those of AWS's samples, and their arguments arrive where they belong."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from caloric._rust import encode_json
from caloric.testing import events
from tests import parts

TIME = datetime(2026, 9, 15, 11, 53, 23, 648_000, tzinfo=timezone.utc)


def sample(name: str) -> Any:
    return json.loads(parts.sample_events()[name])


def shape(value: object, place: str = "") -> dict[str, str]:
    """Return the type of everything in an event by its path; members of a list are as its first one."""
    if isinstance(value, dict):
        members = {f"{place}.{name}": member for name, member in value.items()}
        return {place: "object"} | {
            k: v for path, member in members.items() for k, v in shape(member, path).items()
        }
    if isinstance(value, list):
        return {place: "array"} | (shape(value[0], f"{place}[]") if value else {})
    if isinstance(value, bool):
        return {place: "boolean"}
    if isinstance(value, (int, float)):
        return {place: "number"}
    return {place: "null" if value is None else "string"}


# By path: what ours has beyond AWS's sample, which is older or shorter than what the service sends, and what of the
# sample depends on how the service was configured.
HEADERS = ".headers.", ".multiValueHeaders."
CASES = {
    "apigateway/AwsProxy": (
        events.api_gateway_v1(
            "POST",
            "/path/to/resource",
            query={"foo": "bar"},
            body=b'{"test":"body"}',
            resource="/{proxy+}",
            path_parameters={"proxy": "/path/to/resource"},
            stage_variables={"baz": "qux"},
        ),
        {".requestContext.domainName", ".requestContext.domainPrefix", ".requestContext.extendedRequestId"},
        set(),
    ),
    "apigateway/HttpApi": (
        events.api_gateway_v2(
            "POST",
            "/path/to/resource?parameter1=value1&parameter1=value2&parameter2=value",
            cookies={"cookie1": "a", "cookie2": "b"},
            body=b'{"test":"body"}',
            path_parameters={"parameter1": "value1"},
            stage_variables={"stageVariable1": "value1", "stageVariable2": "value2"},
            authorizer={"jwt": {"claims": {"claim1": "value1", "claim2": "value2"}, "scopes": ["scope1"]}},
        ),
        set(),
        {".requestContext.authentication"},
    ),
    "sqs/Sqs": (events.sqs("Hello from SQS!"), {".Records[].md5OfMessageAttributes"}, set()),
    "sns/Sns": (
        events.sns("m", subject="s", message_attributes={"Test": "TestString", "TestBinary": b"TestBinary"}),
        set(),
        set(),
    ),
    "s3/S3Put": (events.s3("test/key"), set(), set()),
    "s3/S3Delete": (events.s3("test/key", event_name="ObjectRemoved:Delete"), set(), set()),
    "cloudwatch/ScheduledEvent": (events.eventbridge(), {".version"}, set()),
    "dynamodb/DynamoDBUpdate": (
        events.dynamodb_stream({"Message": "New item!", "Id": 101}, keys=["Id"]),
        set(),
        set(),
    ),
    "kinesis/Kinesis": (events.kinesis_stream("Hello, this is a test 123."), set(), set()),
}


@pytest.mark.parametrize("name", CASES)
def test_the_shape_is_that_of_awss_sample(name: str) -> None:
    event, more, less = CASES[name]
    ours, theirs = shape(event), shape(sample(name))

    def compared(paths: dict[str, str], but: set[str]) -> dict[str, str]:
        return {
            path: kind
            for path, kind in paths.items()
            if not path.startswith(HEADERS)
            and not any(path == other or path.startswith(f"{other}.") for other in but)
        }

    assert more <= ours.keys()
    assert less <= theirs.keys()
    assert compared(ours, more) == compared(theirs, less)


def test_samples_of_a_change_and_a_removal_have_the_same_shape() -> None:
    records = sample("dynamodb/DynamoDBUpdate")["Records"]
    ours = events.dynamodb_stream(
        {"Message": "New item!", "Id": 101},
        ({"Message": "New item!", "Id": 101}, {"Message": "This item has changed", "Id": 101}),
        ({"Message": "This item has changed", "Id": 101}, None),
        keys=["Id"],
    )["Records"]
    for own, theirs in zip(ours, records, strict=True):
        assert shape(own) == shape(theirs)
        for member in ("Keys", "NewImage", "OldImage"):
            assert own["dynamodb"].get(member) == theirs["dynamodb"].get(member)
        assert own["eventName"] == theirs["eventName"]


def test_the_values_of_a_sample_come_out_the_same() -> None:
    ours, theirs = events.sqs("Hello from SQS!")["Records"][0], sample("sqs/Sqs")["Records"][0]
    assert (ours["body"], ours["md5OfBody"]) == (theirs["body"], theirs["md5OfBody"])
    ours = events.kinesis_stream("Hello, this is a test 123.")["Records"][0]["kinesis"]
    assert ours["data"] == sample("kinesis/Kinesis")["Records"][0]["kinesis"]["data"]
    query = "parameter1=value1&parameter1=value2&parameter2=value"
    event, theirs = events.api_gateway_v2(path=f"/?{query}"), sample("apigateway/HttpApi")
    for member in ("rawQueryString", "queryStringParameters"):
        assert event[member] == theirs[member]


@pytest.mark.parametrize("name", CASES)
def test_events_have_a_form_in_json(name: str) -> None:
    event = CASES[name][0]
    assert json.loads(encode_json(event)) == event


# ---- HTTP --------------------------------------------------------------------------------------------------------


def test_a_function_url_request_is_as_documented() -> None:
    event = events.function_url(
        "POST",
        "/a b/items",
        headers={"X-Multi": ["one", "two"], "User-Agent": "test"},
        query={"x": ["1", "2"], "q": "/z"},
        cookies={"sid": "abc", "theme": "dark"},
        body={"id": 17},
        time=TIME,
    )
    headers, context = event.pop("headers"), event.pop("requestContext")
    assert event == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/a%20b/items",
        "rawQueryString": "x=1&x=2&q=%2Fz",
        "cookies": ["sid=abc", "theme=dark"],
        "queryStringParameters": {"x": "1,2", "q": "/z"},
        "body": '{"id":17}',
        "isBase64Encoded": False,
    }
    assert headers["x-multi"] == "one,two"
    assert headers["user-agent"] == "test"
    assert headers["content-type"] == "application/json"
    assert headers["cookie"] == "sid=abc; theme=dark"
    assert headers["host"] == context["domainName"]
    assert all(name == name.lower() for name in headers)
    assert context["accountId"] == "anonymous"
    assert context["domainName"] == f"{context['domainPrefix']}.lambda-url.us-east-1.on.aws"
    assert context["http"] == {
        "method": "POST",
        "path": "/a b/items",
        "protocol": "HTTP/1.1",
        "sourceIp": "203.0.113.9",
        "userAgent": "test",
    }
    assert (context["time"], context["timeEpoch"]) == ("15/Sep/2026:11:53:23 +0000", 1789473203648)
    assert "authorizer" not in context


def test_a_request_without_anything_has_no_empty_members() -> None:
    for event in (events.function_url(), events.api_gateway_v2()):
        absent = {"cookies", "queryStringParameters", "body", "pathParameters", "stageVariables"}
        assert not absent & event.keys()
        assert event["rawQueryString"] == ""
        assert "content-type" not in event["headers"]
    event = events.api_gateway_v1()
    for member in (
        "body",
        "queryStringParameters",
        "multiValueQueryStringParameters",
        "pathParameters",
        "stageVariables",
    ):
        assert event[member] is None


def test_an_authorised_function_url_says_who_called() -> None:
    context = events.function_url(iam=True)["requestContext"]
    assert context["authorizer"]["iam"]["accountId"] == context["accountId"] == "123456789012"


@pytest.mark.parametrize(
    ("body", "headers", "sent", "encoded", "content_type"),
    [
        ("text", {}, "text", False, "text/plain"),
        ({"é": [1, None]}, {}, '{"é":[1,null]}', False, "application/json"),
        ([], {}, "[]", False, "application/json"),
        (b"\xff", {}, "/w==", True, "application/octet-stream"),
        ("a=b", {"Content-Type": "application/x-www-form-urlencoded"}, "YT1i", True, None),
        ("<a/>", {"content-type": "application/atom+xml; charset=utf-8"}, "<a/>", False, None),
    ],
)
def test_bodies(
    body: object, headers: dict[str, str], sent: str, encoded: bool, content_type: str | None
) -> None:
    for build in (events.function_url, events.api_gateway_v2):
        event = build("POST", headers=headers, body=body)
        assert (event["body"], event["isBase64Encoded"]) == (sent, encoded)
        assert event["headers"]["content-type"] == (content_type or next(iter(headers.values())))
    event = events.api_gateway_v1("POST", body=body)
    assert event["isBase64Encoded"] == isinstance(body, bytes)


def test_an_api_gateway_v1_request_keeps_case_and_repetitions() -> None:
    event = events.api_gateway_v1(
        "GET",
        "/items/17?a=1&a=2",
        headers={"X-One": "1", "X-Two": ["1", "2"], "host": "example.com"},
        cookies={"a": "b", "c": "d"},
        path_parameters={"id": "17"},
        resource="/items/{id}",
        stage="Prod",
        authorizer={"principalId": "me"},
        time=TIME,
    )
    assert event["queryStringParameters"] == {"a": "2"}
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"]}
    assert (event["headers"]["X-Two"], event["multiValueHeaders"]["X-Two"]) == ("2", ["1", "2"])
    assert event["headers"]["Cookie"] == "a=b; c=d"
    assert event["headers"]["host"] == "example.com"
    assert "Host" not in event["headers"]
    assert event["headers"].keys() == event["multiValueHeaders"].keys()
    context = event["requestContext"]
    assert (context["path"], context["resourcePath"], event["path"]) == (
        "/Prod/items/17",
        "/items/{id}",
        "/items/17",
    )
    assert context["authorizer"] == {"principalId": "me"}
    assert (context["requestTime"], context["requestTimeEpoch"]) == (
        "15/Sep/2026:11:53:23 +0000",
        1789473203648,
    )


def test_an_api_gateway_v2_request_has_its_route_and_stage() -> None:
    event = events.api_gateway_v2(
        "GET",
        "/items/17",
        route_key="GET /items/{id}",
        path_parameters={"id": "17"},
        stage="dev",
        cookies={"a": "b"},
    )
    assert event["routeKey"] == event["requestContext"]["routeKey"] == "GET /items/{id}"
    assert event["rawPath"] == event["requestContext"]["http"]["path"] == "/dev/items/17"
    assert event["requestContext"]["stage"] == "dev"
    assert event["pathParameters"] == {"id": "17"}
    assert event["cookies"] == ["a=b"]
    assert "cookie" not in event["headers"]


# ---- others ------------------------------------------------------------------------------------------------------


def test_sqs_messages() -> None:
    event = events.sqs({"n": 1}, "two", queue="orders", time=TIME)
    first, second = event["Records"]
    assert (first["body"], second["body"]) == ('{"n":1}', "two")
    assert first["messageId"] != second["messageId"]
    assert first["eventSourceARN"] == "arn:aws:sqs:us-east-1:123456789012:orders"
    assert first["attributes"]["SentTimestamp"] == "1789473203648"
    assert (first["messageAttributes"], first["md5OfMessageAttributes"]) == ({}, None)


def test_sqs_attributes_and_fifo_queues() -> None:
    (record,) = events.sqs("x", group_id="g", message_attributes={"kind": "new", "n": 2, "raw": b"\0"})[
        "Records"
    ]
    assert record["eventSourceARN"].endswith(":queue.fifo")
    assert record["attributes"]["MessageGroupId"] == "g"
    assert {"SequenceNumber", "MessageDeduplicationId"} <= record["attributes"].keys()
    empty: dict[str, list[str]] = {"stringListValues": [], "binaryListValues": []}
    assert record["messageAttributes"] == {
        "kind": {"stringValue": "new", **empty, "dataType": "String"},
        "n": {"stringValue": "2", **empty, "dataType": "Number"},
        "raw": {"binaryValue": "AA==", **empty, "dataType": "Binary"},
    }
    assert len(record["md5OfMessageAttributes"]) == 32


def test_an_sns_notification() -> None:
    (record,) = events.sns({"a": 1}, topic="news", message_attributes={"n": 1}, time=TIME)["Records"]
    message = record["Sns"]
    assert (message["Message"], message["Subject"]) == ('{"a":1}', None)
    assert message["TopicArn"] == "arn:aws:sns:us-east-1:123456789012:news"
    assert record["EventSubscriptionArn"].startswith(message["TopicArn"] + ":")
    assert message["Timestamp"] == "2026-09-15T11:53:23.648Z"
    assert message["MessageAttributes"] == {"n": {"Type": "Number", "Value": "1"}}


def test_s3_keys_are_encoded_as_forms() -> None:
    first, second = events.s3("a/b c+ü.txt", "d", bucket="in", size=5)["Records"]
    assert first["s3"]["object"]["key"] == "a/b+c%2B%C3%BC.txt"
    assert (first["s3"]["object"]["size"], first["s3"]["bucket"]["arn"]) == (5, "arn:aws:s3:::in")
    assert first["s3"]["object"]["sequencer"] < second["s3"]["object"]["sequencer"]


def test_an_eventbridge_event() -> None:
    event = events.eventbridge({"id": 1}, detail_type="Order placed", source="shop", time=TIME)
    assert (event["detail"], event["detail-type"], event["source"]) == ({"id": 1}, "Order placed", "shop")
    assert (event["resources"], event["time"]) == ([], "2026-09-15T11:53:23Z")
    assert events.eventbridge()["resources"] == ["arn:aws:events:us-east-1:123456789012:rule/rule"]


def test_dynamodb_values_get_their_types() -> None:
    item = {
        "id": "x",
        "n": 1,
        "d": Decimal("1.50"),
        "t": True,
        "none": None,
        "b": b"\xff",
        "l": [1, "a"],
        "m": {"k": False},
        "ss": {"b", "a"},
        "ns": {1},
    }
    (record,) = events.dynamodb_stream(item)["Records"]
    assert record["dynamodb"]["Keys"] == {"id": {"S": "x"}}
    assert record["dynamodb"]["NewImage"] == {
        "id": {"S": "x"},
        "n": {"N": "1"},
        "d": {"N": "1.50"},
        "t": {"BOOL": True},
        "none": {"NULL": True},
        "b": {"B": "/w=="},
        "l": {"L": [{"N": "1"}, {"S": "a"}]},
        "m": {"M": {"k": {"BOOL": False}}},
        "ss": {"SS": ["a", "b"]},
        "ns": {"NS": ["1"]},
    }


@pytest.mark.parametrize(
    ("view", "images"),
    [
        ("KEYS_ONLY", set()),
        ("NEW_IMAGE", {"NewImage"}),
        ("OLD_IMAGE", {"OldImage"}),
        ("NEW_AND_OLD_IMAGES", {"NewImage", "OldImage"}),
    ],
)
def test_the_view_type_decides_what_is_there(view: str, images: set[str]) -> None:
    (record,) = events.dynamodb_stream(({"id": 1}, {"id": 1, "a": 2}), view=view)["Records"]
    assert record["dynamodb"].keys() & {"NewImage", "OldImage"} == images
    assert record["dynamodb"]["StreamViewType"] == view


def test_kinesis_data_is_base64() -> None:
    records = events.kinesis_stream(b"\xff", "text", {"a": 1}, stream="clicks", partition_key="user-1")[
        "Records"
    ]
    assert [base64.b64decode(record["kinesis"]["data"]) for record in records] == [
        b"\xff",
        b"text",
        b'{"a":1}',
    ]
    assert records[0]["eventSourceARN"].endswith("stream/clicks")
    assert records[0]["kinesis"]["partitionKey"] == "user-1"
    assert records[0]["eventID"] != records[1]["eventID"]


# ---- overrides and mistakes --------------------------------------------------------------------------------------


def test_overrides_reach_everything() -> None:
    event = events.sqs(
        "a",
        "b",
        overrides={
            "Records": {
                1: {"attributes": {"ApproximateReceiveCount": "3"}, "md5OfBody": events.REMOVE},
                -2: {"body": ["any", "thing"]},
            },
            "new": {"deep": {"er": 1}},
        },
    )
    first, second = event["Records"]
    assert first["body"] == ["any", "thing"]
    assert second["attributes"]["ApproximateReceiveCount"] == "3"
    assert second["attributes"]["SenderId"] == first["attributes"]["SenderId"]
    assert "md5OfBody" not in second
    assert event["new"] == {"deep": {"er": 1}}
    assert events.s3("k", overrides={"Records": []}) == {"Records": []}


def test_overrides_that_miss_are_mistakes() -> None:
    with pytest.raises(ValueError, match=r"the event\['Records'\] has no place 1, it has 1"):
        events.sqs("a", overrides={"Records": {1: {}}})
    with pytest.raises(ValueError, match="there is no 'boby' to remove in the event"):
        events.sqs("a", overrides={"boby": events.REMOVE})


def test_a_time_without_a_zone_is_utc_and_others_are_converted() -> None:
    zone = timezone(timedelta(hours=2))
    assert events.eventbridge(time=datetime(2026, 1, 1, 12))["time"] == "2026-01-01T12:00:00Z"
    assert events.eventbridge(time=datetime(2026, 1, 1, 12, tzinfo=zone))["time"] == "2026-01-01T10:00:00Z"


@pytest.mark.parametrize("build", [events.sqs, events.s3, events.dynamodb_stream, events.kinesis_stream])
def test_a_batch_is_never_empty(build: Any) -> None:
    with pytest.raises(ValueError, match="at least one record"):
        build()


def test_items_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"the key 'id' is not in the item .* keys=…"):
        events.dynamodb_stream({"pk": 1})
    with pytest.raises(ValueError, match="needs an item"):
        events.dynamodb_stream((None, None))
    with pytest.raises(TypeError, match="no type for the set"):
        events.dynamodb_stream({"id": {1, "a"}})
    with pytest.raises(TypeError, match="no type for <object"):
        events.dynamodb_stream({"id": object()})


def test_a_path_is_no_method() -> None:
    with pytest.raises(ValueError, match="the method comes first, and '/items' is none"):
        events.api_gateway_v2("/items")
