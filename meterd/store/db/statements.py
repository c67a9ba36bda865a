"""Statements that every dialect understands, in pieces that it takes."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Insert, Table, delete, insert

CHUNK = 500  # ids in one statement

Row = dict[str, Any]


def insert_rows(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if rows:
        connection.execute(insert(table), list(rows))


def delete_keys(connection: Connection, table: Table, key: str, keys: Sequence[object]) -> None:
    for start in range(0, len(keys), CHUNK):
        some = keys[start : start + CHUNK]
        connection.execute(delete(table).where(table.c[key].in_(some)))


def replace_rows(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Inserts rows, replacing those with the same key."""
    if rows:
        connection.execute(_upsert(table, connection.dialect.name), list(rows))


@cache
def _upsert(table: Table, dialect: str) -> Insert:
    keys = [column.name for column in table.primary_key]
    names = [column.name for column in table.columns if column.name not in keys]
    if dialect == "sqlite":
        return insert(table).prefix_with("OR REPLACE")
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        made = postgresql.insert(table)
        if not names:
            return made.on_conflict_do_nothing(index_elements=keys)
        told = {name: made.excluded[name] for name in names}
        return made.on_conflict_do_update(index_elements=keys, set_=told)
    from sqlalchemy.dialects import mysql

    row = mysql.insert(table)
    return row.on_duplicate_key_update({name: row.inserted[name] for name in names or keys})
