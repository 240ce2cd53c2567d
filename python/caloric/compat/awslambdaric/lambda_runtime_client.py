"""The client of the Runtime API with the peer's methods, over Caloric's."""

from __future__ import annotations

import os
import sys
from typing import Any

from caloric._rust import RuntimeClient, decode_json
from caloric._rust import __version__ as caloric_version
from caloric.error_report import MAX_DOCUMENT, MAX_XRAY_CAUSE, ascii_json, fit_document, fit_xray_cause

from .lambda_runtime_marshaller import LambdaMarshaller, to_json

__all__ = ["BaseLambdaRuntimeClient", "InvocationRequest", "LambdaRuntimeClient", "to_json"]


class InvocationRequest:
    """An invocation: what came with it, as attributes."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InvocationRequest) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class BaseLambdaRuntimeClient:
    """A client of the Runtime API.

    `marshaller` decodes events and encodes results. It may be replaced, on the class, by any object with the methods
    of `LambdaMarshaller`.
    """

    marshaller: Any = LambdaMarshaller()

    def __init__(self, lambda_runtime_address: str, use_thread_for_polling_next: bool = False) -> None:
        python = ".".join(map(str, sys.version_info[:3]))
        self._client = RuntimeClient(lambda_runtime_address, f"caloric-python/{python}-{caloric_version}")
        self.lambda_runtime_address = lambda_runtime_address
        # Of no consequence: signal handlers run while the main thread waits.
        self.use_thread_for_polling_next = use_thread_for_polling_next

    @classmethod
    def of_process(cls, client: RuntimeClient) -> BaseLambdaRuntimeClient:
        """Return one over the connection that the runtime of this process has."""
        self = cls.__new__(cls)
        self._client = client
        self.lambda_runtime_address = os.environ.get("AWS_LAMBDA_RUNTIME_API", "")
        self.use_thread_for_polling_next = False
        return self

    def wait_next_invocation(self) -> InvocationRequest:
        """Return the next invocation, waiting as long as it takes."""
        return InvocationRequest(**self._client.next_invocation())

    def post_invocation_result(
        self,
        invoke_id: str,
        result_data: str | bytes,
        content_type: str = "application/json",
        invocation_id: str | None = None,
    ) -> None:
        """Post a result that the marshaller has made."""
        self._client.post_invocation_response(invoke_id, _utf8(result_data), content_type, invocation_id)

    def post_invocation_error(
        self,
        invoke_id: str,
        error_response_data: str,
        xray_fault: str,
        invocation_id: str | None = None,
    ) -> None:
        """Post an error document and X-Ray's cause, both JSON, cropped where they are too large."""
        body = _utf8(error_response_data)
        document = _object(body)
        if len(body) > MAX_DOCUMENT and isinstance(document.get("stackTrace"), list):
            body = fit_document(document)
        cause = ascii_json(xray_fault)
        if len(cause) > MAX_XRAY_CAUSE:
            cause = fit_xray_cause(_object(_utf8(xray_fault)))
        error_type = document.get("errorType")
        self._client.post_invocation_error(
            invoke_id, body, error_type if isinstance(error_type, str) else "", cause, invocation_id
        )

    def post_init_error(
        self, error_response_data: dict[str, Any], error_type_override: str | None = None
    ) -> None:
        """Report that initialization failed."""
        error_type = error_type_override or error_response_data["errorType"]
        self._client.post_initialization_error(error_type, _utf8(to_json(error_response_data)))


class LambdaRuntimeClient(BaseLambdaRuntimeClient):
    """The client of a process that serves one invocation at a time."""


def _utf8(text: str | bytes) -> bytes:
    # A lone surrogate is written as JSON escapes it.
    return text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace")


def _object(body: bytes) -> dict[str, Any]:
    """A JSON document that a patch may have made anything of."""
    try:
        document = decode_json(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
