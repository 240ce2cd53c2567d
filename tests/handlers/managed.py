"""Handlers for Managed Instances: what runs where, and at the same time as what."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

IMPORTED_BY = os.getpid()
FOLDER = Path(os.environ.get("TEST_FOLDER", "/nonexistent"))


def who(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Say which process this is, and what it knows of the invocation."""
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "imported_by": IMPORTED_BY,
        "id": context.aws_request_id,
        "tenant": context.tenant_id,
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
    }


def together(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Wait until as many invocations run as the event says, then answer as `who` does."""
    (FOLDER / f"{event['round']}-{context.aws_request_id}").touch()
    while len(list(FOLDER.glob(f"{event['round']}-*"))) < event["count"]:
        time.sleep(0.002)
    logging.getLogger().warning("of %s", context.aws_request_id)
    return who(event, context)


def crash(event: dict[str, Any], context: Any) -> object:
    """End the process as the event says, or answer."""
    if "status" in event:
        os._exit(event["status"])
    if "signal" in event:
        os.kill(os.getpid(), event["signal"])
    return who(event, context)


def write(event: object, context: object) -> None:
    """Write to both streams, and log."""
    print("to stdout")
    print("to stderr", file=sys.stderr)
    logging.getLogger().warning("logged")
    os.write(1, b"raw\n")


def survive(event: dict[str, Any], context: object) -> str:
    """Finish in spite of SIGTERM."""
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    (FOLDER / "begun").touch()
    while not told:
        time.sleep(0.002)
    return "finished"


def slow(event: dict[str, Any], context: object) -> str:
    """Wait to be let go."""
    (FOLDER / "begun").touch()
    while not (FOLDER / "go").exists():
        time.sleep(0.002)
    return "done"
