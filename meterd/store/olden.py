"""Moves the rows of meterd before 0.2, one a sample, into blocks, an hour at a time."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import groupby
from math import isnan
from operator import attrgetter
from typing import Any

from sqlalchemy import func, select

from meterd.store.catalog import Catalog
from meterd.store.change import Change
from meterd.store.cuts import HOUR
from meterd.store.format.columns import Column, Span, regular, runs, sound
from meterd.store.ledger import Ledger
from meterd.store.schema import GOOD, INVALID, sample
from meterd.store.sealing import Sealer
from meterd.store.statements import Row

_MEMO = "store.old_samples"  # body: Unix ms before which rows are old ones; empty: all moved
_NAN = float("nan")


class Olden:
    """Lives in the writer's thread. `delete`: whether moved rows go from the table."""

    def __init__(self, catalog: Catalog, sealer: Sealer, *, delete: bool) -> None:
        self._catalog = catalog
        self._sealer = sealer
        self._delete = delete
        self._next: int | None = None
        self._end: int | None = None

    def look(self, ledger: Ledger) -> None:
        """Whether there is something to move; before the first commit. Raises StoreError."""
        memo = ledger.memos().get(_MEMO)
        if memo is None:
            memo = self._first_look(ledger)
        self._end = int(memo) if memo else None
        self._next = _oldest(ledger, self._end) if self._end is not None else None

    def _first_look(self, ledger: Ledger) -> str:
        with ledger.transaction() as connection:
            last = connection.scalar(select(func.max(sample.c.time)))
        memo = "" if last is None else str(last + 1)
        ledger.commit((), {_MEMO: memo})
        return memo

    def move(self, ledger: Ledger) -> tuple[list[Row], bool]:
        """One hour's rows become blocks; the newest of each series, and whether there are more."""
        if self._end is None:
            return [], False
        if self._next is None:
            ledger.commit((), {_MEMO: ""})
            self._end = None
            return [], False
        start = self._next - self._next % HOUR
        end = min(start + HOUR, self._end)
        spans = list(self._spans(ledger, start, end))
        gone = (start, end) if self._delete else None
        self._sealer.seal_late(ledger, spans, Change(samples_gone=gone))
        self._note(spans)
        self._next = _oldest(ledger, self._end, end)
        return [row for span in spans for row in _newest(span)], True

    def _note(self, spans: Sequence[Span]) -> None:
        for span in spans:
            for column in span.columns:
                if self._catalog.by_id[column.series].first is None:
                    # An older meterd did not always say since when.
                    self._catalog.sunk[column.series] = span.times[column.rows[0]]
        self._catalog.note(spans)

    def _spans(self, ledger: Ledger, start: int, end: int) -> Iterator[Span]:
        asked = (
            select(sample)
            .where(sample.c.time >= start, sample.c.time < end)
            .order_by(sample.c.series, sample.c.time)
        )
        with ledger.transaction() as connection:
            found = list(connection.execute(asked))
        owners = self._catalog.devices
        by_device: dict[int, dict[int, list[Any]]] = {}
        for one, cells in groupby(found, attrgetter("series")):
            known = self._catalog.by_id.get(one)
            if known is not None:
                by_device.setdefault(owners[known.name[0]], {})[one] = list(cells)
        for device, columns in sorted(by_device.items()):
            yield _span(device, columns)


def _newest(span: Span) -> Iterator[Row]:
    for column in span.columns:
        value = column.values[-1]
        _, quality, reason = column.states[-1] if column.states else (0, GOOD, "")
        yield {
            "series_id": column.series,
            "time": span.times[column.rows[-1]],
            "value": None if isnan(value) else value,
            "quality": quality,
            "reason": reason or None,
        }


def _oldest(ledger: Ledger, before: int, since: int = 0) -> int | None:
    asked = select(func.min(sample.c.time)).where(sample.c.time < before, sample.c.time >= since)
    with ledger.transaction() as connection:
        oldest = connection.scalar(asked)
    return None if oldest is None else int(oldest)


def _span(device: int, cells: dict[int, list[Any]]) -> Span:
    times = array("q", sorted({cell.time for column in cells.values() for cell in column}))
    columns = (_column(one, times, cells[one]) for one in sorted(cells))
    return Span(device, times, tuple(columns))


def _column(one: int, times: "array[int]", cells: Sequence[Any]) -> Column:
    values = array("d", [_NAN if cell.value is None else cell.value for cell in cells])
    states = ((1, _quality(cell), cell.reason or "") for cell in cells)
    rows = regular(bisect_left(times, cell.time) for cell in cells)
    return sound(Column(one, rows, values, runs(states, values)))


def _quality(cell: Any) -> int:
    """A null is never good."""
    return INVALID if cell.value is None and not cell.quality else int(cell.quality)
