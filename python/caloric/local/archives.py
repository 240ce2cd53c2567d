"""Folders and zip files, unpacked and merged into one folder: layers, and the code of functions.

What is in an archive was often downloaded, so it is looked at as a whole before anything is written, and nothing is
written or found outside the folder: no path leads out, no link does, and no file is larger than it says.
"""

from __future__ import annotations

import os
import stat
import time
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "MAX_ENTRIES",
    "MAX_SIZE",
    "ArchiveError",
    "Entry",
    "Folder",
    "MergedArchives",
    "NotAnArchiveError",
    "TooLargeError",
]

MAX_SIZE = 262_144_000
"""So many bytes a function and its layers may have together, unzipped: AWS's 250 MB (spec lambda-service 0.6)."""

MAX_ENTRIES = 100_000
"""So many files, folders and links they may have together: a limit of ours."""

_CHUNK = 1 << 20


class ArchiveError(Exception):
    """An archive cannot be used."""

    def __init__(self, archive: str, problem: str) -> None:
        super().__init__(f"{archive} {problem}")
        self.archive = archive
        """Its path."""
        self.problem = problem
        """The rest of the sentence."""


class NotAnArchiveError(ArchiveError):
    """It is neither a folder nor a zip file."""


class TooLargeError(ArchiveError):
    """With this archive they have more bytes, or more entries, than they may; `limit` says which."""

    def __init__(self, archive: str, limit: str) -> None:
        super().__init__(archive, f"exceeds {limit}")
        self.limit = limit


class Entry(NamedTuple):
    """A file, folder or link of an archive."""

    path: str
    kind: int
    """As in a file's mode: S_IFREG, S_IFDIR or S_IFLNK."""
    permissions: int
    modified: float
    size: int
    link: str
    archive: str
    source: zipfile.ZipInfo | str
    """Where the contents are: a member of a zip file, or a file."""


class MergedArchives:
    """Folders and zip files as one; later ones win.

    Folders merge; a file takes the place of what has its name in an earlier archive, or earlier in the same one.

    Raises `ArchiveError` when an archive is not there or cannot be read, when it has a path that leads outside, a
    device or an encrypted file, and when they exceed `MAX_SIZE` or `MAX_ENTRIES`.
    """

    def __init__(self, archives: Sequence[str]) -> None:
        self.root = Folder()
        self.size = 0
        """In bytes, unzipped; what a later archive takes the place of counts too."""
        self._archives: dict[str, zipfile.ZipFile] = {}
        count = 0
        try:
            for archive in archives:
                for entry in self._entries(archive):
                    self.size, count = self.size + entry.size, count + 1
                    if self.size > MAX_SIZE:
                        raise TooLargeError(archive, f"{MAX_SIZE} bytes (250 MB) unzipped")
                    if count > MAX_ENTRIES:
                        raise TooLargeError(archive, f"{MAX_ENTRIES} files")
                    _merge(self.root, entry)
        except BaseException:
            self.close()
            raise

    def entries(self) -> Iterator[Entry]:
        """Yield what `unpack` would write: every file and link, and the folders that an archive has an entry for."""
        waiting = [self.root]
        while waiting:
            for member in waiting.pop().members.values():
                if not isinstance(member, Folder):
                    yield member
                    continue
                waiting.append(member)
                if member.entry is not None:
                    yield member.entry

    def _entries(self, archive: str) -> Iterator[Entry]:
        if os.path.isdir(archive):
            return _of_folder(archive)
        if archive not in self._archives:
            self._archives[archive] = _open(archive)
        return _of_zip(archive, self._archives[archive])

    def unpack(self, target: str) -> None:
        """Write everything into the empty folder `target`, once. Permissions and times are kept.

        Raises `ArchiveError` when a file is damaged, and for a link that leads outside, and `OSError` when one cannot
        be written. What was written before is left behind then.
        """
        try:
            _write(self.root, self._archives, target)
        finally:
            self.close()

    def close(self) -> None:
        """Close the zip files; what was learned of them stays."""
        for archive in self._archives.values():
            archive.close()


# ---- what is in an archive -------------------------------------------------------------------------------------------


def _open(source: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except OSError as error:
        raise ArchiveError(source, f"cannot be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise NotAnArchiveError(source, f"is neither a folder nor a zip file: {error}") from None


def _of_zip(source: str, archive: zipfile.ZipFile) -> Iterator[Entry]:
    for member in archive.infolist():
        # What the file itself says: the library cuts names at a NUL.
        path = _checked(source, member.orig_filename.removesuffix("/"))
        mode = member.external_attr >> 16
        kind = stat.S_IFDIR if member.is_dir() else stat.S_IFMT(mode) or stat.S_IFREG
        if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            raise ArchiveError(source, f"has {path!r}, which is no file, folder or link")
        if member.flag_bits & 1:
            raise ArchiveError(source, f"has {path!r}, which is encrypted")
        size, link = member.file_size, ""
        if kind == stat.S_IFLNK:
            if size > 4096:
                raise ArchiveError(source, f"has the link {path!r}, whose target is too long")
            link = os.fsdecode(b"".join(_contents(source, archive, member)))
        try:
            modified = time.mktime((*member.date_time, 0, 0, -1))
        except (ValueError, OverflowError):
            modified = 0.0
        permissions = mode & 0o777 or (0o755 if kind == stat.S_IFDIR else 0o644)
        yield Entry(path, kind, permissions, modified, size, link, source, member)


def _of_folder(source: str) -> Iterator[Entry]:
    folders = [""]
    try:
        while folders:
            parent = folders.pop()
            with os.scandir(os.path.join(source, parent)) as listed:
                found = list(listed)
            for item in found:
                path = os.path.join(parent, item.name)
                status = item.stat(follow_symlinks=False)
                kind = stat.S_IFMT(status.st_mode)
                if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                    raise ArchiveError(source, f"has {path!r}, which is no file, folder or link")
                link = os.readlink(item.path) if kind == stat.S_IFLNK else ""
                size = status.st_size if kind == stat.S_IFREG else 0
                permissions = status.st_mode & 0o777
                yield Entry(path, kind, permissions, status.st_mtime, size, link, source, item.path)
                if kind == stat.S_IFDIR:
                    folders.append(path)
    except OSError as error:
        raise ArchiveError(source, f"cannot be read: {error.filename}: {error.strerror}") from None


def _checked(source: str, path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise ArchiveError(source, f"has the path {path!r}, which leads outside")
    # As zip programs read them: a/./b and a//b are a/b.
    return "/".join(part for part in parts if part not in ("", "."))


# ---- merging and writing ---------------------------------------------------------------------------------------------


class Folder:
    """A folder of the merged tree; `entry` is the last archive's that has one for it."""

    def __init__(self, entry: Entry | None = None) -> None:
        self.entry = entry
        self.members: dict[str, Folder | Entry] = {}


def _merge(root: Folder, entry: Entry) -> None:
    *parents, name = entry.path.split("/")
    if not name:
        return
    folder = root
    for parent in parents:
        # In place of what an earlier archive has there, unless that is a folder too.
        member = folder.members.get(parent)
        if not isinstance(member, Folder):
            member = folder.members[parent] = Folder()
        folder = member
    member = folder.members.get(name)
    if entry.kind != stat.S_IFDIR:
        folder.members[name] = entry
    elif isinstance(member, Folder):
        member.entry = entry
    else:
        folder.members[name] = Folder(entry)


def _write(root: Folder, archives: dict[str, zipfile.ZipFile], target: str) -> None:
    links: list[tuple[str, Entry]] = []
    folders: list[tuple[str, Entry]] = []
    waiting = [(target, root)]
    while waiting:
        place, folder = waiting.pop()
        for name, member in folder.members.items():
            path = os.path.join(place, name)
            if isinstance(member, Folder):
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
            raise ArchiveError(
                entry.archive, f"has the link {entry.path!r} to {entry.link!r}, which leads outside"
            )
    # A folder that may not be written to is filled by now; the inner ones first, since they change the outer ones.
    for path, entry in reversed(folders):
        os.chmod(path, entry.permissions | stat.S_IRWXU)
        os.utime(path, (entry.modified, entry.modified))


def _write_file(path: str, entry: Entry, archives: dict[str, zipfile.ZipFile]) -> None:
    with open(path, "xb") as file:
        if isinstance(entry.source, str):
            try:
                source = open(entry.source, "rb")  # noqa: SIM115
            except OSError as error:
                raise ArchiveError(entry.archive, f"cannot be read: {entry.path}: {error.strerror}") from None
            with source:
                _copy(source, file, entry)
        else:
            for chunk in _contents(entry.archive, archives[entry.archive], entry.source):
                file.write(chunk)
    os.chmod(path, entry.permissions)
    os.utime(path, (entry.modified, entry.modified))


def _copy(source: IO[bytes], file: IO[bytes], entry: Entry) -> None:
    """Copy a file of a folder, which may have changed since it was looked at: not more than was counted."""
    left = entry.size
    while left and (chunk := source.read(min(left, _CHUNK))):
        file.write(chunk)
        left -= len(chunk)


def _contents(source: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield a member's contents, which the library ends at the size that was counted."""
    try:
        with archive.open(member) as contents:
            while chunk := contents.read(_CHUNK):
                yield chunk
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ArchiveError(source, f"is damaged: {member.filename}: {error}") from None
