"""AWS's API model of Lambda, as botocore carries it.

It is read as a file: importing botocore costs more than everything else that the service does at its start. Whatever a
request needs of the model is looked at when the first request needs it.
"""

from __future__ import annotations

import os
import zlib
from functools import cached_property
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Member", "Model", "ModelError", "ModelOperation", "Shape", "find", "load"]

_INSTALL = "Install it with: pip install caloric[local]"


class ModelError(Exception):
    """There is no API model, or it cannot be read; the message says what to do."""


class Member(NamedTuple):
    """A member of a structure."""

    name: str
    shape: Shape
    location: str
    """`uri`, `querystring`, `header`, `statusCode`, `payload`, or `body` for a member of the JSON body."""
    wire_name: str
    """Its name there."""


class Shape:
    """A type of the model: a structure, a list, a map, or a value with its limits."""

    def __init__(self, model: Model, name: str, definition: Mapping[str, Any]) -> None:
        self._model = model
        self._definition = definition
        self.name = name
        self.type: str = definition["type"]
        """Such as `structure`, `list`, `map`, `string`, `integer`, `double`, `boolean`, `blob`, `timestamp`."""
        self.minimum: float | None = definition.get("min")
        """The lowest value of a number; the shortest length of anything else."""
        self.maximum: float | None = definition.get("max")
        self.pattern: str | None = definition.get("pattern")
        self.enum: tuple[str, ...] = tuple(definition.get("enum", ()))
        self.sensitive: bool = definition.get("sensitive", False)
        """Its values are not shown in error messages."""
        self.required: tuple[str, ...] = tuple(definition.get("required", ()))
        self.status: int | None = definition.get("error", {}).get("httpStatusCode")
        """Of an exception: the status of its answer."""
        self.event_stream: bool = definition.get("eventstream", False)
        self.timestamp_format: str | None = definition.get("timestampFormat")

    @cached_property
    def members(self) -> dict[str, Member]:
        """The members of a structure by name, in the model's order."""
        payload = self._definition.get("payload")
        return {
            name: Member(
                name,
                self._model.shape(member["shape"]),
                "payload" if name == payload else member.get("location", "body"),
                member.get("locationName", name),
            )
            for name, member in self._definition.get("members", {}).items()
        }

    @cached_property
    def payload(self) -> Member | None:
        """The member of a structure that is the whole body."""
        return next((member for member in self.members.values() if member.location == "payload"), None)

    @cached_property
    def element(self) -> Shape:
        """What a list has."""
        return self._model.shape(self._definition["member"]["shape"])

    @cached_property
    def key(self) -> Shape:
        """What the keys of a map are."""
        return self._model.shape(self._definition["key"]["shape"])

    @cached_property
    def value(self) -> Shape:
        """What the values of a map are."""
        return self._model.shape(self._definition["value"]["shape"])


class ModelOperation:
    """An operation of the model."""

    def __init__(self, model: Model, name: str, definition: Mapping[str, Any]) -> None:
        self._model = model
        self._definition = definition
        self.name = name
        self.method: str = definition["http"]["method"]
        self.uri: str = definition["http"]["requestUri"]
        """Path and query, such as `/2015-03-31/functions/{FunctionName}`."""
        self.status: int = definition["http"].get("responseCode", 200)
        """The status of its answer unless the answer has one of its own."""

    @cached_property
    def input(self) -> Shape | None:
        """The shape of its request; `None` for one without members."""
        return self._shape("input")

    @cached_property
    def output(self) -> Shape | None:
        """The shape of its answer; `None` for an empty one."""
        return self._shape("output")

    def _shape(self, which: str) -> Shape | None:
        reference = self._definition.get(which)
        return None if reference is None else self._model.shape(reference["shape"])


class Model:
    """The operations and shapes of a service, from the document that botocore calls `service-2.json`."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._definitions: Mapping[str, Any] = document["shapes"]
        self._shapes: dict[str, Shape] = {}
        self.operations = {
            name: ModelOperation(self, name, definition)
            for name, definition in document["operations"].items()
        }

    def shape(self, name: str) -> Shape:
        """Return the shape with this name."""
        shape = self._shapes.get(name)
        if shape is None:
            # Two threads may each make one at first: they are alike.
            shape = self._shapes[name] = Shape(self, name, self._definitions[name])
        return shape

    def exception(self, name: str) -> Shape | None:
        """Return the shape of the exception with this name, or `None` if the model has none."""
        definition = self._definitions.get(name)
        return self.shape(name) if definition is not None and definition.get("exception") else None

    def exceptions(self) -> list[str]:
        """Return the names of all exceptions."""
        return [name for name, definition in self._definitions.items() if definition.get("exception")]


def find() -> Path:
    """Return the file that holds the model: botocore's newest of Lambda.

    Raises `ModelError` if botocore is not installed or has no such file.
    """
    # importlib.util.find_spec would do the same; this is what it does for a name without dots, without importing it.
    spec = PathFinder.find_spec("botocore")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    if not folders:
        raise ModelError(f"The local Lambda needs botocore for AWS's API model. {_INSTALL}")
    service = Path(folders[0], "data", "lambda")
    try:
        versions = sorted(os.listdir(service), reverse=True)
    except OSError as error:
        raise _unreadable(service, error.strerror or str(error)) from None
    for version in versions:
        for name in ("service-2.json", "service-2.json.gz"):
            path = service / version / name
            if path.is_file():
                return path
    raise _unreadable(service, "it has no service-2.json")


def load(path: Path | None = None) -> Model:
    """Return the model in the file at `path`, by default the one that `find` finds.

    Raises `ModelError` if it cannot be read.
    """
    path = path or find()
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = zlib.decompress(content, wbits=zlib.MAX_WBITS | 16)
        return Model(orjson.loads(content))
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, str(error)) from None


def _unreadable(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"botocore's API model of Lambda cannot be read ({path}: {reason}). {_INSTALL} --force-reinstall"
    )
