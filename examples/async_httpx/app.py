"""Several requests at once with httpx, over connections that live as long as the environment.

caloric invoke app.handler --event '{"urls": ["https://example.com", "https://example.org"]}' --repeat 2
"""

import asyncio
from typing import Any

import httpx

# Made once. Its connections are bound to the event loop, which the runtime keeps.
client = httpx.AsyncClient(timeout=10)


async def handler(event: dict[str, Any], context: object) -> list[dict[str, Any]]:
    """Fetch `event["urls"]` at the same time, and say what came."""
    answers = await asyncio.gather(*(client.get(url) for url in event["urls"]))
    return [
        {"url": str(answer.url), "status": answer.status_code, "bytes": len(answer.content)}
        for answer in answers
    ]
