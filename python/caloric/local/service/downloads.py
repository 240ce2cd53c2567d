"""Where code and layers can be downloaded from for a while: `Code.Location` and `Content.Location`.

AWS answers with signed addresses of S3 that work for ten minutes. Here they lead to the service itself
(`caloric.local.http.downloads`), and are signed with its own key.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caloric.local.service.service import LambdaService

__all__ = ["PATH", "download_allowed", "download_location"]

PATH = "/_caloric/blobs/"
"""Below it, content is found by its digest."""

LIFETIME_S = 600
"""For so long an address works, as AWS's do (spec lambda-service 2.1)."""


def download_location(service: LambdaService, digest: str) -> str:
    """Return an address that answers with the content of this digest for ten minutes."""
    expires = str(int(time.time()) + LIFETIME_S)
    signature = _signature(service, digest, expires)
    return f"{service.endpoint}{PATH}{digest}?Expires={expires}&Signature={signature}"


def download_allowed(service: LambdaService, digest: str, expires: str, signature: str) -> bool:
    """Return whether an address with these parameters was given by the service and has not expired."""
    expected = _signature(service, digest, expires)
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        return False
    return int(expires) >= time.time()


def _signature(service: LambdaService, digest: str, expires: str) -> str:
    return hmac.new(service.download_key, f"{digest}\n{expires}".encode(), hashlib.sha256).hexdigest()
