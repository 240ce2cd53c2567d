"""`python -m tests.local.http.document`: writes `docs/local-api.md` from the operations that are offered."""

from __future__ import annotations

from pathlib import Path

from caloric.local.service.offered import MODULES, OPERATIONS

PATH = Path(__file__).parents[3] / "docs" / "local-api.md"

NOT_OFFERED = {
    "Event source mappings, not there yet": (
        "CreateEventSourceMapping",
        "GetEventSourceMapping",
        "UpdateEventSourceMapping",
        "DeleteEventSourceMapping",
        "ListEventSourceMappings",
    ),
    "Resource policies as one document": ("PutResourcePolicy", "GetResourcePolicy", "DeleteResourcePolicy"),
    "Capacity providers and scaling of Managed Instances": (
        "CreateCapacityProvider",
        "GetCapacityProvider",
        "UpdateCapacityProvider",
        "DeleteCapacityProvider",
        "ListCapacityProviders",
        "ListFunctionVersionsByCapacityProvider",
        "GetFunctionScalingConfig",
        "PutFunctionScalingConfig",
    ),
    "Durable executions": (
        "CheckpointDurableExecution",
        "DeleteDurableExecution",
        "GetDurableExecution",
        "GetDurableExecutionHistory",
        "GetDurableExecutionState",
        "ListDurableExecutionsByFunction",
        "PauseDurableExecution",
        "ResumeDurableExecution",
        "SendDurableExecutionCallbackFailure",
        "SendDurableExecutionCallbackHeartbeat",
        "SendDurableExecutionCallbackSuccess",
        "StopDurableExecution",
    ),
}
"""Operations of AWS's API that answer 501, by what they belong to."""

_HEAD = """\
# The API of the local Lambda

`caloric local start` answers AWS's own REST API of Lambda. boto3, the aws CLI and every other client of AWS work with
it unchanged when they are given its address (`--endpoint-url http://127.0.0.1:9001`).

This page is made by `python -m tests.local.http.document`.

## How it is made

Routes, members, their types and limits, and the shapes of answers and errors are read at the start from the service
model that botocore carries, as a file: botocore itself is not imported, and its version decides which operations and
members there are. One small engine (`python/caloric/local/http`) turns a request into members and members into an
answer; an operation is a plain function on top.

- **Validation** is the model's: required members, ranges, lengths, patterns, enums. All that is wrong with a request
  is told at once, in AWS's words, as a `ValidationException`. Members that the model does not have are ignored. Where
  AWS is stricter than its model (memory, timeout, `/tmp`, layers, runtimes), `limits.py` has one line each.
- **Values of a wrong type** and bodies that are no JSON are a `SerializationException` (400).
- **Errors** have the status, the header `x-amzn-ErrorType` and the keys of AWS's, so clients raise the exception that
  they would raise there. What is our own failure is a `ServiceException` (500): the service's log has the reason, the
  answer only its request id.
- **Sizes** are checked while a request comes in: 70 167 211 bytes for code, 5120 for `UpdateFunctionConfiguration`, 1
  048 576 for an asynchronous event, 6 291 456 for anything else. More is a `RequestEntityTooLargeException` (413).
- **Lists** have at most 50 items per page, as on AWS.
- **An operation that has begun** runs to its end, also when its client leaves. A request that is not complete does
  nothing.
- **Signatures** are not looked at, unless the service was started with `--require-auth`: then each request must be
  signed for Lambda in the service's region (Signature Version 4, in headers or in a presigned URL, five minutes
  either way), and is refused as on AWS otherwise (403).

## What 501 means

An operation that AWS has and the local Lambda has not answers 501 with `NotImplementedException`, whose message names
the operation. It is no mistake in the request. A path that AWS's API does not have answers 404 with
`UnknownOperationException`; so does one that the installed botocore is too old to know.

## Operations
"""


def document() -> str:
    """Return the page's text."""
    parts = [_HEAD, "\n| subject | operations |\n|---|---|\n"]
    for module in MODULES:
        names = [name for name, function in OPERATIONS.items() if function.__module__ == module.__name__]
        subject = module.__name__.rpartition(".")[2].replace("_", " ")
        parts.append(_row(subject, names))
    parts.append("\nThese answer 501, and so does whatever a newer botocore has besides:\n")
    parts.append("\n| subject | operations |\n|---|---|\n")
    parts.extend(_row(subject, names) for subject, names in NOT_OFFERED.items())
    return "".join(parts)


def _row(subject: str, names: list[str] | tuple[str, ...]) -> str:
    return f"| {subject} | {', '.join(f'`{name}`' for name in sorted(names))} |\n"


if __name__ == "__main__":
    PATH.write_text(document(), encoding="utf-8")
