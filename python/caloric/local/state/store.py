"""Documents that survive a restart, in one SQLite file.

A document is a JSON object with a key in a table. That is all the structure the service needs: AWS's resources are
documents by nature, looked up by name and listed in the order of their names.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["TABLES", "Store", "Transaction"]

TABLES: dict[str, tuple[str, ...]] = {
    # There is a document as long as there is the function: its id, and what is set for it as a whole, such as Tags and
    # ReservedConcurrentExecutions. Configuration and code are those of its versions.
    "function": ("name TEXT",),
    # Version 0 is $LATEST. The members are those of `service.configuration.VersionDocument`.
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
        return None if row is None else json.loads(row[0])

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
        return [(tuple(row[:-1]), json.loads(row[-1])) for row in rows]


class Store:
    """The documents in the file at `path`, which is made where it is not there.

    Any number of threads may read at once, and one writes. What `write` wrote is on the disk when it returns.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._writing = threading.Lock()
        with self.write() as transaction:
            for table, key in TABLES.items():
                columns = ", ".join(f"{column} NOT NULL" for column in key)
                transaction._connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} ({columns}, document TEXT NOT NULL,"
                    f" PRIMARY KEY ({', '.join(_columns(table))})) WITHOUT ROWID"
                )

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

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Transaction]:
        connection = self._connection()
        connection.execute(begin)
        try:
            yield Transaction(connection)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            self._local.connection = connection
        return connection


def _columns(table: str) -> list[str]:
    return [column.split()[0] for column in TABLES[table]]


def _where(table: str, parts: int) -> str:
    return " AND ".join(f"{column} = ?" for column in _columns(table)[:parts]) or "TRUE"


def _dump(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
