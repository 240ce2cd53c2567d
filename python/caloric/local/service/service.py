"""What the operations work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
