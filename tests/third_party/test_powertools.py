"""AWS's Powertools for Lambda: one function that uses them all, and what each of them made of its invocations."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.scripted_run import invoke
from tests.runtimes import COMMANDS
from tests.scripted_api import event
from tests.third_party.sink import HttpSink

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.scripted_run import Run
    from tests.third_party.sink import Received

SOURCE = """
    from aws_lambda_powertools import Logger, Metrics, Tracer
    from aws_lambda_powertools.event_handler import APIGatewayRestResolver
    from aws_lambda_powertools.event_handler.exceptions import NotFoundError
    from aws_lambda_powertools.metrics import MetricUnit
    from aws_lambda_powertools.utilities import parameters
    from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
    from aws_lambda_powertools.utilities.typing import LambdaContext

    logger = Logger(service="shop")
    tracer = Tracer(service="shop")
    metrics = Metrics(namespace="Shop", service="shop")
    processor = BatchProcessor(event_type=EventType.SQS)
    app = APIGatewayRestResolver()

    @app.get("/orders/<order_id>")
    def get_order(order_id: str):
        if order_id == "0":
            raise NotFoundError("no such order")
        logger.append_keys(order_id=order_id)
        logger.info("order read")
        return {"order_id": order_id, "request": app.lambda_context.aws_request_id}

    def record_handler(record):
        if record.body == "bad":
            raise ValueError("bad record")

    @tracer.capture_method
    def pay(amount):
        metrics.add_metric(name="Paid", unit=MetricUnit.Count, value=amount)
        if amount < 0:
            raise ValueError("negative amount")
        return amount

    @logger.inject_lambda_context(clear_state=True)
    @tracer.capture_lambda_handler
    @metrics.log_metrics(capture_cold_start_metric=True)
    def handler(event, context: LambdaContext):
        if "httpMethod" in event:
            return app.resolve(event, context)
        if "Records" in event:
            return process_partial_response(event, record_handler, processor, context)
        if "parameter" in event:
            return parameters.get_parameter(event["parameter"])
        return pay(event["amount"])
"""

REST_EVENT = {
    "httpMethod": "GET",
    "resource": "/orders/{order_id}",
    "headers": {},
    "multiValueHeaders": {},
    "queryStringParameters": None,
    "multiValueQueryStringParameters": None,
    "pathParameters": {"order_id": "7"},
    "requestContext": {"stage": "prod", "path": "/orders/7", "resourcePath": "/orders/{order_id}"},
    "body": None,
    "isBase64Encoded": False,
}
RECORDS = {
    "Records": [
        {"messageId": "m-1", "body": "good", "eventSource": "aws:sqs"},
        {"messageId": "m-2", "body": "bad", "eventSource": "aws:sqs"},
    ]
}
EVENTS = [
    {"amount": 5},
    {"amount": -1},
    {**REST_EVENT, "path": "/orders/7"},
    {**REST_EVENT, "path": "/orders/0"},
    RECORDS,
    {"parameter": "/shop/name"},
]
ROOT = "1-5759e988-bd862e3fe1be46a99427279{}"
PARENT = "53995c3f42cd8ad{}"
TRACE = f"Root={ROOT};Parent={PARENT};Sampled=1"


@dataclass
class Observed:
    """What the function did, and what came where X-Ray and SSM would be."""

    run: Run
    segments: list[Any]
    parameter_requests: list[Received]

    def lines(self, key: str) -> list[Any]:
        """Those JSON lines of standard output that have the key."""
        lines = [json.loads(line) for line in self.run.stdout.splitlines() if line.startswith("{")]
        return [line for line in lines if key in line]


def answer_like_ssm(received: Received) -> bytes:
    name = json.loads(received.body)["Name"]
    return json.dumps({"Parameter": {"Name": name, "Type": "String", "Value": "Blue Shop"}}).encode()


def received_segments(daemon: socket.socket) -> list[Any]:
    """What is in the socket's buffer: datagrams are there when the function has answered."""
    segments: list[Any] = []
    daemon.setblocking(False)
    while True:
        try:
            head, _, segment = daemon.recv(65536).partition(b"\n")
        except BlockingIOError:
            return segments
        assert json.loads(head) == {"format": "json", "version": 1}
        segments.append(json.loads(segment))


@pytest.fixture(scope="module", params=COMMANDS)
def observed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    folder: Path = tmp_path_factory.mktemp("task")
    (folder / "app.py").write_text(dedent(SOURCE))
    events = [
        event(payload, f"id-{number}", Lambda_Runtime_Trace_Id=TRACE.format(number, number))
        for number, payload in enumerate(EVENTS, 1)
    ]
    with HttpSink(answer_like_ssm) as ssm, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        run = invoke(
            request.param,
            folder,
            *events,
            AWS_LAMBDA_FUNCTION_NAME="test_function",
            AWS_LAMBDA_FUNCTION_MEMORY_SIZE="128",
            AWS_LAMBDA_FUNCTION_VERSION="$LATEST",
            AWS_REGION="us-east-1",
            AWS_DEFAULT_REGION="us-east-1",
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_ENDPOINT_URL_SSM=f"http://{ssm.address}",
            AWS_XRAY_DAEMON_ADDRESS=f"127.0.0.1:{daemon.getsockname()[1]}",
            LAMBDA_TASK_ROOT=str(folder),
        )
        return Observed(run, received_segments(daemon), ssm.received)


def test_results_and_errors_come_through_the_decorators(observed: Observed) -> None:
    paid, refused, *_ = observed.run.results
    assert paid == 5
    assert (refused["errorType"], refused["errorMessage"]) == ("ValueError", "negative amount")
    assert "in pay" in refused["stackTrace"][-1]
    assert observed.run.stdout.count("[ERROR] ValueError: negative amount") == 1
    assert "Traceback" not in observed.run.stderr


def test_the_event_handler_routes_requests(observed: Observed) -> None:
    found, missing = observed.run.results[2:4]
    assert found["statusCode"] == 200
    assert json.loads(found["body"]) == {"order_id": "7", "request": "id-3"}
    assert (missing["statusCode"], json.loads(missing["body"])["message"]) == (404, "no such order")


def test_the_logger_writes_json_lines_with_what_the_context_says(observed: Observed) -> None:
    (line,) = observed.lines("order_id")
    assert {name: line[name] for name in ("level", "message", "service", "order_id", "cold_start")} == {
        "level": "INFO",
        "message": "order read",
        "service": "shop",
        "order_id": "7",
        "cold_start": False,
    }
    assert line["function_request_id"] == "id-3"
    assert line["function_name"] == "test_function"
    assert line["function_memory_size"] == "128"
    assert line["function_arn"] == "arn:aws:lambda:us-east-1:012345678912:function:test_function"
    assert line["xray_trace_id"] == ROOT.format(3)


def test_metrics_are_written_when_the_handler_returns_or_raises(observed: Observed) -> None:
    metrics = observed.lines("_aws")
    assert [line.get("Paid", line.get("ColdStart")) for line in metrics[:3]] == [[1.0], [5.0], [-1.0]]
    assert metrics[0]["function_name"] == "test_function"
    assert metrics[1]["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Shop"


def test_the_tracer_sends_subsegments_of_the_invocations_trace(observed: Observed) -> None:
    handlers = [segment for segment in observed.segments if segment["name"] == "## handler"]
    traces = [(segment["trace_id"], segment["parent_id"]) for segment in handlers]
    assert traces == [(ROOT.format(n), PARENT.format(n)) for n in range(1, 7)]
    assert [segment["annotations"]["ColdStart"] for segment in handlers] == [True] + [False] * 5
    methods = [segment for segment in observed.segments if segment["name"] == "## app.pay"]
    assert [method["parent_id"] for method in methods] == [handler["id"] for handler in handlers[:2]]
    (exception,) = methods[1]["cause"]["exceptions"]
    assert (exception["type"], exception["message"]) == ("ValueError", "negative amount")


def test_a_batch_reports_the_records_that_failed(observed: Observed) -> None:
    assert observed.run.results[4] == {"batchItemFailures": [{"itemIdentifier": "m-2"}]}


def test_parameters_are_fetched_with_boto3(observed: Observed) -> None:
    assert observed.run.results[5] == "Blue Shop"
    (request,) = observed.parameter_requests
    assert request.headers["x-amz-target"] == "AmazonSSM.GetParameter"
