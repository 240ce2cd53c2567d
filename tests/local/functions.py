"""Functions for the tests of the service."""

from __future__ import annotations

import io
import sys
import zipfile
from textwrap import dedent
from typing import Any

RUNTIME = f"python{sys.version_info[0]}.{sys.version_info[1]}"
ROLE = "arn:aws:iam::012345678912:role/test"

ECHO = """
def handler(event, context):
    print("got", event)
    return {"event": event, "version": context.function_version, "arn": context.invoked_function_arn}
"""


def zipped(source: str, name: str = "app.py") -> bytes:
    """Return a deployment package with one file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, dedent(source))
    return content.getvalue()


def create(client: Any, name: str, source: str = ECHO, **configuration: Any) -> None:
    """Create a function and wait until it can be invoked."""
    client.create_function(
        **{
            "FunctionName": name,
            "Role": ROLE,
            "Runtime": RUNTIME,
            "Handler": "app.handler",
            "Code": {"ZipFile": zipped(source)},
            "Timeout": 20,
            **configuration,
        }
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=SOON)


def update(client: Any, name: str, source: str) -> None:
    """Give a function new code and wait until that is what is invoked."""
    client.update_function_code(FunctionName=name, ZipFile=zipped(source))
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=SOON)


SOON = {"Delay": 0.02, "MaxAttempts": 1500}
"""How often boto3's waiters look."""
