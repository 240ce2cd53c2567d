"""Which form the documents in a file have, and how older files get it.

A file carries the number of its form in SQLite's `user_version`. A new table needs no new form: tables that are missing
are made whenever a file is opened. What changes the documents of a table appends a function to `MIGRATIONS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from caloric.local.state.errors import StateError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["MIGRATIONS", "Migration", "migrate"]

Migration: TypeAlias = "Callable[[sqlite3.Connection], None]"

MIGRATIONS: tuple[Migration, ...] = ()
"""The first turns form 1 into form 2, and so on. They run inside a transaction and see the tables as they were."""


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Give the documents the newest form, inside the transaction that `connection` is in.

    Raises:
        StateError: when the file was written by a later Caloric.
    """
    newest = len(migrations) + 1
    [form] = connection.execute("PRAGMA user_version").fetchone()
    if form > newest:
        raise StateError(
            f"{path} was written by a later version of Caloric (form {form}; this one reads up to {newest}): "
            "upgrade Caloric, or start with another data directory"
        )
    # A new file has form 0, and nothing in it.
    for migration in migrations[form - 1 :] if form else ():
        migration(connection)
    if form != newest:
        connection.execute(f"PRAGMA user_version = {newest}")
