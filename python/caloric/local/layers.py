"""Layers: folders and zip files, unpacked and merged into one folder that stands in for `/opt`.

Imported only where there are layers. What is in a layer was often downloaded, so it is looked at as a whole before
anything is written, and nothing is written or found outside the folder: no path leads out, no link does, and no file is
larger than it says.
"""

from __future__ import annotations

import os
import stat
import time
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, NamedTuple

from caloric.local.extensions import DISABLES_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["MAX_ENTRIES", "MAX_LAYERS", "MAX_SIZE", "LayerError", "MergedLayers", "layer_variables"]

MAX_LAYERS = 5
"""So many layers a function may have (spec lambda-service 2.1)."""

MAX_SIZE = 262_144_000
"""So many bytes they may have together, unzipped: AWS's 250 MB, which there include the function."""

MAX_ENTRIES = 100_000
"""So many files, folders and links they may have together: a limit of ours."""

_CHUNK = 1 << 20


class LayerError(Exception):
    """A layer cannot be used; the message says which and why."""


class _Entry(NamedTuple):
    """A file, folder or link of a layer."""

    path: str
    kind: int
    """As in a file's mode: S_IFREG, S_IFDIR or S_IFLNK."""
    permissions: int
    modified: float
    size: int
    link: str
    layer: str
    source: zipfile.ZipInfo | str
    """Where the contents are: a member of a zip file, or a file."""


class MergedLayers:
    """Layers, folders or zip files, as one; later ones win.

    Folders merge; a file takes the place of what has its name in an earlier layer.

    Raises `LayerError` when a layer is not there or cannot be read, when it has a path that leads outside, a device or
    an encrypted file, and when the layers exceed `MAX_LAYERS`, `MAX_SIZE` or `MAX_ENTRIES`.
    """

    def __init__(self, layers: Sequence[str]) -> None:
        if len(layers) > MAX_LAYERS:
            raise LayerError(f"{len(layers)} layers were given, and a function has {MAX_LAYERS} at most")
        self._root = _Folder()
        self._archives: dict[str, zipfile.ZipFile] = {}
        size = count = 0
        try:
            for layer in layers:
                for entry in self._entries(layer):
                    size, count = size + entry.size, count + 1
                    if size > MAX_SIZE:
                        raise LayerError(
                            f"the layers have more than {MAX_SIZE} bytes (250 MB) unzipped: {layer}"
                        )
                    if count > MAX_ENTRIES:
                        raise LayerError(f"the layers have more than {MAX_ENTRIES} files: {layer}")
                    _merge(self._root, entry)
        except BaseException:
            self._close()
            raise

    def _entries(self, layer: str) -> Iterator[_Entry]:
        if os.path.isdir(layer):
            return _of_folder(layer)
        if layer not in self._archives:
            self._archives[layer] = _open(layer)
        return _of_zip(layer, self._archives[layer])

    def extensions(self) -> dict[str, bool]:
        """Return the names of the external extensions, in the order in which they start, and if they are executable."""
        folder = self._root.members.get("extensions")
        members = folder.members.items() if isinstance(folder, _Folder) else ()
        return {
            name: bool(member.permissions & 0o111)
            for name, member in sorted(members, key=lambda item: item[0])
            if not isinstance(member, _Folder)
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
            _write(self._root, self._archives, target)
        except OSError as error:
            raise LayerError(
                f"the layers cannot be unpacked to {target}: {error.strerror or error}"
            ) from None
        finally:
            self._close()

    def _close(self) -> None:
        for archive in self._archives.values():
            archive.close()


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


# ---- what is in a layer ----------------------------------------------------------------------------------------------


def _open(layer: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(layer)
    except OSError as error:
        raise LayerError(f"the layer {layer!r} cannot be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise LayerError(f"the layer {layer!r} is neither a folder nor a zip file: {error}") from None


def _of_zip(layer: str, archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for member in archive.infolist():
        # What the file itself says: the library cuts names at a NUL.
        path = _checked(layer, member.orig_filename.removesuffix("/"))
        mode = member.external_attr >> 16
        kind = stat.S_IFDIR if member.is_dir() else stat.S_IFMT(mode) or stat.S_IFREG
        if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            raise LayerError(f"the layer {layer!r} has {path!r}, which is no file, folder or link")
        if member.flag_bits & 1:
            raise LayerError(f"the layer {layer!r} has {path!r}, which is encrypted")
        size, link = member.file_size, ""
        if kind == stat.S_IFLNK:
            if size > 4096:
                raise LayerError(f"the layer {layer!r} has the link {path!r}, whose target is too long")
            link = os.fsdecode(b"".join(_contents(layer, archive, member)))
        try:
            modified = time.mktime((*member.date_time, 0, 0, -1))
        except (ValueError, OverflowError):
            modified = 0.0
        permissions = mode & 0o777 or (0o755 if kind == stat.S_IFDIR else 0o644)
        yield _Entry(path, kind, permissions, modified, size, link, layer, member)


def _of_folder(layer: str) -> Iterator[_Entry]:
    folders = [""]
    try:
        while folders:
            parent = folders.pop()
            with os.scandir(os.path.join(layer, parent)) as listed:
                found = list(listed)
            for item in found:
                path = os.path.join(parent, item.name)
                status = item.stat(follow_symlinks=False)
                kind = stat.S_IFMT(status.st_mode)
                if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                    raise LayerError(f"the layer {layer!r} has {path!r}, which is no file, folder or link")
                link = os.readlink(item.path) if kind == stat.S_IFLNK else ""
                size = status.st_size if kind == stat.S_IFREG else 0
                permissions = status.st_mode & 0o777
                yield _Entry(path, kind, permissions, status.st_mtime, size, link, layer, item.path)
                if kind == stat.S_IFDIR:
                    folders.append(path)
    except OSError as error:
        raise LayerError(f"the layer {layer!r} cannot be read: {error.filename}: {error.strerror}") from None


def _checked(layer: str, path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise LayerError(f"the layer {layer!r} has the path {path!r}, which leads outside")
    # As zip programs read them: a/./b and a//b are a/b.
    return "/".join(part for part in parts if part not in ("", "."))


# ---- merging and writing ---------------------------------------------------------------------------------------------


class _Folder:
    """A folder of the merged layers; `entry` is the last layer's that has one for it."""

    def __init__(self, entry: _Entry | None = None) -> None:
        self.entry = entry
        self.members: dict[str, _Folder | _Entry] = {}


def _merge(root: _Folder, entry: _Entry) -> None:
    *parents, name = entry.path.split("/")
    if not name:
        return
    folder = root
    for parent in parents:
        # In place of what an earlier layer has there, unless that is a folder too.
        member = folder.members.get(parent)
        if not isinstance(member, _Folder):
            member = folder.members[parent] = _Folder()
        folder = member
    member = folder.members.get(name)
    if entry.kind != stat.S_IFDIR:
        folder.members[name] = entry
    elif isinstance(member, _Folder):
        member.entry = entry
    else:
        folder.members[name] = _Folder(entry)


def _write(root: _Folder, archives: dict[str, zipfile.ZipFile], target: str) -> None:
    links: list[tuple[str, _Entry]] = []
    folders: list[tuple[str, _Entry]] = []
    waiting = [(target, root)]
    while waiting:
        place, folder = waiting.pop()
        for name, member in folder.members.items():
            path = os.path.join(place, name)
            if isinstance(member, _Folder):
                os.mkdir(path)
                waiting.append((path, member))
                if member.entry is not None:
                    folders.append((path, member.entry))
            elif member.kind == stat.S_IFLNK:
                links.append((path, member))
            else:
                _write_file(path, member, archives)
    # Last, so that nothing is written through one. Where a link leads is only known when all of them are there.
    for path, entry in links:
        os.symlink(entry.link, path)
    inside = os.path.realpath(target)
    for path, entry in links:
        if not (os.path.realpath(path) + os.sep).startswith(inside + os.sep):
            raise LayerError(
                f"the layer {entry.layer!r} has the link {entry.path!r} to {entry.link!r}, which leads outside"
            )
    # A folder that may not be written to is filled by now; the inner ones first, since they change the outer ones.
    for path, entry in reversed(folders):
        os.chmod(path, entry.permissions | stat.S_IRWXU)
        os.utime(path, (entry.modified, entry.modified))


def _write_file(path: str, entry: _Entry, archives: dict[str, zipfile.ZipFile]) -> None:
    with open(path, "xb") as file:
        if isinstance(entry.source, str):
            try:
                source = open(entry.source, "rb")  # noqa: SIM115
            except OSError as error:
                raise LayerError(
                    f"the layer {entry.layer!r} cannot be read: {entry.path}: {error.strerror}"
                ) from None
            with source:
                _copy(source, file, entry)
        else:
            for chunk in _contents(entry.layer, archives[entry.layer], entry.source):
                file.write(chunk)
    os.chmod(path, entry.permissions)
    os.utime(path, (entry.modified, entry.modified))


def _copy(source: IO[bytes], file: IO[bytes], entry: _Entry) -> None:
    """Copy a file of a folder, which may have changed since it was looked at: not more than was counted."""
    left = entry.size
    while left and (chunk := source.read(min(left, _CHUNK))):
        file.write(chunk)
        left -= len(chunk)


def _contents(layer: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield a member's contents, which the library ends at the size that was counted."""
    try:
        with archive.open(member) as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise LayerError(f"the layer {layer!r} is damaged: {member.filename}: {error}") from None
