"""The layers of a function: which it may have, and where their content is (spec lambda-service 5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from caloric.local.layers import MAX_LAYERS
from caloric.local.service.errors import ServiceError
from caloric.local.service.names import layer_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caloric.local.service.names import Home
    from caloric.local.state.store import Transaction

__all__ = ["AttachedLayers", "attach"]


class AttachedLayers(NamedTuple):
    """Layers in the order in which they are merged."""

    configuration: list[dict[str, Any]]
    """As the API shows them: `Arn` and `CodeSize`."""
    digests: list[str]
    unzipped_size: int
    """In bytes, all together."""


def attach(home: Home, transaction: Transaction, arns: Sequence[str]) -> AttachedLayers:
    """Return the layer versions with these ARNs.

    Raises:
        ServiceError: `InvalidParameterValueException` for too many, for one that there is not, for one of another
            region and for two versions of one layer; `ValidationException` for what is no such ARN.
    """
    if len(arns) > MAX_LAYERS:
        raise _invalid(f"Cannot reference more than {MAX_LAYERS} layers.")
    configuration: list[dict[str, Any]] = []
    digests: list[str] = []
    unzipped_size = 0
    seen: dict[tuple[str, str], str] = {}
    for arn in arns:
        layer = layer_reference(arn)
        if layer.region != home.region:
            raise _invalid(
                "Layers are not in the same region as the function. "
                f"Layers are expected to be in region {home.region}."
            )
        if layer.account != home.account:
            raise _invalid(
                f"Layer version {arn} does not exist. It belongs to another account, and the local Lambda has the "
                "layers only that were published to it."
            )
        document = transaction.get("layer_version", layer.name, layer.version)
        if document is None:
            raise _invalid(f"Layer version {arn} does not exist.")
        key = (layer.account, layer.name)
        if key in seen:
            raise _invalid(
                "Two different versions of the same layer are not allowed to be referenced in the same function. "
                f"{seen[key]} and {arn} are versions of the same layer."
            )
        seen[key] = arn
        configuration.append({"Arn": arn, "CodeSize": document["CodeSize"]})
        digests.append(document["Digest"])
        unzipped_size += document["UnzippedSize"]
    return AttachedLayers(configuration, digests, unzipped_size)


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterValueException", message)
