"""Signed requests (AWS Signature Version 4), for a service that was started with `--require-auth`.

botocore signs. It is imported here only, because it takes ten times as long as everything else a command does.
"""

from __future__ import annotations

import os

from caloric.cli import UserMistake


def signed(method: str, url: str, body: bytes, headers: dict[str, str], region: str) -> dict[str, str]:
    """Return `headers` with those that sign the request, with the credentials in the environment.

    Raises `UserMistake` where there are none, or botocore is not installed.
    """
    access_key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret:
        raise UserMistake(
            "the service wants signed requests: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to those of the service"
        )
    try:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
    except ImportError:
        raise UserMistake(
            "the service wants signed requests, and signing needs botocore: pip install 'caloric[local]'"
        ) from None
    request = AWSRequest(method, url, headers, body)
    credentials = Credentials(access_key, secret, os.environ.get("AWS_SESSION_TOKEN") or None)
    SigV4Auth(credentials, "lambda", region).add_auth(request)
    return dict(request.headers.items())
