"""Whether a SQLite file has the tables of a store and nothing besides: what somebody put into a
backup, a trigger for instance, would run in the store that it becomes."""

import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from meterd.store.db import migrate
from meterd.store.db import store_url as databases

# What ANALYZE and AUTOINCREMENT leave.
_SQLITES_OWN = re.compile(r"sqlite_(stat[134]|sequence)")
_SPACE = re.compile(r"\s+")


class _Shape(NamedTuple):
    """By name: columns of tables, columns of indexes by table, and the SQL of views."""

    tables: dict[str, frozenset[tuple[object, ...]]]
    indexes: dict[str, frozenset[tuple[object, ...]]]
    views: dict[str, str]
    others: dict[str, str]  # triggers, virtual tables: by name, what they are
    checks: dict[str, int]


def schema_differences(path: Path, version: str) -> Iterator[str]:
    """What a file of this schema has, and a store has not, or the reverse; a sentence each.

    Raises sqlite3.Error where it cannot be read.
    """
    with closing(_opened(path)) as connection:
        theirs = _shape(connection)
    ours = _ours(version)
    yield from (f"it has the {kind} {name!r}" for name, kind in theirs.others.items())
    for name in sorted(theirs.tables.keys() | ours.tables.keys()):
        yield from _table(name, theirs, ours)
    for name, sql in theirs.views.items():
        if ours.views.get(name) != sql:
            yield f"it has the view {name!r}, which is none of a store's"


def _table(name: str, theirs: _Shape, ours: _Shape) -> Iterator[str]:
    if name not in ours.tables:
        yield f"it has the table {name!r}, which is none of a store's"
    elif name not in theirs.tables:
        yield f"it lacks the table {name!r}"
    elif theirs.tables[name] != ours.tables[name] or theirs.checks[name] != ours.checks[name]:
        yield f"the columns of its table {name!r} are not a store's"
    elif theirs.indexes[name] != ours.indexes[name]:
        yield f"the indexes of its table {name!r} are not a store's"


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
    # Nothing that the file says is run while it is looked at.
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


@cache
def _ours(version: str) -> _Shape:
    """Made by the migrations themselves, in a database of its own."""
    with tempfile.TemporaryDirectory(prefix="meterd-shape-") as folder:
        path = Path(folder) / "store.db"
        migrate.make(databases.find(f"sqlite:///{path}"), version)
        with closing(_opened(path)) as connection:
            return _shape(connection)


def _shape(connection: sqlite3.Connection) -> _Shape:
    shape = _Shape({}, {}, {}, {}, {})
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    for kind, name, sql in rows:
        text = _SPACE.sub(" ", str(sql or "")).strip()
        if kind == "view":
            shape.views[name] = text
        elif kind == "trigger" or text.upper().startswith("CREATE VIRTUAL"):
            shape.others[name] = "trigger" if kind == "trigger" else "virtual table"
        elif kind == "table" and not _SQLITES_OWN.fullmatch(name):
            shape.tables[name] = frozenset(_columns(connection, name))
            shape.indexes[name] = frozenset(_indexes(connection, name))
            shape.checks[name] = len(re.findall(r"\bCHECK\b", text, re.IGNORECASE))
    return shape


def _columns(connection: sqlite3.Connection, table: str) -> Iterator[tuple[object, ...]]:
    # name, type, not null, default, place in the key, hidden (2 and 3: generated)
    statement = (
        'SELECT name, upper(type), "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)'
    )
    yield from connection.execute(statement, (table,))


def _indexes(connection: sqlite3.Connection, table: str) -> Iterator[tuple[object, ...]]:
    statement = 'SELECT name, "unique", origin, partial FROM pragma_index_list(?)'
    for name, *rest in connection.execute(statement, (table,)).fetchall():
        columns = connection.execute("SELECT name FROM pragma_index_info(?)", (name,)).fetchall()
        yield (*rest, *(column for (column,) in columns))
