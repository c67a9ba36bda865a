"""A store copied to another database, row by row with their keys: again and again, if need be.

What is there already, and is the same, is not sent again: a copy that was broken off goes on
where it stood, and one that is done again catches up with what came since.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from meterd.errors import StoreCode, StoreError
from meterd.model.sample import Poll
from meterd.store.blocks import commit_record
from meterd.store.db import migrate, schema, writer_lease
from meterd.store.db import store_url as databases
from meterd.store.db.connections import Database, Opened
from meterd.store.db.lockfile import Claim, claimed
from meterd.store.db.schema import device, journal, memo, newest, sample, series
from meterd.store.db.statements import replace_rows
from meterd.store.head.catalog import Catalog
from meterd.store.tools.overview import looking, size
from meterd.store.tools.wal_copy import chunks, with_wal_file
from meterd.store.wal import file_wal

Told = Callable[[str, int], None]
"""Is told the table, and how many more of its rows are done."""

_MARK = "moved-from"
_CHUNK = 500
_PLAIN = 20_000  # rows of `sample`, which are small
_CRC = 4  # bytes at the end of each body
_BODIES = ("body", "quarters")
# Those that are sent row by row; memos of who writes stay, and samples are many.
SENT = tuple(table for table in schema.TABLES if table not in (memo, sample))

_FORGET = delete(sample).where(
    sample.c.time == bindparam("at"), sample.c.series == bindparam("one")
)


@dataclass(frozen=True, slots=True)
class Moved:
    """Rows there are, and those that had to be sent or deleted this time."""

    rows: Mapping[str, int]
    sent: int
    deleted: int


def rows(database: Database) -> int:
    """How many rows a copy has to look at. Raises StoreError."""
    with looking(database) as (connection, _):
        return sum(_count(connection, table) for table in (*SENT, sample))


def move(source: Database, url: str | Sequence[str], told: Told = lambda *_: None) -> Moved:
    """Makes another database the same as `source`, which may be in use meanwhile.

    Raises StoreError: already_running where a meterd writes to the target; unfit where the
    target holds something else, or is newer than the source.
    """
    target = databases.find(url)
    if target.label == source.label:
        raise StoreError("source and target are the same store", code=StoreCode.UNFIT)
    with _held(target, claimed("meterd db move", size(source))):
        migrate.upgrade(target)
        opened = target.writing()
        try:
            with with_wal_file(source, lambda: looking(source)) as (polls, (old, _)):
                return _Copy(old, opened, source.label, told).run(polls)
        finally:
            opened.close()


@contextmanager
def _held(target: Database, claim: Claim) -> Iterator[None]:
    target.prepare()
    lock = target.lock(claim)
    try:
        yield
    finally:
        lock.release()


class _Copy:
    def __init__(self, old: Connection, new: Opened, label: str, told: Told) -> None:
        self._old = old
        self._new = new
        self._label = label
        self._told = told
        self._sent = 0
        self._deleted = 0

    def run(self, polls: Sequence[Poll]) -> Moved:
        """`polls` are those of a WAL file: they become rows of the copy's journal."""
        self._claim()
        for table in SENT:
            self._table(table)
        self._samples()
        counts = {}
        with self._new.begin() as new:
            replace_rows(new, memo, [dict(row) for row in self._memos()])
            for table in (*SENT, sample):
                counts[table.name] = there = _count(new, table)
                if there != (here := _count(self._old, table)):
                    text = f"table {table.name} has {here} rows, its copy {there}; run it again"
                    raise StoreError(text, code=StoreCode.CONFLICT)
            counts[journal.name] += self._absorb(new, polls)
        return Moved(counts, self._sent, self._deleted)

    def _absorb(self, new: Connection, polls: Sequence[Poll]) -> int:
        """Writes polls to the copy as WAL rows; returns how many. They are in no row of the source,
        so the next run deletes and writes them again.
        """
        catalog = Catalog()
        catalog.load(self._old)
        top = self._old.scalar(select(func.max(journal.c.id))) or 0
        made = [
            {"id": number, "body": commit_record.encode(some, {})}
            for number, some in enumerate(chunks(polls, catalog), top + 1)
        ]
        if made:
            new.execute(insert(journal), made)
        self._sent += len(made)
        return len(made)

    def _samples(self) -> None:
        """Plain rows (`store.rows`), a piece of time at once."""
        time, last = sample.c.time, -1
        while True:
            later = select(time).where(time > last).order_by(time)
            edge = self._old.scalar(later.offset(_PLAIN).limit(1))
            within = time > last if edge is None else (time > last) & (time <= edge)
            here = _plain_rows(self._old, within)
            with self._new.begin() as new:
                there = _plain_rows(new, within)
                gone = [key for key, row in there.items() if here.get(key) != row]
                come = [row for key, row in here.items() if there.get(key) != row]
                if gone:
                    new.execute(_FORGET, [{"at": at, "one": number} for at, number in gone])
                if come:
                    new.execute(insert(sample), [row._asdict() for row in come])
            self._sent += len(come)
            self._deleted += sum(key not in here for key in gone)
            self._told(sample.name, len(here))
            if edge is None:
                return
            last = edge

    def _memos(self) -> Sequence[Any]:
        memos = select(memo).where(memo.c.name.not_in((_MARK, writer_lease.NAME, file_wal.MARK)))
        return self._old.execute(memos).mappings().all()

    def _claim(self) -> None:
        """Raises StoreError for a target that is no copy of this store, or was written to since."""
        with self._new.begin() as new:
            mark = new.scalar(select(memo.c.body).where(memo.c.name == _MARK))
            if mark is None and _count(new, device):
                text = "the target holds another store already; name an empty database"
                raise StoreError(text, code=StoreCode.UNFIT)
            if mark is not None and mark != self._label:
                text = f"the target is a copy of {mark}; name an empty database"
                raise StoreError(text, code=StoreCode.UNFIT)
            here, there = (_newest(connection) for connection in (self._old, new))
            if there > here:
                text = "the target has newer samples: a meterd has used it since; nothing is done"
                raise StoreError(text, code=StoreCode.UNFIT)
            if mark is None:
                new.execute(insert(memo), {"name": _MARK, "body": self._label})

    def _table(self, table: Table) -> None:
        key = table.primary_key.columns[0]
        last = -1
        while True:
            seen = _digests(self._old, table, key > last, limit=_CHUNK)
            high = max(seen) if len(seen) == _CHUNK else None
            self._chunk(table, key, seen, last, high)
            self._told(table.name, len(seen))
            if high is None:
                return
            last = high

    def _chunk(
        self,
        table: Table,
        key: ColumnElement[Any],
        seen: Mapping[int, tuple[Any, ...]],
        last: int,
        high: int | None,
    ) -> None:
        with self._new.begin() as new:
            within = key > last if high is None else (key > last) & (key <= high)
            target = _digests(new, table, within)
            changed = [key_ for key_, digest in seen.items() if target.get(key_) != digest]
            gone = [key_ for key_ in target if key_ not in seen or key_ in changed]
            if gone and table in (device, series):
                # Others refer to these, which never change but in their first time.
                changed = self._updated(new, table, seen, target)
                gone = []
            for start in range(0, len(gone), _CHUNK):
                new.execute(delete(table).where(key.in_(gone[start : start + _CHUNK])))
            if changed:
                rows = self._old.execute(select(table).where(key.in_(changed))).mappings()
                new.execute(insert(table), [dict(row) for row in rows])
        self._sent += len(changed)
        self._deleted += len(set(gone) - set(changed))

    def _updated(
        self,
        new: Connection,
        table: Table,
        seen: Mapping[int, tuple[Any, ...]],
        target: Mapping[int, tuple[Any, ...]],
    ) -> list[int]:
        """Updates the rows that exist; returns the keys of those that do not."""
        for key_ in seen.keys() & target.keys():
            if seen[key_] != target[key_]:
                row = self._old.execute(select(table).where(table.c.id == key_)).mappings().one()
                new.execute(update(table).where(table.c.id == key_).values(**row))
                self._sent += 1
        return [key_ for key_ in seen if key_ not in target]


def _digests(
    connection: Connection, table: Table, within: ColumnElement[bool], limit: int | None = None
) -> dict[int, tuple[Any, ...]]:
    """A digest of each row by key, in which differing rows differ: of a body its length and
    checksum.
    """
    columns: list[ColumnElement[Any]] = []
    for column in table.columns:
        if column.name in _BODIES:
            size = func.length(column)
            columns += [size, func.substr(column, size - (_CRC - 1), _CRC)]
        else:
            columns.append(column)
    key = table.primary_key.columns[0]
    statement = select(key.label("the_key"), *columns).where(within).order_by(key)
    if limit is not None:
        statement = statement.limit(limit)
    return {row[0]: tuple(map(_plain, row[1:])) for row in connection.execute(statement)}


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview | bytearray) else value


def _plain_rows(
    connection: Connection, within: ColumnElement[bool]
) -> dict[tuple[int, int], Row[Any]]:
    rows = connection.execute(select(sample).where(within))
    return {(row.time, row.series): row for row in rows}


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


def _newest(connection: Connection) -> int:
    return connection.scalar(select(func.max(newest.c.time))) or 0
