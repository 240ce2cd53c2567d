"""Log groups and log streams as files in the data directory.

A stream is one execution environment's (spec lambda-service 2.9): what the function prints and the platform's lines, in
one order. The endpoint writes to the stream's file by a descriptor, without Python on the way. A stream that has grown
too large begins a new file and keeps one older; groups forget their oldest streams. So the disk that logs take is
bounded, up to what is written between two looks (`LogStreams.look_after`).

Any number of processes may read while one writes: `tail` and `follow` need the files and nothing else.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LogLine", "LogStream", "LogStreams"]

_ENDING = ".log"
_OLDER = ".log.1"
_NAME_FILE = ".name"
_TAIL_BYTES = 1 << 20


@dataclass(frozen=True)
class LogLine:
    """A line of a log, without its line end."""

    stream: str
    text: str


class LogStream:
    """One stream's file, open for writing.

    `descriptor` is for the endpoint: it stays the same when the file is replaced by a new one, and it is open until
    `close`.
    """

    def __init__(self, path: Path, group: str, name: str) -> None:
        self.group = group
        self.name = name
        self.path = path
        self.descriptor = _open_to_append(path)

    def write(self, text: bytes) -> None:
        """Write all of it. A disk that is full is no reason to fail."""
        try:
            while text:
                text = text[os.write(self.descriptor, text) :]
        except OSError:
            pass

    def rotate(self, limit: int) -> None:
        """Begin a new file if this one has more than `limit` bytes; the old one is kept in place of the one before."""
        size = os.fstat(self.descriptor).st_size
        if size <= limit:
            return
        older = _older(self.path)
        os.rename(self.path, older)
        new = _open_to_append(self.path)
        try:
            # One step: what the endpoint writes meanwhile goes to the one file or to the other.
            os.dup2(new, self.descriptor, inheritable=False)
        finally:
            os.close(new)
        if size > 2 * limit:
            _keep_end(older, limit)

    def close(self) -> None:
        """Close the descriptor. Nobody may write to it any more."""
        os.close(self.descriptor)


class LogStreams:
    """The log groups below `folder`, which need not be there.

    A stream has two files of up to `stream_bytes`, and a group has up to `group_streams` streams with `group_bytes`
    together, those that are open aside. Safe for threads.
    """

    def __init__(
        self,
        folder: Path,
        *,
        stream_bytes: int = 8 << 20,
        group_bytes: int = 64 << 20,
        group_streams: int = 200,
    ) -> None:
        self._folder = folder
        self._stream_bytes = stream_bytes
        self._group_bytes = group_bytes
        self._group_streams = group_streams
        self._lock = threading.Lock()
        self._live: set[LogStream] = set()
        self._grown: set[str] = set()

    # ---- writing ---------------------------------------------------------------------------------------------------

    def open(self, group: str, name: str) -> LogStream:
        """Open the stream `name` of `group`; both are made where they are not there. `close` ends it.

        Raises `OSError`.
        """
        folder = self._group_folder(group)
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _NAME_FILE).write_text(group, encoding="utf-8")
        stream = LogStream(folder / _file_name(name), group, name)
        with self._lock:
            self._live.add(stream)
            self._grown.add(group)
        return stream

    def close(self, stream: LogStream) -> None:
        """Close a stream. Its files stay."""
        with self._lock:
            if stream not in self._live:
                return
            self._live.discard(stream)
            self._grown.add(stream.group)
        stream.close()

    def look_after(self) -> None:
        """Begin new files where streams have grown too large, and forget the oldest streams of full groups.

        To be called every now and then, by one thread.
        """
        with self._lock:
            grown, self._grown = self._grown, set()
            for stream in self._live:
                try:
                    stream.rotate(self._stream_bytes)
                except OSError:
                    # Somebody has removed the folder, or the disk is full: it goes on where it is.
                    continue
            kept = {stream.path.name.removesuffix(_ENDING) for stream in self._live}
        for group in grown:
            self._forget_oldest(self._group_folder(group), kept)

    def _forget_oldest(self, folder: Path, kept: set[str]) -> None:
        streams = _stream_files(folder)
        total = sum(size for _, size, _ in streams.values())
        count = len(streams)
        for stem, (_, size, files) in sorted(streams.items(), key=lambda item: item[1][0]):
            if total <= self._group_bytes and count <= self._group_streams:
                return
            if stem in kept:
                continue
            for file in files:
                file.unlink(missing_ok=True)
            total, count = total - size, count - 1

    # ---- reading ---------------------------------------------------------------------------------------------------

    def groups(self) -> list[str]:
        """Return the names of all groups, sorted."""
        names = self._folder.glob(f"*/{_NAME_FILE}")
        return sorted(name.read_text(encoding="utf-8") for name in names)

    def streams(self, group: str, function_name: str | None = None) -> list[str]:
        """Return the names of a group's streams, the one that was written to last at the end.

        With `function_name`, those of this function, where the group is shared.
        """
        found = _stream_files(self._group_folder(group))
        ordered = sorted(found, key=lambda stem: found[stem][0])
        names = [unquote(stem) for stem in ordered]
        return [name for name in names if _is_of(name, function_name)]

    def tail(self, group: str, lines: int, function_name: str | None = None) -> list[LogLine]:
        """Return the last lines of a group: of the stream written to last, and before them those of the others.

        Lines have no times of their own, so streams follow each other whole.
        """
        found: list[LogLine] = []
        for name in reversed(self.streams(group, function_name)):
            missing = lines - len(found)
            if missing <= 0:
                break
            found[:0] = [LogLine(name, line) for line in self._last_lines(group, name, missing)]
        return found

    def _last_lines(self, group: str, name: str, count: int) -> list[str]:
        path = self._group_folder(group) / _file_name(name)
        text = _end_of(path)
        older = _older(path)
        if text.count(b"\n") < count and older.exists():
            text = _end_of(older) + text
        return [line.decode(errors="replace") for line in text.splitlines()[-count:]]

    def follow(
        self,
        group: str,
        function_name: str | None = None,
        *,
        lines: int = 10,
        stop: Callable[[], bool] = lambda: False,
        poll_s: float = 0.1,
    ) -> Iterator[LogLine]:
        """Yield the last `lines` lines of a group, then what is written from now on, stream by stream, until `stop()`.

        The group need not be there yet. Only whole lines are yielded, and the rest of a line when its file is replaced.
        """
        readers: dict[str, _Reader] = {}
        try:
            for name in self.streams(group, function_name):
                # From here on: what `tail` gives may be written to meanwhile, and a line is not to be lost.
                readers[name] = _Reader(self._group_folder(group) / _file_name(name), at_end=True)
            before = self._before(readers, lines)
            yield from before
            while True:
                stopping = stop()
                for name in self.streams(group, function_name):
                    if name not in readers:
                        readers[name] = _Reader(self._group_folder(group) / _file_name(name), at_end=False)
                for name in list(readers):
                    for line in readers[name].read():
                        yield LogLine(name, line)
                    if readers[name].gone:
                        readers.pop(name).close()
                if stopping:
                    return
                time.sleep(poll_s)
        finally:
            for reader in readers.values():
                reader.close()

    def _before(self, readers: dict[str, _Reader], lines: int) -> list[LogLine]:
        """Return the last lines before the places where the readers begin."""
        found: list[LogLine] = []
        for name in reversed(list(readers)):
            missing = lines - len(found)
            if missing <= 0:
                break
            found[:0] = [LogLine(name, line) for line in readers[name].before(missing)]
        return found

    def _group_folder(self, group: str) -> Path:
        name = quote(group, safe="")
        if len(name) > 200:
            import hashlib

            # Longer than a file's name may be; `_NAME_FILE` has it whole.
            name = f"{name[:120]}-{hashlib.sha256(group.encode()).hexdigest()[:32]}"
        return self._folder / name


class _Reader:
    """A stream's file as it grows, and the one after it when it is replaced."""

    def __init__(self, path: Path, *, at_end: bool) -> None:
        self._path = path
        self._file = _opened(path)
        self._rest = b""
        self._replaced = False
        self._between = False
        self.gone = False
        if at_end and self._file is not None:
            end = self._file.seek(0, os.SEEK_END)
            # At the beginning of a line: the rest of one that is being written is read again.
            self._file.seek(max(0, end - _TAIL_BYTES))
            text = self._file.read(min(end, _TAIL_BYTES))
            self._file.seek(end - (len(text) - text.rfind(b"\n") - 1))
        self._start = 0 if self._file is None else self._file.tell()

    def before(self, count: int) -> list[str]:
        """Return the last lines before the place where it began."""
        if self._file is None:
            return []
        begin = max(0, self._start - _TAIL_BYTES)
        text = os.pread(self._file.fileno(), self._start - begin, begin)
        return [line.decode(errors="replace") for line in text.splitlines()[-count:]]

    def read(self) -> Iterator[str]:
        """Yield the lines that were written since the last call."""
        file = self._file = self._file or _opened(self._path)
        if file is None:
            self.gone = True
            return
        text = self._rest + file.read()
        *lines, self._rest = text.split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
        if self._replaced:
            # One look after it was seen to be replaced: nothing more comes.
            if self._rest:
                yield self._rest.decode(errors="replace")
            self._rest, self._replaced = b"", False
            self._file = self._next_after(file)
            file.close()
        elif self._between:
            # Nobody writes to it any more.
            self._replaced = True
        else:
            try:
                self._replaced = os.stat(self._path).st_ino != os.fstat(file.fileno()).st_ino
            except OSError:
                # At this moment, or for good: `_next_after` finds out.
                self._replaced = True

    def _next_after(self, file: IO[bytes]) -> IO[bytes] | None:
        """Return the file that comes after this one, which may have been replaced itself since."""
        older = _opened(_older(self._path))
        self._between = older is not None and not os.path.samestat(
            os.fstat(older.fileno()), os.fstat(file.fileno())
        )
        if self._between:
            return older
        if older is not None:
            older.close()
        return _opened(self._path)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _older(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(_ENDING) + _OLDER)


def _is_of(stream: str, function_name: str | None) -> bool:
    """Return whether a stream is this function's. Names without a function are of groups that one function has."""
    if function_name is None:
        return True
    owner = stream.rpartition("/")[2].partition("[")[0]
    return owner in ("", function_name)


def _file_name(stream: str) -> str:
    return quote(stream, safe="[]$") + _ENDING


def _stream_files(folder: Path) -> dict[str, tuple[int, int, list[Path]]]:
    """Return when each stream was last written to, its size, and its files."""
    found: dict[str, tuple[int, int, list[Path]]] = {}
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return {}
    for entry in entries:
        stem = entry.name.removesuffix(_OLDER).removesuffix(_ENDING)
        if stem == entry.name:
            continue
        try:
            status = entry.stat()
        except OSError:
            # Forgotten meanwhile.
            continue
        time_ns, size, files = found.get(stem, (0, 0, []))
        found[stem] = (
            max(time_ns, status.st_mtime_ns),
            size + status.st_size,
            [*files, Path(entry.path)],
        )
    return found


def _opened(path: Path) -> IO[bytes] | None:
    try:
        return open(path, "rb")
    except OSError:
        return None


def _open_to_append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _keep_end(path: Path, size: int) -> None:
    """Keep the last `size` bytes, from the beginning of a line. Nobody writes to it.

    It stays the same file, by which readers know it.
    """
    text = _end_of(path, size)
    text = text[text.find(b"\n") + 1 :]
    with open(path, "r+b") as file:
        file.write(text)
        file.truncate()


def _end_of(path: Path, size: int = _TAIL_BYTES) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read()
    except OSError:
        return b""
