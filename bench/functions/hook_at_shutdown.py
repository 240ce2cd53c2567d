"""The echo, with an `on_shutdown` hook: the runtime registers an internal extension and watches SIGTERM."""

from caloric import lifecycle


@lifecycle.on_shutdown
def flush() -> None:
    """Do nothing."""


def handler(event: object, context: object) -> object:
    """Answer with the event."""
    return event
