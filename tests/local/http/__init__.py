"""The REST API, looked at from the other side: by botocore, boto3 and requests that they would not make."""
