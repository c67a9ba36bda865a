"""Writes polls as rows, through one open connection; lives in the writer's thread."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError

from meterd.model.quantity import Kind, describe
from meterd.model.sample import Doubt, Layout, Poll
from meterd.store import database
from meterd.store.edges import Edges
from meterd.store.schema import GOOD, QUALITIES, REASON_LENGTH, device, memo, sample, series

TRIM_ROWS = 5000  # so that one transaction of the retention stays far below a second
_MOST_LAYOUTS = 10_000  # a driver that makes a Layout a poll must not fill the memory

_Row = tuple[int, int, float | None, int, str | None]


@cache
def _upsert() -> str:
    """Takes rows as tuples: SQLAlchemy's own parameters cost twice the CPU."""
    new = sqlite.insert(sample)
    columns = ("value", "quality", "reason")
    new = new.on_conflict_do_update(
        index_elements=["time", "series"], set_={name: new.excluded[name] for name in columns}
    )
    return str(new.compile(dialect=sqlite.dialect(paramstyle="qmark")))


class Ledger:
    """The store, open for writing. After any StoreError, close it and open another."""

    def __init__(self, path: Path) -> None:
        """The schema is there already. Raises StoreError."""
        self._path = path
        self._devices: dict[str, int] = {}
        self._series: dict[tuple[int, str, str], int] = {}
        self._new: list[dict[str, object]] = []
        self._next = 1
        self._layouts: dict[tuple[str, int], tuple[Layout, tuple[int, ...]]] = {}
        with database.mapped(path):
            self._connection = database.writing(path).connect()
            self._raw = cast("sqlite3.Connection", self._connection.connection.driver_connection)
        try:
            with self._transaction() as connection:
                self._load(connection)
                self._edges = Edges(connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Never raises: what a commit confirmed is safe, and the rest is not here."""
        with suppress(SQLAlchemyError):
            self._connection.close()
        # After a failed rollback SQLAlchemy forgets its connection without closing it.
        with suppress(sqlite3.Error):
            self._raw.close()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with database.mapped(self._path), self._connection.begin():
            yield self._connection

    def _load(self, connection: Connection) -> None:
        for one, name in connection.execute(select(device.c.id, device.c.name)):
            self._devices[name] = one
        columns = (series.c.id, series.c.device_id, series.c.quantity, series.c.unit)
        for one, owner, quantity, unit in connection.execute(select(*columns)):
            self._series[owner, quantity, unit] = one
        self._next = max(self._series.values(), default=0) + 1

    def commit(self, polls: Sequence[Poll], memos: Mapping[str, str], *, note: bool) -> None:
        """All of it or nothing; a sample of the same time and series is replaced, and a memo.

        `note` also notes the edges of series. Raises StoreError.
        """
        with self._transaction() as connection:
            rows: list[_Row] = []
            for poll in polls:
                ids = self._ids(connection, poll)
                rows += _rows(poll, ids)
                self._edges.note(ids, poll.time)
            if self._new:
                # A fleet that starts makes thousands of series at once.
                connection.execute(insert(series), self._new)
                self._new.clear()
            if rows:
                connection.exec_driver_sql(_upsert(), rows)
            for name, body in memos.items():
                new = sqlite.insert(memo).values(name=name, body=body)
                connection.execute(
                    new.on_conflict_do_update(index_elements=["name"], set_={"body": body})
                )
            self._edges.settle(connection)
            if note:
                self._edges.write(connection)

    def memos(self) -> dict[str, str]:
        """All memos. Raises StoreError."""
        with self._transaction() as connection:
            return {row.name: row.body for row in connection.execute(select(memo))}

    def _ids(self, connection: Connection, poll: Poll) -> tuple[int, ...]:
        known = self._layouts.get((poll.device, id(poll.layout)))
        if known is not None:
            return known[1]
        if len(self._layouts) >= _MOST_LAYOUTS:
            self._layouts.clear()
        owner = self._device(connection, poll.device)
        columns = zip(poll.layout.quantities, poll.layout.units, strict=True)
        ids = tuple(self._one(owner, quantity, unit) for quantity, unit in columns)
        # The layout is kept, so that its id() is not given to another one.
        self._layouts[poll.device, id(poll.layout)] = (poll.layout, ids)
        return ids

    def _device(self, connection: Connection, name: str) -> int:
        if name not in self._devices:
            row = insert(device).values(name=name).returning(device.c.id)
            self._devices[name] = connection.execute(row).scalar_one()
        return self._devices[name]

    def _one(self, owner: int, quantity: str, unit: str) -> int:
        """The series' id. There is one writer, so it numbers new ones by itself."""
        key = owner, quantity, unit
        if key not in self._series:
            known = describe(quantity, unit)
            row = {
                "id": self._next,
                "device_id": owner,
                "quantity": quantity,
                "unit": unit,
                "kind": known.kind if known else Kind.GAUGE,
            }
            self._new.append(row)
            self._series[key] = self._next
            self._next += 1
        return self._series[key]

    def trim(self, before: int) -> bool:
        """Deletes some samples older than `before` (Unix ms); True where more are left.

        A series that holds nothing else afterwards has no first and last. A first that is
        noted then is the earliest possible: the next sample may follow after a gap.
        """
        old = sample.c.time < before
        by_time = select(sample.c.time).where(old).order_by(sample.c.time, sample.c.series)
        with self._transaction() as connection:
            edge = connection.scalar(by_time.limit(1).offset(TRIM_ROWS - 1))
            if edge is not None:
                connection.execute(delete(sample).where(sample.c.time <= edge))
                return True
            connection.execute(delete(sample).where(old))
            self._edges.write(connection)
            gone = update(series).where(series.c.last < before)
            connection.execute(gone.values(first=None, last=None))
            connection.execute(update(series).where(series.c.first < before).values(first=before))
            return False


def _rows(poll: Poll, ids: tuple[int, ...]) -> Iterable[_Row]:
    # In C for the healthy poll: this runs for every sample there is.
    rows = zip(repeat(poll.time), ids, poll.values, repeat(GOOD), repeat(None), strict=False)
    return _doubted(list(rows), poll.doubts) if poll.doubts else rows


def _doubted(rows: list[_Row], doubts: Mapping[int, Doubt]) -> list[_Row]:
    for column, doubt in doubts.items():
        reason = doubt.reason[:REASON_LENGTH] or None
        rows[column] = (*rows[column][:3], QUALITIES[doubt.quality], reason)
    return rows
