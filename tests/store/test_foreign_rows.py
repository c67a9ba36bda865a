"""One field of one row that no meterd wrote: every column of every table, one after the other."""

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.model.sample import Poll
from meterd.store.db import store_url
from meterd.store.db.foreign_rows import _type
from meterd.store.db.schema import LARGE, SMALL, TABLES, lease, metadata
from meterd.store.reader import Reader
from meterd.store.tools import check, correct, export, overview
from meterd.store.writer import Writer

from .rigs import NEVER, Hands, opened, url_of
from .test_hours import DAY, HOUR, START, history

NOW = START + 60 * HOUR
EVERY = 1_800_000  # ms between two polls
VALUES: dict[str, object] = {
    "blob": b"\x00\xff",
    "text": "zzz",
    "huge": 1 << 62,
    "no UTF-8": "",  # see `damage`
    "gone": "",
}


def other(polls: list[Poll]) -> list[Poll]:
    return [Poll("other", one.time, one.layout, one.values, one.doubts) for one in polls]


async def _fill(path: Path) -> None:
    """Two devices with a closed day, an open one, and journal rows; a correction, a plain row."""
    hands = Hands(START)
    writer = Writer(url_of(path), commit=NEVER, clock=hands, rows=1e9)
    async with opened(writer):
        for start, hours in ((START, 28), (START + 28 * HOUR, 1)):
            mine = history(4, start, hours, every=EVERY)
            for one in (*mine, *other(mine)):
                writer.take(one)
            hands.now = start + hours * HOUR + 130_000
            writer.remember("x", '{"a": 1}')
            await (writer.settle() if hours > 1 else writer.flush())
        reader = Reader(url_of(path), writer.memory)
        ask = correct.Ask("main", "voltage.l1", START + HOUR, START + 2 * HOUR, "why", "who")
        await correct.Corrections(writer, reader).mark(ask, hands.now)
        reader.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flaws") / "base.db"
    asyncio.run(_fill(path))
    with closing(sqlite3.connect(path)) as there, there:
        there.execute("INSERT INTO dirty VALUES (?)", ((START // DAY + 1) << 14 | 2,))
    return path


def places(base: Path, kind: str, every: bool) -> Iterator[tuple[str, str, int]]:
    """(table, column, which row) that are worth it: one wrong type is as good as another.

    Unless `every`, each column is damaged in one of the ways that there are for its type.
    """
    with closing(sqlite3.connect(base)) as there:
        for table in (*SMALL, *LARGE):
            name = table.name
            rows = there.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            assert rows, name
            wanted = {column.name: _type(column) for column in table.columns}
            for number, (column, type_) in enumerate(wanted.items()):
                kinds = _KINDS[type_] if every else (_KINDS[type_][number % len(_KINDS[type_])],)
                if kind in kinds and (kind != "no UTF-8" or table in SMALL):
                    yield name, column, rows - 1
            if kind == "gone":
                yield from {(name, "", 0), (name, "", rows - 1)}
    if kind != "no UTF-8":
        yield "alembic_version", "version_num", 0


_KINDS = {
    "integer": ("text", "huge"),
    "real": ("blob",),
    "text": ("blob", "no UTF-8"),
    "blob": ("text",),
}


def damage(path: Path, table: str, column: str, row: int, kind: str) -> bool:
    """False where SQLite itself refuses it, or nothing would be changed."""
    key = "rowid" if table != "sample" else "(time, series)"
    names = "rowid" if table != "sample" else "time, series"
    mine = f"{key} IN (SELECT {names} FROM {table} ORDER BY {names} LIMIT 1 OFFSET {row})"
    with closing(sqlite3.connect(path)) as there, there:
        if kind == "gone":
            done = there.execute(f"DELETE FROM {table} WHERE {mine}")
        else:
            value = "CAST(x'66ff' AS TEXT)" if kind == "no UTF-8" else "?"
            asked = f"UPDATE {table} SET {column} = {value} WHERE {mine}"
            try:
                done = there.execute(asked, () if kind == "no UTF-8" else (VALUES[kind],))
            except sqlite3.Error:
                return False
        return done.rowcount == 1


def told(path: Path) -> list[str]:
    """What db check says; it may refuse, in words."""
    try:
        return list(check.problems(store_url.find(url_of(path))))
    except StoreError as error:
        return [str(error)]


def looked_at_from_outside(path: Path) -> None:
    """db info, export: an answer, or a StoreError."""
    for look in (lambda: overview.info(store_url.find(url_of(path))), lambda: exported(path)):
        with suppress(StoreError):
            look()


Exported = dict[str, list[tuple[str, int, float | None]]]


def exported(path: Path) -> Exported:
    found: Exported = {}
    reader = Reader.outside(url_of(path))
    try:
        wanted = export.Wanted(None, None, 0, NOW + DAY)
        for line in export.lines(reader, wanted):
            found.setdefault(line.device, []).append((line.quantity, line.time, line.value))
    finally:
        reader.close()
    return found


async def gone_on(path: Path) -> None:
    """A writer that goes on with it. Raises StoreError where it cannot begin."""
    hands = Hands(NOW)
    writer = Writer(url_of(path), commit=NEVER, clock=hands)
    reader = Reader(url_of(path), writer.memory)
    try:
        await asyncio.wait_for(writer.open(), 30)
        try:
            for one in (*(new := history(5, NOW - HOUR, 1, every=EVERY)), *other(new)):
                writer.take(one)
            for step, agg in ((0, "avg"), (HOUR, "max"), (DAY, "sum")):
                with suppress(StoreError):
                    await reader.range(None, None, START, NOW, step, agg)
            await asyncio.wait_for(writer.settle(), 30)
            assert writer.status.writable
            assert writer.status.queued == 0
            await reader.range(None, None, START, NOW, 0, "avg")
            await reader.range(None, None, START, NOW, DAY, "sum")
        finally:
            await asyncio.wait_for(writer.close(), 30)
    finally:
        reader.close()


def compared(table: str, old: Exported, now: Exported) -> None:
    """At most one of both devices lost something; what is new is there of both."""
    whole = [name for name in ("main", "other") if not set(old[name]) - set(now.get(name, []))]
    assert whole or table == "journal"
    new = {one.time for one in history(5, NOW - HOUR, 1, every=EVERY)}
    for name in ("main", "other"):
        assert new <= {time for _, time, _ in now[name]}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)])
def test_no_field_of_a_row_stops_anything(
    base: Path, tmp_path: Path, kind: str, every: bool
) -> None:
    failed, old = [], exported(base)
    for table, column, row in places(base, kind, every):
        folder = tmp_path / f"{table}-{column}-{row}"
        folder.mkdir()
        path = folder / "meterd.db"
        shutil.copy(base, path)
        if not damage(path, table, column, row, kind):
            continue
        try:
            wrong = told(path)
            looked_at_from_outside(path)
            asyncio.run(gone_on(path))
            compared(table, old, exported(path))
            put_aside = list(folder.glob("meterd.damaged-*"))
            # Nothing is put aside that `db check` would not have named.
            assert wrong or not put_aside
            assert kind not in _TOLD or wrong
        except Exception as error:
            failed.append(f"{table}.{column}[{row}] {kind}: {type(error).__name__}: {error}")
    assert not failed, "\n".join(failed)


# A number may be any number, and a row that is gone leaves no trace everywhere.
_TOLD = ("blob", "text", "no UTF-8")


def test_every_table_is_looked_at() -> None:
    assert {*TABLES, lease} == set(metadata.sorted_tables)
    assert {*SMALL, *LARGE} == set(TABLES)
    assert len(TABLES) == len(SMALL) + len(LARGE)
