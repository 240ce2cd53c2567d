"""Files by their content, and which of them are removed."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import pytest

from caloric.local.state.blobs import Blobs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def kept(blobs: Blobs) -> set[str]:
    return {path.name for path in blobs.folder.iterdir()}


def test_content_is_kept_once_by_its_digest(blobs: Blobs) -> None:
    digest = blobs.add(b"content")
    assert digest == hashlib.sha256(b"content").hexdigest() == blobs.add(b"content")
    assert blobs.path(digest).read_bytes() == b"content"
    assert kept(blobs) == {digest}


def test_what_nothing_refers_to_is_removed(blobs: Blobs) -> None:
    a, b, c = (blobs.add(content) for content in (b"a", b"b", b"c"))
    assert blobs.collect(lambda: {b, "gone"}) == 2
    assert kept(blobs) == {b}
    assert blobs.add(b"a") == a
    assert kept(blobs) == {a, b}
    assert c not in kept(blobs)


def test_what_is_being_added_is_spared(blobs: Blobs) -> None:
    with blobs.adding(b"a") as digest:
        assert blobs.collect(set) == 0
        with blobs.adding(b"a"):
            pass
        assert blobs.collect(set) == 0
        assert kept(blobs) == {digest}
    assert blobs.collect(set) == 1


def test_what_came_to_a_document_during_a_collection_is_spared(blobs: Blobs) -> None:
    digest = blobs.add(b"a")

    def referenced() -> set[str]:
        # Read before the document is written, which another thread does now.
        with blobs.adding(b"a"):
            pass
        with blobs.adding(b"new"):
            pass
        return set()

    assert blobs.collect(referenced) == 0
    assert kept(blobs) == {digest, hashlib.sha256(b"new").hexdigest()}


def test_an_exception_while_adding_is_no_reference(blobs: Blobs) -> None:
    with pytest.raises(KeyError), blobs.adding(b"a"):
        raise KeyError
    assert blobs.collect(set) == 1


def test_what_a_killed_process_left_is_removed(blobs: Blobs) -> None:
    (blobs.folder / ".new-x").write_bytes(b"half")
    digest = blobs.add(b"a")
    assert kept(Blobs(blobs.folder)) == {digest}


def test_threads_that_add_and_collect(blobs: Blobs) -> None:
    contents = [b"%d" % number for number in range(4)]
    documents: dict[str, int] = {}
    lock = threading.Lock()
    failures: list[str] = []

    def referenced() -> set[str]:
        with lock:
            return set(documents)

    def add(content: bytes) -> None:
        for _ in range(100):
            with blobs.adding(content) as digest, lock:
                documents[digest] = documents.get(digest, 0) + 1
            if blobs.path(digest).read_bytes() != content:
                failures.append(digest)
            with lock:
                documents[digest] -= 1
                if not documents[digest]:
                    del documents[digest]
            blobs.collect(referenced)

    def guarded(content: bytes) -> None:
        try:
            add(content)
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(content,)) for content in contents * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    blobs.collect(set)
    assert kept(blobs) == set()
