"""A function that waits for something else most of its time, as one that calls a service does."""

import time

WAIT_S = 0.02


def handler(event: object, context: object) -> object:
    """Wait, and answer with a constant."""
    time.sleep(WAIT_S)
    return "hello"
