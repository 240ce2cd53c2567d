"""Signatures of requests (AWS Signature Version 4), for `--require-auth`. botocore computes them."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from caloric.local.service.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Authentication"]

_ALGORITHM = "AWS4-HMAC-SHA256"
_SERVICE = "lambda"
_TIME = "%Y%m%dT%H%M%SZ"
_SKEW = timedelta(minutes=5)
_LONGEST = 7 * 24 * 3600

_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


class _Signature(NamedTuple):
    """What a request says of its own signature."""

    access_key: str
    date: str
    region: str
    service: str
    terminator: str
    signed_headers: tuple[str, ...]
    signature: str
    time: datetime
    timestamp: str
    expires: timedelta | None
    """Of a presigned URL: so long after `time` it is good."""


class Authentication:
    """Verifies that requests were signed for Lambda in `region` with one of `credentials`: secrets by access key.

    `now` is the time that signatures are compared with.
    """

    def __init__(
        self,
        credentials: Mapping[str, str],
        region: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._credentials = dict(credentials)
        self._region = region
        self._now = now

    def verify(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> str:
        """Return the access key that the request was signed with.

        `path` and `query` are as they came, percent-encoded; `headers` by lower-case names. Raises `ServiceError`, as
        AWS answers.
        """
        signature = _from_header(headers) if "authorization" in headers else _from_query(query)
        secret = self._credentials.get(signature.access_key)
        if secret is None:
            raise ServiceError(
                "UnrecognizedClientException", "The security token included in the request is invalid."
            )
        self._check_scope(signature)
        self._check_time(signature)
        expected = _compute(signature, secret, self._region, method, path, query, headers, body)
        if not hmac.compare_digest(expected.encode(), signature.signature.encode()):
            raise ServiceError("InvalidSignatureException", _MISMATCH)
        return signature.access_key

    def _check_scope(self, signature: _Signature) -> None:
        if signature.region != self._region:
            problem = "Credential should be scoped to a valid region."
        elif signature.service != _SERVICE:
            problem = f"Credential should be scoped to correct service: '{_SERVICE}'."
        elif signature.terminator != "aws4_request":
            problem = "Credential should be scoped with a valid terminator: 'aws4_request'."
        elif signature.date != signature.timestamp[:8]:
            problem = (
                f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'{signature.date}' != '{signature.timestamp[:8]}', from '{signature.timestamp}'."
            )
        elif "host" not in signature.signed_headers:
            problem = "'Host' must be a 'SignedHeader' in the AWS Authorization."
        else:
            return
        raise ServiceError("InvalidSignatureException", problem)

    def _check_time(self, signature: _Signature) -> None:
        now = self._now()
        if signature.time - _SKEW > now:
            raise ServiceError(
                "InvalidSignatureException",
                f"Signature not yet current: {signature.timestamp} is still later than "
                f"{(now + _SKEW).strftime(_TIME)} ({now.strftime(_TIME)} + 5 min.)",
            )
        if signature.expires is None and signature.time + _SKEW < now:
            raise ServiceError(
                "InvalidSignatureException",
                f"Signature expired: {signature.timestamp} is now earlier than "
                f"{(now - _SKEW).strftime(_TIME)} ({now.strftime(_TIME)} - 5 min.)",
            )
        if signature.expires is not None and signature.time + signature.expires < now:
            end = (signature.time + signature.expires).strftime(_TIME)
            raise ServiceError(
                "InvalidSignatureException",
                f"Signature expired: {end} is now earlier than {now.strftime(_TIME)}",
            )


def _from_header(headers: Mapping[str, str]) -> _Signature:
    authorization = headers["authorization"]
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != _ALGORITHM:
        raise ServiceError("IncompleteSignatureException", f"Unsupported AWS 'algorithm': '{algorithm}'.")
    fields = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        fields[name] = value
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not fields.get(name)]
    timestamp = headers.get("x-amz-date")
    problems = [f"Authorization header requires '{name}' parameter." for name in missing]
    if timestamp is None:
        problems.append(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        )
    if problems or timestamp is None:
        raise ServiceError("IncompleteSignatureException", " ".join(problems))
    return _signature(
        fields["Credential"],
        fields["SignedHeaders"],
        fields["Signature"],
        timestamp,
        expires=None,
    )


def _from_query(query: str) -> _Signature:
    fields = dict(parse_qsl(query, keep_blank_values=True))
    if "X-Amz-Algorithm" not in fields and "X-Amz-Signature" not in fields:
        raise ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token")
    names = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
    missing = [name for name in names if not fields.get(f"X-Amz-{name}")]
    if missing:
        raise ServiceError(
            "IncompleteSignatureException",
            " ".join(f"AWS query-string parameters must include 'X-Amz-{name}'." for name in missing),
        )
    if fields["X-Amz-Algorithm"] != _ALGORITHM:
        raise ServiceError(
            "IncompleteSignatureException", f"Unsupported AWS 'algorithm': '{fields['X-Amz-Algorithm']}'."
        )
    expires = fields["X-Amz-Expires"]
    if not (expires.isascii() and expires.isdecimal() and len(expires) < 8 and int(expires) <= _LONGEST):
        raise ServiceError(
            "IncompleteSignatureException",
            f"X-Amz-Expires must be a number from 0 to {_LONGEST}, not '{expires}'.",
        )
    return _signature(
        fields["X-Amz-Credential"],
        fields["X-Amz-SignedHeaders"],
        fields["X-Amz-Signature"],
        fields["X-Amz-Date"],
        expires=timedelta(seconds=int(expires)),
    )


def _signature(
    credential: str,
    signed_headers: str,
    signature: str,
    timestamp: str,
    *,
    expires: timedelta | None,
) -> _Signature:
    # The access key may have slashes; what is after it has none.
    parts = credential.rsplit("/", 4)
    if len(parts) != 5:
        raise ServiceError(
            "IncompleteSignatureException",
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got "
            f"'{credential}'.",
        )
    try:
        time = datetime.strptime(timestamp, _TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        raise ServiceError(
            "IncompleteSignatureException", f"Date must be in ISO-8601 'basic format'. Got '{timestamp}'."
        ) from None
    access_key, date, region, service, terminator = parts
    return _Signature(
        access_key=access_key,
        date=date,
        region=region,
        service=service,
        terminator=terminator,
        signed_headers=tuple(signed_headers.lower().split(";")),
        signature=signature,
        time=time,
        timestamp=timestamp,
        expires=expires,
    )


class _Signer(SigV4Auth):  # type: ignore[misc]
    """botocore's signer, for the headers that the client says it signed rather than those botocore would."""

    def headers_to_sign(self, request: Any) -> Any:
        return request.headers


def _compute(
    signature: _Signature,
    secret: str,
    region: str,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
) -> str:
    """Return the signature that the request has if it was signed with `secret`."""
    declared = headers.get("x-amz-content-sha256")
    # botocore's signer takes this header's word for the body. UNSIGNED-PAYLOAD is for S3.
    if declared not in (None, hashlib.sha256(body).hexdigest()):
        raise ServiceError("InvalidSignatureException", _MISMATCH)
    if signature.expires is not None:
        pairs = query.split("&")
        query = "&".join(pair for pair in pairs if not pair.startswith("X-Amz-Signature="))
    signed = {name: headers[name] for name in signature.signed_headers if name in headers}
    # With http:// botocore's signer looks at the body in any case.
    request = AWSRequest(
        method, f"http://{headers.get('host', '')}{path}{'?' if query else ''}{query}", signed, body
    )
    request.context["timestamp"] = signature.timestamp
    signer = _Signer(Credentials(signature.access_key, secret), _SERVICE, region)
    canonical_request = signer.canonical_request(request)
    result: str = signer.signature(signer.string_to_sign(request, canonical_request), request)
    return result
