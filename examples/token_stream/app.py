"""A chat-like stream of tokens as server-sent events, and the page that shows them.

caloric emulate --http --stream -- python -m caloric app.handler
caloric invoke app.handler --stream --event '{"rawPath": "/events", "rawQueryString": "question=Why?"}'
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import caloric

PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")


def handler(event: dict[str, Any], context: caloric.LambdaContext) -> caloric.HttpResponse:
    """Answer a function URL's request: `/` is the page, `/events?question=…` the stream."""
    if event.get("rawPath") == "/events":
        question = parse_qs(event.get("rawQueryString", "")).get("question", [""])[0]
        return caloric.HttpResponse(
            200,
            {"content-type": "text/event-stream", "cache-control": "no-store"},
            body=server_sent_events(tokens(question)),
        )
    # A stream, too: what is not streamed, a function URL with the invoke mode RESPONSE_STREAM shows as the JSON it is.
    return caloric.HttpResponse(200, {"content-type": "text/html; charset=utf-8"}, body=iter([PAGE]))


def tokens(question: str) -> Iterator[str]:
    """Stand in for a model: think, then say a word at a time."""
    for word in f"You asked: {question} Streaming answers while it thinks.".split():
        time.sleep(0.05)
        yield word


def server_sent_events(words: Iterator[str]) -> Iterator[str]:
    """Turn words into events; the last one says that there are no more."""
    for word in words:
        yield f"data: {json.dumps(word)}\n\n"
    yield "event: end\ndata: {}\n\n"
