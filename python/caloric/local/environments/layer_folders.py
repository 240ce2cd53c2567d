"""The folders that stand in for `/opt`: the layers of functions, merged once for each list of them."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from caloric.local.extensions import DISABLES_EXTENSIONS
from caloric.local.sandbox.read_only import make_read_only, remove_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["LayerFolders", "UnusableLayersError", "installed_extensions"]

_HEX_DIGITS = frozenset("0123456789abcdef")


class UnusableLayersError(Exception):
    """Layers cannot be merged; the message says which and why."""


class LayerFolders:
    """Merged layers in `folder`, each in a folder named by the layers that it is made of. Safe for threads.

    All environments with the same layers share one, which is read-only as far as `make_read_only` gets. One service
    works on `folder`.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        self._merging: dict[str, threading.Lock] = {}
        for left in folder.glob(".new-*"):
            # Of a service that was killed.
            remove_folder(left)

    def opt(self, layers: tuple[Path, ...]) -> Path | None:
        """Return the folder with these layers, later ones winning; `None` without layers. Merged at the first call.

        A single one that is named by its digest need not be merged: it was looked at when it was unpacked, it does not
        change, and it is used where it is.

        Raises `UnusableLayersError` for layers that cannot be merged (see `caloric.local.layers.MergedLayers`).
        """
        if not layers:
            return None
        if len(layers) == 1 and _is_digest(layers[0].name) and layers[0].is_dir():
            return layers[0]
        key = _key(layers)
        target = self._folder / key
        with self._lock:
            merging = self._merging.setdefault(key, threading.Lock())
        with merging:
            if not target.is_dir():
                self._merge(layers, target)
        return target

    def _merge(self, layers: tuple[Path, ...], target: Path) -> None:
        # Most services have none of this to do when they start.
        import tempfile

        from caloric.local.layers import LayerError, MergedLayers

        new = tempfile.mkdtemp(dir=self._folder, prefix=".new-")
        try:
            os.chmod(new, 0o755)
            MergedLayers([str(layer) for layer in layers]).unpack(new)
            make_read_only(Path(new), top=False)
            os.rename(new, target)
        except BaseException as error:
            remove_folder(Path(new))
            if isinstance(error, LayerError):
                raise UnusableLayersError(str(error)) from None
            raise
        make_read_only(target)

    def prune(self, in_use: Callable[[], Iterable[tuple[Path, ...]]]) -> None:
        """Remove what is made of other layers than those that are in use."""
        with self._lock:
            kept = {_key(layers) for layers in in_use() if layers}
            for folder in self._folder.iterdir():
                if _is_digest(folder.name) and folder.name not in kept:
                    self._merging.pop(folder.name, None)
                    remove_folder(folder)


def installed_extensions(opt: Path | None) -> dict[str, str] | None:
    """Return the paths of the external extensions in `opt` by their names; `None` where a layer switches them off.

    Every executable file in `extensions` is one (spec lambda-service 5.3).
    """
    if opt is None:
        return {}
    if (opt / DISABLES_EXTENSIONS).exists():
        return None
    folder = opt / "extensions"
    if not folder.is_dir():
        return {}
    return {
        path.name: str(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and os.access(path, os.X_OK)
    }


def _is_digest(name: str) -> bool:
    return len(name) == 64 and _HEX_DIGITS.issuperset(name)


def _key(layers: tuple[Path, ...]) -> str:
    """Return what these layers in this order are called: made of their digests, where their folders are named so."""
    import hashlib

    names = []
    for layer in layers:
        if _is_digest(layer.name):
            names.append(layer.name)
        else:
            status = layer.stat() if layer.exists() else None
            names.append(
                f"{layer.absolute()} {status.st_ino if status else 0} {status.st_mtime_ns if status else 0}"
            )
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()
