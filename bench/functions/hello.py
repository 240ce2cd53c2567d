"""A function that does nothing, so that only the runtime is measured."""


def handler(event: object, context: object) -> object:
    """Answer with a constant."""
    return "hello"
