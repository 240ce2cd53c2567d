"""Documents, their transactions, older files and damaged ones."""

from __future__ import annotations

import random
import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloric.local.state import store as store_module
from caloric.local.state.errors import StateError
from caloric.local.state.store import TABLES, Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    yield store
    store.close()


DOCUMENTS = st.dictionaries(
    st.text(max_size=5),
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.lists(st.text()),
    max_size=4,
)


@settings(max_examples=50, deadline=None)
@given(
    writes=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.none() | DOCUMENTS), min_size=1, max_size=30
    )
)
def test_a_store_is_a_sorted_dictionary(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[str, int, dict[str, object] | None]]
) -> None:
    path = tmp_path_factory.mktemp("store") / "state.db"
    expected: dict[tuple[str, int], dict[str, object]] = {}
    store = Store(path)
    for name, version, document in writes:
        with store.write() as transaction:
            if document is None:
                removed = transaction.delete("version", name, version)
                assert removed == ((name, version) in expected)
                expected.pop((name, version), None)
            else:
                transaction.put("version", name, version, document=document)
                expected[name, version] = document
    for _ in range(2):
        with store.read() as transaction:
            assert dict(transaction.scan("version")) == expected
            assert transaction.keys("version") == sorted(expected)
            of_a = [key for key in sorted(expected) if key[0] == "a"]
            assert transaction.keys("version", "a") == of_a
            for key, document in expected.items():
                assert transaction.get("version", *key) == document
            page = [key for key, _ in transaction.scan("version", "a", after=5, limit=2)]
            assert page == [key for key in of_a if key[1] > 5][:2]
        store.close()
        store = Store(path)
    store.close()


def test_an_exception_leaves_everything_as_it_was(store: Store) -> None:
    with store.write() as transaction:
        transaction.put("function", "a", document={"is": "first"})

    def break_off() -> None:
        with store.write() as transaction:
            transaction.put("function", "a", document={"is": "second"})
            transaction.put("function", "b", document={})
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    with store.read() as transaction:
        assert transaction.scan("function") == [(("a",), {"is": "first"})]


def test_a_reader_sees_one_state(store: Store) -> None:
    with store.write() as transaction:
        transaction.put("function", "a", document={"is": 1})
    with store.read() as before:
        assert before.get("function", "a") == {"is": 1}
        with store.write() as transaction:
            transaction.put("function", "a", document={"is": 2})
        assert before.get("function", "a") == {"is": 1}
    with store.read() as after:
        assert after.get("function", "a") == {"is": 2}


def test_many_threads_count_without_losing_one(store: Store) -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for _ in range(50):
                with store.write() as transaction:
                    count = (transaction.get("counter", "all") or {"n": 0})["n"]
                    transaction.put("counter", "all", document={"n": count + 1})
                with store.read() as transaction:
                    assert (transaction.get("counter", "all") or {})["n"] > count
                if random.Random(seed).random() < 0.1:
                    with store.write() as transaction:
                        transaction.put("counter", f"{seed}", document={})
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with store.read() as transaction:
        assert transaction.get("counter", "all") == {"n": 400}
    # As many connections as were used at once, not one for each thread that ever was.
    assert 1 <= len(store._free) <= 8


def test_a_closed_store_says_so(store: Store) -> None:
    with store.read() as transaction:
        store.close()
        assert transaction.scan("function") == []
    with pytest.raises(StateError, match="is closed"), store.read():
        pass


# ---- older and later files -------------------------------------------------------------------------------------------


def split_names(connection: sqlite3.Connection) -> None:
    """A migration as there may be one: every function's name becomes two members."""
    for name, document in connection.execute("SELECT name, document FROM function").fetchall():
        first, _, last = name.partition("-")
        changed = document.replace("{", f'{{"first":"{first}","last":"{last}",', 1)
        connection.execute("UPDATE function SET document = ? WHERE name = ?", (changed, name))


def count_names(connection: sqlite3.Connection) -> None:
    [count] = connection.execute("SELECT count(*) FROM function").fetchone()
    connection.execute("INSERT INTO counter VALUES ('functions', ?)", (f'{{"n":{count}}}',))


def break_off(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM function")
    raise RuntimeError("in the middle")


@pytest.fixture
def old(path: Path) -> Path:
    """A file in the first form, as this version of Caloric writes it without migrations."""
    store = Store(path, migrations=())
    with store.write() as transaction:
        transaction.put("function", "a-b", document={"x": 1})
        transaction.put("function", "c-d", document={"x": 2})
    store.close()
    return path


def form(path: Path) -> int:
    connection = sqlite3.connect(path)
    [number] = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(number)


def test_an_old_file_gets_the_newest_form_once(old: Path) -> None:
    assert form(old) == 1
    for migrations in ((split_names,), (split_names, count_names), (split_names, count_names)):
        store = Store(old, migrations)
        with store.read() as transaction:
            assert transaction.get("function", "a-b") == {"first": "a", "last": "b", "x": 1}
            assert transaction.get("function", "c-d") == {"first": "c", "last": "d", "x": 2}
            assert transaction.get("counter", "functions") == ({"n": 2} if len(migrations) == 2 else None)
        store.close()
        assert form(old) == len(migrations) + 1


def test_a_new_file_has_the_newest_form(path: Path) -> None:
    store = Store(path, (break_off,))
    store.close()
    assert form(path) == 2


def test_a_migration_that_breaks_off_changes_nothing(old: Path) -> None:
    with pytest.raises(RuntimeError):
        Store(old, (split_names, break_off))
    assert form(old) == 1
    store = Store(old, ())
    with store.read() as transaction:
        assert transaction.scan("function") == [(("a-b",), {"x": 1}), (("c-d",), {"x": 2})]
    store.close()


def test_a_later_file_is_refused(old: Path) -> None:
    Store(old, (split_names, count_names)).close()
    with pytest.raises(StateError) as raised:
        Store(old, (split_names,))
    assert str(raised.value) == (
        f"{old} was written by a later version of Caloric (form 3; this one reads up to 2): "
        "upgrade Caloric, or start with another data directory"
    )


def test_a_new_table_needs_no_migration(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "novelty", ("name TEXT",))
    store = Store(old, ())
    with store.write() as transaction:
        transaction.put("novelty", "x", document={})
        assert transaction.keys("function") == [("a-b",), ("c-d",)]
    store.close()


# ---- damage ----------------------------------------------------------------------------------------------------------


def damaged(path: Path) -> str:
    def use() -> None:
        store = Store(path)
        try:
            with store.read() as transaction:
                for table in TABLES:
                    transaction.scan(table)
        finally:
            store.close()

    with pytest.raises(StateError) as raised:
        use()
    return str(raised.value)


def test_what_is_no_database_is_refused(path: Path) -> None:
    path.write_text("no database, and long enough for the header of one" * 100)
    assert damaged(path).startswith(f"{path} is damaged (file is not a database): restore it from a backup")


def test_a_damaged_file_is_refused(path: Path) -> None:
    store = Store(path)
    with store.write() as transaction:
        for number in range(500):
            transaction.put("function", f"f{number:03}", document={"x": "y" * 100})
    store.close()
    content = bytearray(path.read_bytes())
    for position in range(4096 * 2, len(content)):
        content[position] = 0xFF
    path.write_bytes(content)
    assert "is damaged" in damaged(path)


def test_a_damaged_document_is_named_as_damage(store: Store, path: Path) -> None:
    with store.write() as transaction:
        transaction._connection.execute("INSERT INTO function VALUES ('a', '{')")
    with pytest.raises(StateError, match=r"is damaged.*no JSON"), store.read() as transaction:
        transaction.get("function", "a")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"nowhere/state\.db cannot be used: unable to open database file"):
        Store(tmp_path / "nowhere" / "state.db")


def test_a_full_disk_is_an_error_and_no_damage(store: Store, path: Path) -> None:
    with store.write() as transaction:
        transaction.put("function", "a", document={})
    connection = store._free[-1]
    connection.execute("PRAGMA max_page_count = 1")
    with (
        pytest.raises(StateError, match="cannot be used: database or disk is full"),
        store.write() as transaction,
    ):
        transaction.put("function", "b", document={"x": "y" * 1_000_000})
    with store.write() as transaction:
        assert transaction.keys("function") == [("a",)]
        transaction.put("function", "c", document={})


def test_keys_have_the_columns_that_are_declared() -> None:
    for table, columns in TABLES.items():
        assert columns, table
        for column in columns:
            _, kind = column.split()
            assert kind in ("TEXT", "INTEGER")
    assert store_module._columns("version") == ["function", "version"]
