"""Layers: folders and zip files, unpacked and merged into one folder that stands in for `/opt`.

Imported only where there are layers. `archives` reads and writes them; what is about layers is here.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from caloric.local.archives import ArchiveError, Folder, MergedArchives, TooLargeError
from caloric.local.extensions import DISABLES_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["MAX_LAYERS", "LayerError", "MergedLayers", "layer_variables"]

MAX_LAYERS = 5
"""So many layers a function may have (spec lambda-service 2.1)."""


class LayerError(Exception):
    """A layer cannot be used; the message says which and why."""


class MergedLayers:
    """Layers, folders or zip files, as one; later ones win.

    Folders merge; a file takes the place of what has its name in an earlier layer.

    Raises `LayerError` when a layer is not there or cannot be read, when it has a path that leads outside, a device or
    an encrypted file, and when the layers exceed `MAX_LAYERS` or the limits of `archives`.
    """

    def __init__(self, layers: Sequence[str]) -> None:
        if len(layers) > MAX_LAYERS:
            raise LayerError(f"{len(layers)} layers were given, and a function has {MAX_LAYERS} at most")
        with _errors():
            self._merged = MergedArchives(layers)
        self._root = self._merged.root

    def extensions(self) -> dict[str, bool]:
        """Return the names of the external extensions, in the order in which they start, and if they are executable."""
        folder = self._root.members.get("extensions")
        members = folder.members.items() if isinstance(folder, Folder) else ()
        return {
            name: bool(member.permissions & 0o111)
            for name, member in sorted(members, key=lambda item: item[0])
            if not isinstance(member, Folder)
        }

    def disables_extensions(self) -> bool:
        """Return whether a layer has the file that switches extensions off."""
        return DISABLES_EXTENSIONS in self._root.members

    def unpack(self, target: str) -> None:
        """Write everything into the empty folder `target`, once. Permissions and times are kept.

        Raises `LayerError` when a file is damaged or cannot be written, and for a link that leads outside. What was
        written before is left behind then.
        """
        try:
            with _errors():
                self._merged.unpack(target)
        except OSError as error:
            raise LayerError(
                f"the layers cannot be unpacked to {target}: {error.strerror or error}"
            ) from None


@contextmanager
def _errors() -> Iterator[None]:
    """Say of which layer it is that something is wrong."""
    try:
        yield
    except TooLargeError as error:
        raise LayerError(f"the layers have more than {error.limit}: {error.archive}") from None
    except ArchiveError as error:
        raise LayerError(f"the layer {error.archive!r} {error.problem}") from None


def layer_variables(opt: str, variables: dict[str, str], *, python_path: bool) -> dict[str, str]:
    """Return what a function with the layers in `opt` has in place of those `variables` (spec runtime-api 3.1 and 3.6).

    `CALORIC_OPT` for Caloric's own search path, and the layers' `bin` and `lib` at the end of `PATH` and
    `LD_LIBRARY_PATH`. `python_path` puts their folders of Python packages at the end of `PYTHONPATH` too, for runtimes
    that do not know `CALORIC_OPT`.
    """
    changed = {"CALORIC_OPT": opt}
    places = [("PATH", ["bin"]), ("LD_LIBRARY_PATH", ["lib"])]
    if python_path:
        library = os.path.join(opt, "python", "lib")
        versions = sorted(os.listdir(library)) if os.path.isdir(library) else []
        packages = [os.path.join("python", "lib", version, "site-packages") for version in versions]
        places.append(("PYTHONPATH", [*packages, "python"]))
    for name, folders in places:
        there = [os.path.join(opt, folder) for folder in folders if os.path.isdir(os.path.join(opt, folder))]
        if there:
            before = [variables[name]] if variables.get(name) else []
            changed[name] = os.pathsep.join([*before, *there])
    return changed
