"""Documents that survive a restart, in one SQLite file.

A document is a JSON object with a key in a table. That is all the structure the service needs: AWS's resources are
documents by nature, looked up by name and listed in the order of their names.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import orjson

from caloric.local.state.errors import StateError
from caloric.local.state.migrations import MIGRATIONS, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from caloric.local.state.migrations import Migration

__all__ = ["TABLES", "Store", "Transaction"]

TABLES: dict[str, tuple[str, ...]] = {
    # There is a document as long as there is the function: its id, and what is set for it as a whole, such as Tags and
    # ReservedConcurrentExecutions. Configuration and code are those of its versions.
    "function": ("name TEXT",),
    # Version 0 is $LATEST. The members of the API's FunctionConfiguration, and some of ours (`service.configuration`).
    "version": ("function TEXT", "version INTEGER"),
    # The members of the API's AliasConfiguration but AliasArn.
    "alias": ("function TEXT", "name TEXT"),
    # Digest is that of the zip file among the blobs.
    "layer_version": ("layer TEXT", "version INTEGER"),
    # Of a function, one of its qualifiers, or a version of a layer: by the ARN they are attached to.
    "policy": ("arn TEXT",),
    "provisioned_concurrency": ("function TEXT", "qualifier TEXT"),
    "event_invoke_config": ("function TEXT", "qualifier TEXT"),
    "function_url": ("function TEXT", "qualifier TEXT"),
    "code_signing_config": ("arn TEXT",),
    # Numbers that are never given twice, such as a function's last version.
    "counter": ("name TEXT",),
}
"""Each table's key, column by column with its type."""


class Transaction:
    """Several reads, or reads and writes, that belong together. Documents are copies: changing one changes nothing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, table: str, *key: str | int) -> dict[str, Any] | None:
        """Return the document with this key."""
        row = self._connection.execute(
            f"SELECT document FROM {table} WHERE {_where(table, len(key))}", key
        ).fetchone()
        return None if row is None else _load(row[0])

    def put(self, table: str, *key: str | int, document: dict[str, Any]) -> None:
        """Write the document, in the place of one with the same key."""
        places = ", ".join("?" * (len(key) + 1))
        self._connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({places})", (*key, _dump(document)))

    def delete(self, table: str, *key: str | int) -> int:
        """Remove what the key, or the beginning of one, leads to; return how many documents."""
        return self._connection.execute(f"DELETE FROM {table} WHERE {_where(table, len(key))}", key).rowcount

    def scan(
        self, table: str, *prefix: str | int, after: str | int | None = None, limit: int = -1
    ) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Return up to `limit` keys and documents below `prefix`, in the order of their keys.

        With `after`, those whose next part of the key is greater than it.
        """
        columns = _columns(table)
        where = _where(table, len(prefix))
        values = list(prefix)
        if after is not None:
            where += f" AND {columns[len(prefix)]} > ?"
            values.append(after)
        order = ", ".join(columns)
        rows = self._connection.execute(
            f"SELECT {order}, document FROM {table} WHERE {where} ORDER BY {order} LIMIT ?", (*values, limit)
        )
        return [(tuple(row[:-1]), _load(row[-1])) for row in rows]

    def keys(self, table: str, *prefix: str | int) -> list[tuple[Any, ...]]:
        """Return all keys below `prefix` in their order, without reading the documents."""
        order = ", ".join(_columns(table))
        return self._connection.execute(
            f"SELECT {order} FROM {table} WHERE {_where(table, len(prefix))} ORDER BY {order}", prefix
        ).fetchall()

    def total(self, table: str, member: str) -> int:
        """Return the sum of a number over all documents, without reading them here; who has none counts as 0."""
        row = self._connection.execute(
            f"SELECT COALESCE(SUM(json_extract(document, ?)), 0) FROM {table}", (f"$.{member}",)
        ).fetchone()
        total: int = row[0]
        return total


class Store:
    """The documents in the file at `path`, which is made where it is not there.

    Any number of threads may read at once, and one writes. What `write` wrote is on the disk when it returns. There may
    be one `Store` per file, for which the data directory's lock is there.

    Everything raises `StateError` when the file is damaged, cannot be read or written, or was written by a later
    Caloric.
    """

    def __init__(self, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
        self._path = path
        self._free: list[sqlite3.Connection] = []
        """Connections that no transaction uses. Two threads never use one at once."""
        self._closed = False
        self._writing = threading.Lock()
        # It has the functions' environment variables. SQLite gives the files beside it the same permissions.
        with suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            with self.write() as transaction:
                connection = transaction._connection
                migrate(connection, path, migrations)
                for table, key in TABLES.items():
                    columns = ", ".join(f"{column} NOT NULL" for column in key)
                    connection.execute(
                        f"CREATE TABLE IF NOT EXISTS {table} ({columns}, document TEXT NOT NULL,"
                        f" PRIMARY KEY ({', '.join(_columns(table))}))"
                    )
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Read one state of the documents, whatever is written meanwhile."""
        with self._transaction("BEGIN") as transaction:
            yield transaction

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Read and write; an exception leaves everything as it was."""
        with self._writing, self._transaction("BEGIN IMMEDIATE") as transaction:
            yield transaction

    def close(self) -> None:
        """Close the file. What is being read or written goes on to its end; nothing can be begun any more."""
        self._closed = True
        while self._free:
            with suppress(IndexError, sqlite3.Error):
                self._free.pop().close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Transaction]:
        with self._errors():
            connection = self._connection()
            try:
                connection.execute(begin)
                try:
                    yield Transaction(connection)
                except BaseException:
                    # SQLite may have done it already, after an error of its own.
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except sqlite3.Error:
                # Whatever state it is in: the next transaction has a new one.
                connection.close()
                raise
            except BaseException:
                self._release(connection)
                raise
            self._release(connection)

    def _connection(self) -> sqlite3.Connection:
        if self._closed:
            raise StateError(f"{self._path} is closed")
        with suppress(IndexError):
            return self._free.pop()
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # What was acknowledged survives a power failure, not just the end of the process.
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _release(self, connection: sqlite3.Connection) -> None:
        self._free.append(connection)
        if self._closed:
            self.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.OperationalError):
                raise StateError(f"{self._path} cannot be used: {error}") from error
            raise StateError(
                f"{self._path} is damaged ({error}): restore it from a backup, or start with another data directory"
            ) from error


def _columns(table: str) -> list[str]:
    return [column.split()[0] for column in TABLES[table]]


def _where(table: str, parts: int) -> str:
    return " AND ".join(f"{column} = ?" for column in _columns(table)[:parts]) or "TRUE"


def _dump(document: dict[str, Any]) -> str:
    return orjson.dumps(document).decode()


def _load(text: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = orjson.loads(text)
    except ValueError as error:
        raise sqlite3.DatabaseError(f"a document is no JSON: {error}") from None
    return document
