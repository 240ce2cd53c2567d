"""A function that logs a line when it is imported and a line in each invocation."""

import logging

logger = logging.getLogger(__name__)
logger.info("imported %s", __name__)


def handler(event: object, context: object) -> object:
    """Answer with a constant."""
    logger.info("event with %d keys", len(event))  # type: ignore[arg-type]
    return "logged"
