"""Texts that are kept for the next start, by name: the table `memo`."""

from sqlalchemy import Connection, select

from meterd.store.db.schema import memo


def memos(connection: Connection) -> dict[str, str]:
    """All memos: name -> text."""
    return {row.name: row.body for row in connection.execute(select(memo))}
