"""A page behind a function URL.

caloric emulate --http -- python -m caloric app.handler
"""

from html import escape
from typing import Any

import caloric


def handler(event: dict[str, Any], context: caloric.LambdaContext) -> caloric.HttpResponse:
    """Greet whom the query names: http://127.0.0.1:8080/?name=Ada."""
    name = event.get("queryStringParameters", {}).get("name", "Lambda")
    page = f"<!doctype html><title>Hello</title><h1>Hello from {escape(name)}!</h1>\n"
    return caloric.HttpResponse(200, {"content-type": "text/html; charset=utf-8"}, body=page)
