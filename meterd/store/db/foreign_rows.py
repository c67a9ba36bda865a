"""Finds and quarantines rows that meterd cannot have written: types, owners or keys are wrong.

SQLite keeps a text where a number belongs, and holds no row to another one's key. Such a row is
kept as a file of its own, `meterd.damaged-TABLE-KEY`, and mended where the rest of the store says
what it was; else it goes. It never keeps the rest from being read or written.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Double, LargeBinary, String, Table, Text
from sqlalchemy import Integer as Whole

from meterd.errors import StoreError
from meterd.model.quantity import Kind, describe
from meterd.store.blocks import block as blocks
from meterd.store.blocks.quality_codes import QUALITIES
from meterd.store.blocks.slicing import DAY, HOUR
from meterd.store.db.keys import (
    DAY_BITS,
    DEVICE_BITS,
    MOST_BLOCK_ID,
    MOST_DEVICES,
    MOST_TIME,
    block_id,
    dirty_id,
    series_day,
)
from meterd.store.db.quarantine import quarantine_file
from meterd.store.db.schema import SMALL, TABLES, device, sample, series

_MOST_SERIES = 1 << 42  # id << 20 has to fit into 63 bits

NAMES: tuple[Table, ...] = (device, series)

_KINDS = ", ".join(f"'{kind}'" for kind in Kind)
_NO_DEVICE = "there is no device of its device_id"
_NO_KIND, _NO_FIRST = "its kind is none", "its first is no time"
_KINDLESS = {_NO_KIND, "its kind is no text", "its kind is no UTF-8"}
_FIRSTLESS = {_NO_FIRST, "its first is no integer"}
_KNOWN_SERIES = "NOT IN (SELECT id FROM series)"
# What is wrong beyond types, in SQL, and how it is told.
_RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "device": ((f"id NOT BETWEEN 1 AND {MOST_DEVICES - 1}", "its id is out of range"),),
    "series": (
        (f"id NOT BETWEEN 1 AND {_MOST_SERIES}", "its id is out of range"),
        (f"device_id NOT BETWEEN 1 AND {MOST_DEVICES - 1}", "its device_id is out of range"),
        ("device_id NOT IN (SELECT id FROM device)", _NO_DEVICE),
        (f"kind NOT IN ({_KINDS})", _NO_KIND),
        (f"first NOT BETWEEN 0 AND {MOST_TIME}", _NO_FIRST),
    ),
    "newest": (
        (f"series_id {_KNOWN_SERIES}", "there is no series of its series_id"),
        (f"time NOT BETWEEN 0 AND {MOST_TIME}", "its time is none"),
        (f"quality NOT IN {tuple(QUALITIES.values())}", "its quality is none"),
    ),
    "dirty": ((f"id NOT BETWEEN 1 AND {MOST_BLOCK_ID}", "its id is none of a day"),),
    "block": (
        (f"(id >> {DEVICE_BITS}) <> t0 - t0 % {HOUR}", "its t0 is not that of its id"),
        (f"(id & {MOST_DEVICES - 1}) <> device_id", "its device_id is not that of its id"),
        (f"t1 NOT BETWEEN t0 AND t0 + {2 * DAY}", "its t1 is out of range"),
        (f"n NOT BETWEEN 1 AND {DAY}", "its n is out of range"),
    ),
    "rollup": (
        (f"(id >> {DAY_BITS}) <> series_id", "its series_id is not that of its id"),
        (f"(id & {(1 << DAY_BITS) - 1}) <> day", "its day is not that of its id"),
        (f"n NOT BETWEEN 0 AND {DAY}", "its n is out of range"),
        (f"first_time NOT BETWEEN 0 AND {MOST_TIME}", "its first_time is none"),
        (f"last_time NOT BETWEEN 0 AND {MOST_TIME}", "its last_time is none"),
    ),
    "corrected": (
        ("correction_id NOT IN (SELECT id FROM correction)", "there is no such correction"),
    ),
    "hour": (("n < 0", "its n is out of range"),),
    "correction": tuple(
        (f"{name} NOT BETWEEN 0 AND {MOST_TIME}", f"its {name} is no time")
        for name in ("start_ms", "end_ms", "made", "done", "undone")
    ),
}
# The first that fits.
_TYPES: tuple[tuple[type, str], ...] = (
    (Whole, "integer"),
    (Double, "real"),
    (LargeBinary, "blob"),
    (Text, "text"),
    (String, "text"),
)

_Names = Mapping[int, str]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ForeignRow:
    """One row, by its key as SQLite has it, and all that is wrong with it."""

    table: Table
    key: tuple[int, ...]
    what: tuple[str, ...]

    def __str__(self) -> str:
        key = ", ".join(map(str, self.key))
        return f"{self.table.name} row {key}: {'; '.join(self.what)}"


def _key(table: Table) -> tuple[str, ...]:
    return ("time", "series") if table is sample else ("rowid",)


def _type(column: Any) -> str:
    return next(name for kind, name in _TYPES if isinstance(column.type, kind))


def _conditions(table: Table) -> Iterator[tuple[str, str]]:
    """(SQL that is true of a row with the flaw, the flaw in words)."""
    for column in table.columns:
        name, type_ = column.name, _type(column)
        null = f' AND "{name}" IS NOT NULL' if column.nullable else ""
        yield f"typeof(\"{name}\") <> '{type_}'{null}", f"its {name} is no {type_}"
    yield from _RULES.get(table.name, ())


def find_rows(connection: Connection, tables: Iterable[Table] = TABLES) -> Iterator[ForeignRow]:
    """Finds flaws in the rows of a SQLite store, without decoding their bodies."""
    for table in tables:
        conditions, keys = list(_conditions(table)), _key(table)
        tests = [f"coalesce({sql}, 0)" for sql, _ in conditions]
        statement = (
            f'SELECT {", ".join((*keys, *tests))} FROM "{table.name}" '  # noqa: S608 (ours)
            f"WHERE {' OR '.join(sql for sql, _ in conditions)}"
        )
        flaws: dict[tuple[int, ...], list[str]] = {}
        for row in connection.exec_driver_sql(statement).all():
            checks = zip(row[len(keys) :], conditions, strict=True)
            flaws[tuple(row[: len(keys)])] = [text for is_so, (_, text) in checks if is_so]
        for key, text in _garbled(connection, table) if table in SMALL else ():
            flaws.setdefault(key, []).append(text)
        for key, what in flaws.items():
            yield ForeignRow(table, key, tuple(what))


def _garbled(connection: Connection, table: Table) -> Iterator[tuple[tuple[int, ...], str]]:
    """Texts that are no UTF-8: SQLite gives them back, Python does not."""
    texts = [column.name for column in table.columns if _type(column) == "text"]
    casts = "".join(f', CAST("{name}" AS BLOB)' for name in texts)
    statement = f'SELECT rowid{casts} FROM "{table.name}"'  # noqa: S608 (ours)
    for key, *bodies in connection.exec_driver_sql(statement).all() if texts else ():
        for name, body in zip(texts, bodies, strict=True):
            if body is not None and not _is_text(body):
                yield (key,), f"its {name} is no UTF-8"


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def quarantine_rows(
    connection: Connection,
    folder: Path,
    names: Mapping[int, str],
    tables: Iterable[Table] = TABLES,
) -> int:
    """Keeps each flawed row as a file, then mends or deletes it; returns how many there were.

    In a transaction that writes; `names` of devices that are known. Raises StoreError.
    """
    count = 0
    for table in tables:
        # One after the other: what is mended in one may be all that was wrong with the next.
        for flaw in list(find_rows(connection, (table,))):
            path = folder / f"meterd.damaged-{table.name}-{'-'.join(map(str, flaw.key))}"
            quarantine_file(path, _quarantine_body(connection, flaw))
            done = _MEND.get(table.name, _delete)(connection, flaw, names)
            _log.error("%s; %s, and what it was is kept as %s", flaw, done, path)
            count += 1
    return count


def _where(flaw: ForeignRow) -> str:
    return " AND ".join(f"{name} = ?" for name in _key(flaw.table))


def _quarantine_body(connection: Connection, flaw: ForeignRow) -> bytes:
    """A row for people, whatever its values are."""
    row = {}
    for column in flaw.table.columns:
        statement = (
            f'SELECT typeof("{column.name}"), CAST("{column.name}" AS BLOB) '  # noqa: S608 (ours)
            f'FROM "{flaw.table.name}" WHERE {_where(flaw)}'
        )
        kind, body = connection.exec_driver_sql(statement, flaw.key).one()
        text = (body or b"").hex() if kind == "blob" else (body or b"").decode(errors="replace")
        row[column.name] = {kind: text}
    document = {"table": flaw.table.name, "what": flaw.what, "row": row}
    return json.dumps(document, indent=1).encode()


def _delete(connection: Connection, flaw: ForeignRow, _: _Names) -> str:
    statement = f'DELETE FROM "{flaw.table.name}" WHERE {_where(flaw)}'  # noqa: S608 (ours)
    connection.exec_driver_sql(statement, flaw.key)
    return "it is deleted"


def _series(connection: Connection, flaw: ForeignRow, names: _Names) -> str:
    """Kind and first time can be derived, a device's name cannot."""
    what = set(flaw.what)
    if not what <= {*_KINDLESS, *_FIRSTLESS, _NO_DEVICE}:
        return _delete(connection, flaw, names)
    done = []
    if what & _FIRSTLESS:
        connection.exec_driver_sql("UPDATE series SET first = NULL WHERE rowid = ?", flaw.key)
        done.append("its first is looked up")
    if what & _KINDLESS:
        statement = "SELECT quantity, unit FROM series WHERE rowid = ?"
        described = describe(*connection.exec_driver_sql(statement, flaw.key).one())
        kind = described.kind if described else Kind.GAUGE
        mended = "UPDATE series SET kind = ? WHERE rowid = ?"
        connection.exec_driver_sql(mended, (str(kind), *flaw.key))
        done.append(f"its kind is {kind} again")
    if _NO_DEVICE in what:
        done.append(_found_device(connection, flaw, names))
    return ", ".join(done)


def _found_device(connection: Connection, flaw: ForeignRow, names: _Names) -> str:
    """Gives a series' device back its name, where that is known, or a made-up one."""
    statement = "SELECT device_id FROM series WHERE rowid = ?"
    (number,) = connection.exec_driver_sql(statement, flaw.key).one()
    there = "SELECT name FROM device WHERE id = ?"
    if (row := connection.exec_driver_sql(there, (number,)).first()) is not None:
        return f"it is of {row[0]}"  # since another series of the same
    name = names.get(number, f"lost-{number}")
    is_used = "SELECT 1 FROM device WHERE name = ?"
    while connection.exec_driver_sql(is_used, (name,)).first() is not None:
        name += "-lost"
    connection.exec_driver_sql("INSERT INTO device (id, name) VALUES (?, ?)", (number, name))
    return f"the history of that device is kept under the name {name}"


def _block(connection: Connection, flaw: ForeignRow, names: _Names) -> str:
    """Restores the row from its body, which has the same fields."""
    (body,) = connection.exec_driver_sql("SELECT body FROM block WHERE rowid = ?", flaw.key).one()
    try:
        chunk = blocks.decode(body if isinstance(body, bytes) else b"")
    except StoreError:
        return _delete(connection, flaw, names)
    if not chunk.times or block_id(chunk.device, chunk.times[0]) != flaw.key[0]:
        return _delete(connection, flaw, names)
    row = (chunk.device, chunk.times[0], chunk.times[-1], len(chunk.times))
    mended = "UPDATE block SET device_id = ?, t0 = ?, t1 = ?, n = ? WHERE rowid = ?"
    connection.exec_driver_sql(mended, (*row, *flaw.key))
    return "it is what its body says again"


def _rollup(connection: Connection, flaw: ForeignRow, names: _Names) -> str:
    return _mark_dirty(connection, flaw, names, *series_day(flaw.key[0]))


def _hour(connection: Connection, flaw: ForeignRow, names: _Names) -> str:
    return _mark_dirty(
        connection, flaw, names, flaw.key[0] & 0xFFFF_FFFF, (flaw.key[0] >> 32) // 24
    )


def _mark_dirty(
    connection: Connection, flaw: ForeignRow, names: _Names, number: int, day: int
) -> str:
    """Deletes a derived row and marks its day, so that it is made of the blocks again."""
    _delete(connection, flaw, names)
    owner = connection.exec_driver_sql(
        "SELECT device_id FROM series WHERE id = ?", (number,)
    ).first()
    if owner is None:
        return "it is deleted"
    stained = "INSERT OR IGNORE INTO dirty (id) VALUES (?)"
    connection.exec_driver_sql(stained, (dirty_id(owner[0], day),))
    return "it is made of its blocks again"


_MEND: dict[str, Callable[[Connection, ForeignRow, _Names], str]] = {
    "series": _series,
    "block": _block,
    "rollup": _rollup,
    "hour": _hour,
}


def quarantined_files(folder: Path) -> list[Path]:
    """Files set aside in a store's folder, for a person to look at and delete."""
    return sorted(folder.glob("meterd.damaged-*"))
