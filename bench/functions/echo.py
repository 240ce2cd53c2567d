"""A function whose event is decoded and encoded once."""


def handler(event: object, context: object) -> object:
    """Answer with the event."""
    return event
