"""A handler behind an API Gateway HTTP API (payload format 2.0)."""

import json


def handler(event, context):
    """Greet whoever the query string names."""
    name = event.get("queryStringParameters", {}).get("name", "world")
    print(f"greeting {name}")
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"hello": name, "requestId": context.aws_request_id}),
    }
