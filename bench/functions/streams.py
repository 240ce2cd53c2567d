"""A generator that sends the time at which it yields, again and again."""

import time


def handler(event: dict[str, int], context: object) -> object:
    """Yield so many times as `event["count"]` says, with a pause in milliseconds before each."""
    for _ in range(event["count"]):
        time.sleep(event["pause_ms"] / 1000)
        # A line of its own length each time, so that two that came together would show.
        yield b"%020d\n" % time.perf_counter_ns()
