"""What the operations work on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from caloric.local.service.activation import Activation

if TYPE_CHECKING:
    from caloric.local.environments.interface import Environments
    from caloric.local.state.blobs import Blobs
    from caloric.local.state.store import Store

__all__ = ["LambdaService"]


@dataclass(frozen=True)
class LambdaService:
    """One account in one region, in one data directory."""

    region: str
    account: str
    """Twelve digits."""
    store: Store
    blobs: Blobs
    environments: Environments
    endpoint: str = "http://127.0.0.1:9001"
    """Where clients reach the service, without a slash at the end."""
    download_key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    """Signs the addresses that content is downloaded from (`downloads`). A new one ends the old addresses."""
    s3_endpoint: str | None = None
    """Where code and layers given as `S3Bucket` and `S3Key` are read; `None` for what botocore is configured for."""
    activation: Activation = field(init=False, repr=False, compare=False)
    """What makes functions ready, and the environments match the store."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", Activation(self))
