"""Statements that every dialect understands, in pieces that it takes."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, delete, insert

CHUNK = 500  # ids in one statement

Row = dict[str, Any]


def insert_rows(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if rows:
        connection.execute(insert(table), list(rows))


def delete_keys(connection: Connection, table: Table, key: str, keys: Sequence[object]) -> None:
    for start in range(0, len(keys), CHUNK):
        some = keys[start : start + CHUNK]
        connection.execute(delete(table).where(table.c[key].in_(some)))


def replace_rows(connection: Connection, table: Table, key: str, rows: Sequence[Row]) -> None:
    # An upsert has three dialects, a delete before the insert one.
    delete_keys(connection, table, key, [row[key] for row in rows])
    insert_rows(connection, table, rows)
