"""Events as AWS's services send them, with what a test cares about as arguments (spec lambda-service 4.3 and 6.5).

Every builder returns a new dict that has a form in JSON. What has no argument is changed with `overrides`: dicts in it
are merged at every depth, anything else takes the place of what is there, whole numbers in a dict are places in a list,
and `REMOVE` takes a key away:

    sqs("one", "two", overrides={"Records": {1: {"attributes": {"ApproximateReceiveCount": "3"}}}})

Ids are new in each event, and times are now unless `time` says otherwise.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence, Set
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlencode
from uuid import uuid4

__all__ = [
    "REMOVE",
    "api_gateway_v1",
    "api_gateway_v2",
    "dynamodb_stream",
    "eventbridge",
    "function_url",
    "kinesis_stream",
    "s3",
    "sns",
    "sqs",
]


class _Remove:
    def __repr__(self) -> str:
        return "REMOVE"


REMOVE: Final = _Remove()
"""In `overrides`: there is no such key."""

Event = dict[str, Any]
Overrides = Mapping[Any, Any]
Query = Mapping[str, "str | Sequence[str]"]
Headers = Mapping[str, "str | Sequence[str]"]
Cookies = Mapping[str, str]

_REGION = "us-east-1"
_ACCOUNT = "123456789012"
_API = "a1b2c3d4e5"
_URL = "k7m2q4x8w1z5t9b3c6v0n4h2j8r5d1fa"
_AGENT = "curl/8.9"
_SOURCE_IP = "203.0.113.9"


# ---- HTTP ------------------------------------------------------------------------------------------------------------


def api_gateway_v1(
    method: str = "GET",
    path: str = "/",
    *,
    headers: Headers | None = None,
    query: Query | None = None,
    cookies: Cookies | None = None,
    body: object = None,
    path_parameters: Mapping[str, str] | None = None,
    resource: str | None = None,
    stage: str = "prod",
    stage_variables: Mapping[str, str] | None = None,
    authorizer: Mapping[str, Any] | None = None,
    source_ip: str = _SOURCE_IP,
    time: datetime | None = None,
    overrides: Overrides | None = None,
) -> Event:
    """Return a request to an API Gateway REST API, payload format 1.0, as a Lambda proxy integration gets it.

    `path` may bring a query along (`/items?id=1`). A value of `query` or `headers` may be a list, for what is repeated.
    `body` is sent as it is if it is a str, as base64 if it is bytes, and as JSON otherwise. `resource` is the path with
    its parameters' names, by default the path itself; `authorizer` is what an authorizer has added to the request
    context. Header names keep their case, and what is not there is None.
    """
    now = _time(time)
    path, pairs = _split_query(method, path, query)
    content, encoded, kind = _body(body)
    sent: dict[str, list[str]] = {
        "Host": [f"{_API}.execute-api.{_REGION}.amazonaws.com"],
        "User-Agent": [_AGENT],
        "X-Amzn-Trace-Id": [_trace_id(now)],
        "X-Forwarded-For": [source_ip],
        "X-Forwarded-Port": ["443"],
        "X-Forwarded-Proto": ["https"],
    }
    if kind is not None:
        sent["Content-Type"] = [kind]
    if cookies:
        sent["Cookie"] = ["; ".join(f"{name}={value}" for name, value in cookies.items())]
    for name, value in (headers or {}).items():
        for other in [other for other in sent if other.lower() == name.lower()]:
            del sent[other]
        sent[name] = _values(value)
    repeated = _grouped(pairs)
    agent = next((values[-1] for name, values in sent.items() if name.lower() == "user-agent"), None)
    event: Event = {
        "resource": path if resource is None else resource,
        "path": path,
        "httpMethod": method,
        "headers": {name: values[-1] for name, values in sent.items()},
        "multiValueHeaders": sent,
        "queryStringParameters": {name: values[-1] for name, values in repeated.items()} or None,
        "multiValueQueryStringParameters": repeated or None,
        "pathParameters": _or_none(path_parameters),
        "stageVariables": _or_none(stage_variables),
        "requestContext": {
            "accountId": _ACCOUNT,
            "apiId": _API,
            **({} if authorizer is None else {"authorizer": dict(authorizer)}),
            "domainName": f"{_API}.execute-api.{_REGION}.amazonaws.com",
            "domainPrefix": _API,
            "extendedRequestId": _token(16),
            "httpMethod": method,
            "identity": {
                "accessKey": None,
                "accountId": None,
                "caller": None,
                "cognitoAuthenticationProvider": None,
                "cognitoAuthenticationType": None,
                "cognitoIdentityId": None,
                "cognitoIdentityPoolId": None,
                "sourceIp": source_ip,
                "user": None,
                "userAgent": agent,
                "userArn": None,
            },
            "path": f"/{stage}{path}",
            "protocol": "HTTP/1.1",
            "requestId": str(uuid4()),
            "requestTime": _common_log_time(now),
            "requestTimeEpoch": _milliseconds(now),
            "resourceId": "r1s2t3",
            "resourcePath": path if resource is None else resource,
            "stage": stage,
        },
        "body": content,
        "isBase64Encoded": encoded,
    }
    return _overridden(event, overrides)


def api_gateway_v2(
    method: str = "GET",
    path: str = "/",
    *,
    headers: Headers | None = None,
    query: Query | None = None,
    cookies: Cookies | None = None,
    body: object = None,
    path_parameters: Mapping[str, str] | None = None,
    route_key: str = "$default",
    stage: str = "$default",
    stage_variables: Mapping[str, str] | None = None,
    authorizer: Mapping[str, Any] | None = None,
    source_ip: str = _SOURCE_IP,
    time: datetime | None = None,
    overrides: Overrides | None = None,
) -> Event:
    """Return a request to an API Gateway HTTP API, payload format 2.0.

    Arguments are those of `api_gateway_v1`. `route_key` is the route that matched, for example `GET /items/{id}`;
    `authorizer` is for example `{"jwt": {"claims": {...}, "scopes": [...]}}`. Header names are in lower case, repeated
    values are joined with commas, cookies are not among the headers, and what is not there is absent. A body whose
    content type is no text, such as a form's, is base64.
    """
    domain = f"{_API}.execute-api.{_REGION}.amazonaws.com"
    event = _http_v2(method, path, headers, query, cookies, body, source_ip, time, _API, domain, stage)
    event["routeKey"] = event["requestContext"]["routeKey"] = route_key
    event["headers"].pop("cookie", None)
    if path_parameters:
        event["pathParameters"] = dict(path_parameters)
    if stage_variables:
        event["stageVariables"] = dict(stage_variables)
    if authorizer is not None:
        event["requestContext"]["authorizer"] = dict(authorizer)
    return _overridden(event, overrides)


def function_url(
    method: str = "GET",
    path: str = "/",
    *,
    headers: Headers | None = None,
    query: Query | None = None,
    cookies: Cookies | None = None,
    body: object = None,
    iam: bool = False,
    source_ip: str = _SOURCE_IP,
    time: datetime | None = None,
    overrides: Overrides | None = None,
) -> Event:
    """Return a request to a function URL, payload format 2.0.

    Arguments are those of `api_gateway_v1`. With `iam` it was authorised by AWS_IAM, and the request context says who
    called; otherwise the account is `anonymous`. Otherwise as `api_gateway_v2`, but cookies are among the headers, too.
    """
    domain = f"{_URL}.lambda-url.{_REGION}.on.aws"
    event = _http_v2(method, path, headers, query, cookies, body, source_ip, time, _URL, domain, "$default")
    context = event["requestContext"]
    if iam:
        context["authorizer"] = {
            "iam": {
                "accessKey": "AKIAIOSFODNN7EXAMPLE",
                "accountId": _ACCOUNT,
                "callerId": "AIDACKCEVSQ6C2EXAMPLE",
                "cognitoIdentity": None,
                "principalOrgId": None,
                "userArn": f"arn:aws:iam::{_ACCOUNT}:user/caller",
                "userId": "AIDACKCEVSQ6C2EXAMPLE",
            }
        }
    else:
        context["accountId"] = "anonymous"
    return _overridden(event, overrides)


def _http_v2(
    method: str,
    path: str,
    headers: Headers | None,
    query: Query | None,
    cookies: Cookies | None,
    body: object,
    source_ip: str,
    time: datetime | None,
    api: str,
    domain: str,
    stage: str,
) -> Event:
    now = _time(time)
    path, pairs = _split_query(method, path, query)
    if stage != "$default":
        path = f"/{stage}{path}"
    given = {name.lower(): ",".join(_values(value)) for name, value in (headers or {}).items()}
    content, encoded, kind = _body(body, given.get("content-type"))
    sent = {
        "host": domain,
        "user-agent": _AGENT,
        "x-amzn-trace-id": _trace_id(now),
        "x-forwarded-for": source_ip,
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
        **({} if kind is None else {"content-type": kind}),
    }
    jar = [f"{name}={value}" for name, value in (cookies or {}).items()]
    if jar:
        sent["cookie"] = "; ".join(jar)
    sent.update(given)
    event: Event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": quote(unquote(path), safe="/:@!$&'()*+,;=~-._"),
        "rawQueryString": urlencode(pairs),
        "headers": sent,
        "requestContext": {
            "accountId": _ACCOUNT,
            "apiId": api,
            "domainName": domain,
            "domainPrefix": api,
            "http": {
                "method": method,
                "path": unquote(path),
                "protocol": "HTTP/1.1",
                "sourceIp": source_ip,
                "userAgent": sent["user-agent"],
            },
            "requestId": str(uuid4()),
            "routeKey": "$default",
            "stage": stage,
            "time": _common_log_time(now),
            "timeEpoch": _milliseconds(now),
        },
        "isBase64Encoded": encoded,
    }
    if "cookie" in sent:
        event["cookies"] = sent["cookie"].split("; ")
    if pairs:
        event["queryStringParameters"] = {name: ",".join(values) for name, values in _grouped(pairs).items()}
    if content is not None:
        event["body"] = content
    return event


def _split_query(method: str, path: str, query: Query | None) -> tuple[str, list[tuple[str, str]]]:
    if "/" in method:
        raise ValueError(f"the method comes first, and {method!r} is none")
    path, _, text = path.partition("?")
    pairs = parse_qsl(text, keep_blank_values=True)
    for name, value in (query or {}).items():
        pairs += [(name, one) for one in _values(value)]
    return path if path.startswith("/") else f"/{path}", pairs


def _grouped(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, value in pairs:
        groups.setdefault(name, []).append(value)
    return groups


def _values(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _body(body: object, content_type: str | None = "text/plain") -> tuple[str | None, bool, str | None]:
    """Return a body as it is sent, whether that is base64, and the content type that it has by itself."""
    if body is None:
        return None, False, None
    if isinstance(body, (bytes, bytearray)):
        return base64.b64encode(body).decode(), True, "application/octet-stream"
    text, kind = (body, "text/plain") if isinstance(body, str) else (_json(body), "application/json")
    if not _is_text(kind if content_type is None else content_type):
        return base64.b64encode(text.encode()).decode(), True, kind
    return text, False, kind


def _is_text(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    main, _, sub = kind.partition("/")
    return main == "text" or sub in ("json", "xml", "javascript") or sub.endswith(("+json", "+xml"))


# ---- queues, topics, buckets, buses ----------------------------------------------------------------------------------


def sqs(
    *bodies: object,
    queue: str = "queue",
    message_attributes: Mapping[str, str | int | float | bytes] | None = None,
    group_id: str | None = None,
    time: datetime | None = None,
    overrides: Overrides | None = None,
) -> Event:
    """Return a batch of SQS messages, one for each of `bodies`: a str as it is, anything else as JSON.

    All have `message_attributes`: a str is a String, a number a Number, bytes are Binary. With `group_id` they come
    from a FIFO queue, whose name is given its `.fifo`.

    Raises `ValueError` without a body: a batch is never empty.
    """
    _not_empty(bodies, "message")
    now = _milliseconds(_time(time))
    if group_id is not None and not queue.endswith(".fifo"):
        queue = f"{queue}.fifo"
    records = []
    for number, body in enumerate(bodies):
        text = body if isinstance(body, str) else _json(body)
        attributes = {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": str(now),
            "SenderId": "AIDACKCEVSQ6C2EXAMPLE",
            "ApproximateFirstReceiveTimestamp": str(now + 1),
        }
        if group_id is not None:
            attributes["SequenceNumber"] = str(18_849_496_460_467_696_128 + number)
            attributes["MessageGroupId"] = group_id
            attributes["MessageDeduplicationId"] = hashlib.sha256(text.encode()).hexdigest()
        typed = {name: _sqs_attribute(value) for name, value in (message_attributes or {}).items()}
        records.append(
            {
                "messageId": str(uuid4()),
                "receiptHandle": f"AQEB{_token(64)}",
                "body": text,
                "attributes": attributes,
                "messageAttributes": typed,
                "md5OfBody": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
                "md5OfMessageAttributes": _md5_of_attributes(typed) if typed else None,
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:{_REGION}:{_ACCOUNT}:{queue}",
                "awsRegion": _REGION,
            }
        )
    return _overridden({"Records": records}, overrides)


def _sqs_attribute(value: str | int | float | bytes) -> dict[str, Any]:
    typed: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    if isinstance(value, bytes):
        return {"binaryValue": base64.b64encode(value).decode(), **typed, "dataType": "Binary"}
    kind = "String" if isinstance(value, str) else "Number"
    return {"stringValue": str(value), **typed, "dataType": kind}


def _md5_of_attributes(attributes: Mapping[str, dict[str, Any]]) -> str:
    """Return the digest by SQS's rule: names in order, each with its type and value, each of those with its length."""
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        attribute = attributes[name]
        is_binary = attribute["dataType"] == "Binary"
        value = base64.b64decode(attribute["binaryValue"]) if is_binary else attribute["stringValue"].encode()
        for part in (name.encode(), attribute["dataType"].encode()):
            digest.update(struct.pack(">I", len(part)) + part)
        digest.update((b"\2" if is_binary else b"\1") + struct.pack(">I", len(value)) + value)
    return digest.hexdigest()


def sns(
    message: object = "message",
    *,
    topic: str = "topic",
    subject: str | None = None,
    message_attributes: Mapping[str, str | int | float | bytes] | None = None,
    time: datetime | None = None,
    overrides: Overrides | None = None,
) -> Event:
    """Return a notification of an SNS topic: `message` as it is if it is a str, as JSON otherwise.

    There is always one record. Attributes are as with `sqs`, in SNS's own form.
    """
    arn = f"arn:aws:sns:{_REGION}:{_ACCOUNT}:{topic}"
    host = f"https://sns.{_REGION}.amazonaws.com"
    subscription = f"{arn}:{uuid4()}"
    record = {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": subscription,
        "Sns": {
            "Type": "Notification",
            "MessageId": str(uuid4()),
            "TopicArn": arn,
            "Subject": subject,
            "Message": message if isinstance(message, str) else _json(message),
            "Timestamp": _iso_time(_time(time)),
            "SignatureVersion": "1",
            "Signature": base64.b64encode(_token(32).encode()).decode(),
            "SigningCertUrl": f"{host}/SimpleNotificationService-{_token(8)}.pem",
            "UnsubscribeUrl": f"{host}/?Action=Unsubscribe&SubscriptionArn={subscription}",
            "MessageAttributes": {
                name: _sns_attribute(value) for name, value in (message_attributes or {}).items()
            },
        },
    }
    return _overridden({"Records": [record]}, overrides)


def _sns_attribute(value: str | int | float | bytes) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"Type": "Binary", "Value": base64.b64encode(value).decode()}
    return {"Type": "String" if isinstance(value, str) else "Number", "Value": str(value)}


def s3(
    *keys: str,
    bucket: str = "bucket",
    event_name: str = "ObjectCreated:Put",
    size: int = 1024,
    etag: str = "d41d8cd98f00b204e9800998ecf8427e",
    time: datetime | None = None,
    overrides: Overrides | None = None,
) -> Event:
    """Return what S3 tells of objects, one record for each of `keys`, which are as they are in the bucket.

    In the event they are encoded as forms are, a blank as `+`: that is what a function has to undo. `event_name` is
    without `s3:`. An object that was removed has neither size nor etag.

    Raises `ValueError` without a key.
    """
    _not_empty(keys, "key")
    now = _iso_time(_time(time))
    records = []
    for number, key in enumerate(keys):
        entry: dict[str, Any] = {"key": quote_plus(key, safe="/")}
        if not event_name.startswith("ObjectRemoved"):
            entry |= {"size": size, "eTag": etag}
        entry["sequencer"] = f"0A1B2C3D4E5F{number:06X}"
        records.append(
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": _REGION,
                "eventTime": now,
                "eventName": event_name,
                "userIdentity": {"principalId": "AWS:AIDACKCEVSQ6C2EXAMPLE"},
                "requestParameters": {"sourceIPAddress": _SOURCE_IP},
                "responseElements": {"x-amz-request-id": _token(8).upper(), "x-amz-id-2": _token(38)},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "configuration",
                    "bucket": {
                        "name": bucket,
                        "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                        "arn": f"arn:aws:s3:::{bucket}",
                    },
                    "object": entry,
                },
            }
        )
    return _overridden({"Records": records}, overrides)


def eventbridge(
    detail: Mapping[str, Any] | None = None,
    *,
    detail_type: str = "Scheduled Event",
    source: str = "aws.events",
    resources: Sequence[str] | None = None,
    time: datetime | None = None,
    overrides: Overrides | None = None,
) -> Event:
    """Return an event of an EventBridge bus; without arguments, one of a schedule.

    `resources` are ARNs: by default those of a rule for a scheduled event, and none otherwise.
    """
    if resources is None:
        is_scheduled = detail_type == "Scheduled Event"
        resources = [f"arn:aws:events:{_REGION}:{_ACCOUNT}:rule/rule"] if is_scheduled else []
    event: Event = {
        "version": "0",
        "id": str(uuid4()),
        "detail-type": detail_type,
        "source": source,
        "account": _ACCOUNT,
        "time": f"{_time(time):%Y-%m-%dT%H:%M:%SZ}",
        "region": _REGION,
        "resources": list(resources),
        "detail": dict(detail or {}),
    }
    return _overridden(event, overrides)


# ---- streams ---------------------------------------------------------------------------------------------------------

Item = Mapping[str, Any]


def dynamodb_stream(
    *changes: Item | tuple[Item | None, Item | None],
    table: str = "table",
    keys: Sequence[str] = ("id",),
    view: str = "NEW_AND_OLD_IMAGES",
    time: datetime | None = None,
    overrides: Overrides | None = None,
) -> Event:
    """Return a batch of a DynamoDB table's stream, one record for each change.

    A change is an item, which was inserted, or a pair of the item before and after: `(None, new)` inserted,
    `(old, new)` modified, `(old, None)` removed. Items have plain Python values, which get DynamoDB's types: str,
    int, float, Decimal, bool, None, bytes, list, dict, and sets of one kind. `keys` are the names of the table's key
    attributes. `view` is the stream's view type and decides which images are there.

    Raises `ValueError` without a change, for one without both items, and for a key that is not in the item;
    `TypeError` for a value that DynamoDB has no type for.
    """
    _not_empty(changes, "change")
    now = _time(time)
    records = []
    for number, change in enumerate(changes):
        old, new = change if isinstance(change, tuple) else (None, change)
        item = new if new is not None else old
        if item is None:
            raise ValueError("a change needs an item, before or after")
        missing = [name for name in keys if name not in item]
        if missing:
            raise ValueError(
                f"the key {missing[0]!r} is not in the item {dict(item)!r}: name the table's keys with keys=…"
            )
        images: dict[str, Any] = {"Keys": {name: _attribute(item[name]) for name in keys}}
        if new is not None and view in ("NEW_IMAGE", "NEW_AND_OLD_IMAGES"):
            images["NewImage"] = {name: _attribute(value) for name, value in new.items()}
        if old is not None and view in ("OLD_IMAGE", "NEW_AND_OLD_IMAGES"):
            images["OldImage"] = {name: _attribute(value) for name, value in old.items()}
        records.append(
            {
                "eventID": uuid4().hex,
                "eventName": "INSERT" if old is None else "REMOVE" if new is None else "MODIFY",
                "eventVersion": "1.1",
                "eventSource": "aws:dynamodb",
                "awsRegion": _REGION,
                "dynamodb": {
                    "ApproximateCreationDateTime": float(int(now.timestamp())),
                    **images,
                    "SequenceNumber": str(4_421_584_500_000_000_017_450_439_091 + number),
                    "SizeBytes": len(_json(images)),
                    "StreamViewType": view,
                },
                "eventSourceARN": f"arn:aws:dynamodb:{_REGION}:{_ACCOUNT}:table/{table}/stream/2026-01-01T00:00:00.000",
            }
        )
    return _overridden({"Records": records}, overrides)


def _attribute(value: object) -> dict[str, Any]:
    """Return a value in DynamoDB's JSON."""
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, (int, float, Decimal)):
        return {"N": str(value)}
    if isinstance(value, (bytes, bytearray)):
        return {"B": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {"M": {str(name): _attribute(member) for name, member in value.items()}}
    if isinstance(value, Set):
        members = [_attribute(member) for member in value]
        kinds = {kind for member in members for kind in member}
        if len(kinds) != 1 or not kinds <= {"S", "N", "B"}:
            raise TypeError(
                f"DynamoDB has no type for the set {value!r}: its members must all be str, numbers or bytes"
            )
        (kind,) = kinds
        return {f"{kind}S": sorted(member[kind] for member in members)}
    if isinstance(value, Sequence):
        return {"L": [_attribute(member) for member in value]}
    raise TypeError(f"DynamoDB has no type for {value!r}")


def kinesis_stream(
    *data: object,
    stream: str = "stream",
    partition_key: str = "partition-key",
    time: datetime | None = None,
    overrides: Overrides | None = None,
) -> Event:
    """Return a batch of a Kinesis stream, one record for each of `data`: bytes and str as they are, others as JSON.

    In the event they are base64.

    Raises `ValueError` without data.
    """
    _not_empty(data, "record's data")
    now = _time(time)
    records = []
    for number, item in enumerate(data):
        content = bytes(item) if isinstance(item, (bytes, bytearray)) else _text(item).encode()
        sequence_number = str(
            49_545_115_243_490_985_018_280_067_714_973_144_582_180_062_593_244_200_961 + number
        )
        records.append(
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": partition_key,
                    "sequenceNumber": sequence_number,
                    "data": base64.b64encode(content).decode(),
                    "approximateArrivalTimestamp": _milliseconds(now) / 1000,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"shardId-000000000000:{sequence_number}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": f"arn:aws:iam::{_ACCOUNT}:role/role",
                "awsRegion": _REGION,
                "eventSourceARN": f"arn:aws:kinesis:{_REGION}:{_ACCOUNT}:stream/{stream}",
            }
        )
    return _overridden({"Records": records}, overrides)


# ---- what they share -------------------------------------------------------------------------------------------------


def _not_empty(items: Sequence[object], what: str) -> None:
    if not items:
        raise ValueError(f"a batch has at least one record: give a {what}")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else _json(value)


def _or_none(values: Mapping[str, str] | None) -> dict[str, str] | None:
    return dict(values) if values else None


def _token(length: int) -> str:
    """Return so many bytes' worth of hex digits that are new."""
    return (uuid4().hex * (length // 16 + 1))[: 2 * length]


def _trace_id(time: datetime) -> str:
    return f"Root=1-{int(time.timestamp()):08x}-{uuid4().hex[:24]}"


def _time(time: datetime | None) -> datetime:
    # A time without a zone is taken for UTC, as everywhere in Lambda.
    if time is None:
        return datetime.now(timezone.utc)
    return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _iso_time(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z"


_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def _common_log_time(time: datetime) -> str:
    # Not %b, which speaks the language of the machine.
    return f"{time:%d}/{_MONTHS[time.month - 1]}/{time:%Y:%H:%M:%S} +0000"


def _overridden(event: Event, overrides: Overrides | None) -> Event:
    result: Event = _merged(event, {} if overrides is None else overrides, "the event")
    return result


def _merged(value: Any, override: Any, place: str) -> Any:
    if not isinstance(override, Mapping):
        return override
    if isinstance(value, list) and override and all(isinstance(index, int) for index in override):
        items = list(value)
        for index, change in override.items():
            if not -len(items) <= index < len(items):
                raise ValueError(f"overrides: {place} has no place {index}, it has {len(items)}")
            items[index] = _merged(items[index], change, f"{place}[{index}]")
        return items
    merged = dict(value) if isinstance(value, Mapping) else {}
    for name, change in override.items():
        if isinstance(change, _Remove):
            if name not in merged:
                raise ValueError(f"overrides: there is no {name!r} to remove in {place}")
            del merged[name]
        else:
            merged[name] = _merged(merged.get(name), change, f"{place}[{name!r}]")
    return merged
