"""The function of `waits.py` as a coroutine: for a runtime that awaits it, and for one that does not."""

import asyncio

WAIT_S = 0.02

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)


async def handler(event: object, context: object) -> object:
    """Wait, and answer with a constant."""
    await asyncio.sleep(WAIT_S)
    return "hello"


def plain_handler(event: object, context: object) -> object:
    """Do the same with a loop of its own, as functions of this kind are written for `awslambdaric`."""
    return loop.run_until_complete(handler(event, context))
