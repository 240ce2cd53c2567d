"""A function that creates a boto3 client where AWS says one should: outside the handler."""

import boto3

client = boto3.client("dynamodb")


def handler(event: object, context: object) -> object:
    """Answer with the client's service."""
    return client.meta.service_model.service_name
