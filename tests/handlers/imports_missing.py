"""Needs what the package does not bring."""

import no_such_dependency


def handler(event, context):
    return no_such_dependency.answer
