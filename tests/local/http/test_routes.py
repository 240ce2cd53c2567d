from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from caloric.local.http import model
from caloric.local.http.routes import Routes
from tests.local.http.server import Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caloric.local.service.operations import Members
    from caloric.local.service.service import LambdaService

MODEL = model.load()
ROUTES = Routes(MODEL.operations.values())
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:orders:$LATEST"


def get_function(_service: LambdaService, request: Members) -> Members:
    return {"Tags": {name: str(value) for name, value in request.items()}}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving({"GetFunction": get_function}) as server:
        yield server


@pytest.mark.parametrize("end", ["", "/"])
@pytest.mark.parametrize("name", sorted(MODEL.operations))
def test_each_operation_is_at_its_uri(name: str, end: str) -> None:
    operation = MODEL.operations[name]
    path, _, query = operation.uri.partition("?")
    values = {member: f"a/b:$ü%2F {member}" for member in re.findall(r"\{(\w+)\}", path)}
    path = re.sub(r"\{(\w+)\}", lambda member: quote(values[member[1]], safe=""), path) + end
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    match = ROUTES.match(operation.method, path, [(key, value) for key, _, value in pairs])
    assert match is not None
    assert (match.operation.name, match.path_members) == (name, values)


def test_uris_are_made_of_literals_and_members_only() -> None:
    for operation in MODEL.operations.values():
        for segment in operation.uri.partition("?")[0].split("/"):
            assert re.fullmatch(r"\{\w+\}|[\w-]*|[\d-]+", segment), operation.uri


@pytest.mark.parametrize("name", sorted(MODEL.operations))
def test_an_operation_that_is_not_offered_is_named(name: str, server: Server) -> None:
    if name == "GetFunction":
        return
    operation = MODEL.operations[name]
    reply = server.request(operation.method, re.sub(r"\{\w+\}", "x", operation.uri))
    assert reply.status == 501
    assert reply.headers["x-amzn-ErrorType"] == "NotImplementedException"
    assert reply.document["message"].startswith(f"{name} is an operation of AWS Lambda")


@pytest.mark.parametrize(
    "path",
    [
        f"/2015-03-31/functions/{ARN}",
        f"/2015-03-31/functions/{quote(ARN, safe='')}",
        f"/2015-03-31/functions/{quote(ARN, safe='$')}/",
    ],
)
def test_a_function_arn_may_be_encoded_or_not(path: str, server: Server) -> None:
    reply = server.request("GET", path)
    assert (reply.status, reply.document) == (200, {"Tags": {"FunctionName": ARN}})


@pytest.mark.parametrize(
    ("query", "qualifier"),
    [
        ("?Qualifier=$LATEST", "$LATEST"),
        ("?Qualifier=%24LATEST", "$LATEST"),
        ("?a=b&Qualifier=live&c", "live"),
    ],
)
def test_members_come_from_the_query(query: str, qualifier: str, server: Server) -> None:
    reply = server.request("GET", f"/2015-03-31/functions/orders{query}")
    assert reply.document["Tags"] == {"FunctionName": "orders", "Qualifier": qualifier}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/2015-03-31"),
        ("GET", "/2015-03-31/functions/"),
        ("GET", "/2015-03-31/functions//configuration"),
        ("GET", "/2015-03-30/functions/orders"),
        ("GET", "/2015-03-31/functions/orders/%2e%2e/x%0Ay"),
        ("PATCH", "/2015-03-31/functions/orders"),
        ("OPTIONS", "/2015-03-31/functions"),
    ],
)
def test_what_the_model_does_not_have_is_unknown(method: str, path: str, server: Server) -> None:
    if path == "/2015-03-31/functions/":
        # Older models write ListFunctions so.
        assert server.request(method, path).status == 501
        return
    reply = server.request(method, path)
    assert reply.status == 404
    assert reply.headers["x-amzn-ErrorType"] == "UnknownOperationException"
    assert f"{method} {path}" in reply.document["message"]


def test_a_query_tells_operations_of_one_path_apart() -> None:
    def name(path: str, *query: tuple[str, str]) -> Any:
        match = ROUTES.match("GET", path, list(query))
        return match and match.operation.name

    assert name("/2018-10-31/layers") == "ListLayers"
    assert name("/2018-10-31/layers", ("find", "LayerVersion"), ("Arn", "x")) == "GetLayerVersionByArn"
    assert name("/2018-10-31/layers", ("find", "Other")) == "ListLayers"
    path = "/2019-09-30/functions/orders/provisioned-concurrency"
    assert name(path, ("Qualifier", "1")) == "GetProvisionedConcurrencyConfig"
    assert name(path, ("Marker", "x"), ("List", "ALL")) == "ListProvisionedConcurrencyConfigs"


def test_slashes_at_the_end_of_older_models_make_no_difference() -> None:
    older = json.loads(
        '{"shapes": {}, "operations": {'
        '"ListFunctions": {"http": {"method": "GET", "requestUri": "/2015-03-31/functions/"}},'
        '"GetAccountSettings": {"http": {"method": "GET", "requestUri": "/2016-08-19/account-settings/"}}}}'
    )
    routes = Routes(model.Model(older).operations.values())
    for path in ("/2015-03-31/functions", "/2015-03-31/functions/"):
        match = routes.match("GET", path, [])
        assert match is not None
        assert match.operation.name == "ListFunctions"
