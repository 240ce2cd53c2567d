"""Datadog's library for Lambda: its wrapper, metrics in the log, and traces of the invocations."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.scripted_run import PEER, invoke
from tests.runtimes import COMMANDS
from tests.scripted_api import event

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteFunction
    from tests.integration.scripted_run import Run

HANDLER = """
    import logging
    from datadog_lambda.metric import lambda_metric
    from ddtrace.trace import tracer

    def handler(event, context):
        lambda_metric("orders", 3, tags=["shop:blue"])
        logging.warning("careful")
        if event == "raise":
            raise ValueError("boom")
        return [event, tracer.current_span().get_tag("request_id")]
"""
DECORATED = """
    from datadog_lambda.wrapper import datadog_lambda_wrapper

    handler = datadog_lambda_wrapper(handler)
"""

EVENTS = [event("one", "id-1"), event("raise", "id-2"), event({"a": [None, 1.5]}, "id-3")]

# Without an agent to send to, metrics and traces are written to standard output, for Datadog's forwarder.
VARIABLES = {
    "AWS_LAMBDA_FUNCTION_NAME": "test_function",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_REGION": "us-east-1",
    "DD_FLUSH_TO_LOG": "true",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
}

# Of each process or run.
NOT_COMPARED = {"runtime-id", "_dd.p.tid", "_dd.tags.process"}


def run_wrapped(way: str, folder: Path, setup: str) -> Run:
    if setup == "handler":
        return invoke(
            way,
            folder,
            *EVENTS,
            handler="datadog_lambda.handler.handler",
            DD_LAMBDA_HANDLER="app.handler",
            **VARIABLES,
        )
    return invoke(way, folder, *EVENTS, **VARIABLES)


def documents(run: Run, key: str) -> list[Any]:
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    return [line for line in lines if key in line]


def invocation_spans(run: Run) -> list[Any]:
    spans = [span for document in documents(run, "traces") for trace in document["traces"] for span in trace]
    return [
        {
            **{name: span[name] for name in ("service", "resource", "type", "error")},
            "meta": {name: value for name, value in span["meta"].items() if name not in NOT_COMPARED},
        }
        for span in spans
        if span["name"] == "aws.lambda"
    ]


def other_lines(run: Run) -> list[str]:
    text = re.sub(r"dd\.(trace|span)_id=[0-9a-f]+", r"dd.\1_id=<id>", run.stdout)
    # It has a log format of its own, whose milliseconds are one to three digits.
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]{8}(\.\d+)?Z", "<time>", text)
    return [line for line in text.splitlines() if not line.startswith("{")]


@pytest.mark.parametrize("setup", ["handler", "decorator"])
@pytest.mark.parametrize("way", COMMANDS)
def test_the_wrapper_passes_results_and_errors_and_measures_each_invocation(
    way: str, setup: str, write_function: WriteFunction
) -> None:
    run = run_wrapped(way, write_function(HANDLER + DECORATED * (setup == "decorator")), setup)
    assert run.results[0] == ["one", "id-1"]
    assert run.results[2] == [{"a": [None, 1.5]}, "id-3"]
    error = run.results[1]
    assert (error["errorType"], error["errorMessage"], error["requestId"]) == ("ValueError", "boom", "id-2")

    metrics = documents(run, "m")
    by_name = [(metric["m"].removeprefix("aws.lambda.enhanced."), metric["v"]) for metric in metrics]
    assert by_name == [
        *[("invocations", 1), ("orders", 3)] * 2,
        ("errors", 1),
        *[("invocations", 1), ("orders", 3)],
    ]
    cold = [[tag for tag in metric["t"] if tag.startswith("cold_start:")] for metric in metrics]
    warm = ["cold_start:false"]
    assert cold == [["cold_start:true"], [], warm, [], warm, warm, []]

    spans = invocation_spans(run)
    assert [(span["meta"]["request_id"], span["meta"]["cold_start"], span["error"]) for span in spans] == [
        ("id-1", "true", 0),
        ("id-2", "false", 1),
        ("id-3", "false", 0),
    ]
    assert spans[1]["meta"]["error.type"] == "builtins.ValueError"
    assert spans[0]["meta"]["function_arn"] == "arn:aws:lambda:us-east-1:012345678912:function:test_function"
    assert run.stderr == ""


@pytest.mark.parametrize("setup", ["handler", "decorator"])
def test_answers_logs_and_traces_are_the_peers(setup: str, write_function: WriteFunction) -> None:
    folder = write_function(HANDLER + DECORATED * (setup == "decorator"))
    peers, *ours = [run_wrapped(way, folder, setup) for way in (PEER, "fast", "module")]
    for run in ours:
        assert run.results == peers.results
        assert other_lines(run) == other_lines(peers)
        assert invocation_spans(run) == invocation_spans(peers)
