"""The echo, between a `before_invoke` and an `after_invoke` hook."""

from caloric import lifecycle


@lifecycle.before_invoke
def before(event: object, context: object) -> None:
    """Do nothing."""


@lifecycle.after_invoke
def after(event: object, context: object, result: object, error: Exception | None) -> None:
    """Do nothing."""


def handler(event: object, context: object) -> object:
    """Answer with the event."""
    return event
