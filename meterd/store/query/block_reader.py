"""Reads blocks and roll-ups, day by day, in one transaction of a reader."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Select, bindparam, func, select

from meterd.store.blocks import rollup as rollups
from meterd.store.blocks import rollup_arrays, rollup_codec
from meterd.store.blocks.slicing import DAY
from meterd.store.db.keys import block_hour, block_ids, dirty_id, dirty_of, rollup_id
from meterd.store.db.schema import block, dirty, rollup
from meterd.store.query.aggregation import PartialAggregate
from meterd.store.query.block_cache import BlockCache
from meterd.store.query.counter_days import CounterDay
from meterd.store.query.series_array import SeriesArray, Times, Values, concatenate

# What of a roll-up's lanes each aggregate is made of.
_LANES = {"avg": ("sum",), "sum": ("sum",), "min": ("min",), "max": ("max",)}
# Made once: SQLAlchemy takes longer for a statement than SQLite does for the answer.
_DIRTY = select(dirty.c.id)
_OLDEST = select(func.min(block.c.id))
_BODIES = (
    select(block.c.id, block.c.body)
    .where(block.c.id.in_(bindparam("keys", expanding=True)))
    .order_by(block.c.id)
)
_NEIGHBOUR = select(rollup.c.day).where(
    rollup.c.id.between(bindparam("low"), bindparam("high")), rollup.c.n > 0
)
_PREVIOUS = _NEIGHBOUR.order_by(rollup.c.id.desc()).limit(1)
_NEXT = _NEIGHBOUR.order_by(rollup.c.id).limit(1)
_COUNTED = ("day", "n", "min", "max", "first_time", "first", "last_time", "last", "quarters")
_LAST_DAY = (1 << 20) - 1  # that a key has room for
_DAYS = 20  # asked for in one statement: at most 480 keys


class WholeDays(NamedTuple):
    """Days since 1970, how many samples each has, one aggregate, and its first sample.

    `first_times` are Unix ms, -1 where an older meterd did not note it.
    """

    days: Times
    n: Values
    values: Values
    first_times: Times
    firsts: Values


class BlockReader:
    """A snapshot of the store's blocks; empty without a connection."""

    def __init__(self, connection: Connection | None, decoded: BlockCache) -> None:
        self._connection = connection
        self._decoded = decoded
        self._dirty: set[int] = set()
        self._first_raw: int | None = None
        if connection is not None:
            self._dirty = set(connection.scalars(_DIRTY))
            oldest = connection.scalar(_OLDEST)
            self._first_raw = None if oldest is None else dirty_of(oldest)[1] // DAY

    def is_rolled(self, device: int, day: int) -> bool:
        """Whether the day's roll-ups say what its blocks hold."""
        return dirty_id(device, day) not in self._dirty

    def is_trimmed(self, day: int) -> bool:
        """Whether the day's raw samples are deleted."""
        return self._first_raw is not None and day < self._first_raw

    def days(
        self, device: int, wanted: Sequence[int], days: Sequence[int]
    ) -> Iterator[tuple[int, dict[int, SeriesArray]]]:
        """(day, what its blocks hold of the wanted series), for the days that have blocks."""
        for start in range(0, len(days), _DAYS):
            batch = days[start : start + _DAYS]
            by_day: dict[int, list[tuple[int, bytes]]] = {}
            for key, body in self._bodies(
                [number for day in batch for number in block_ids(device, day)]
            ):
                by_day.setdefault(block_hour(key) // DAY, []).append((key, body))
            for day in batch:
                if day in by_day:
                    yield day, self._tracks(by_day[day], wanted)

    def _tracks(
        self, blocks: Sequence[tuple[int, bytes]], wanted: Sequence[int]
    ) -> dict[int, SeriesArray]:
        by_series: dict[int, list[SeriesArray]] = {}
        for key, body in blocks:
            for number, array in self._decoded.arrays(key, body, wanted):
                by_series.setdefault(number, []).append(array)
        return {number: concatenate(arrays) for number, arrays in by_series.items()}

    def _bodies(self, keys: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        if self._connection is not None:
            for row in self._connection.execute(_BODIES, {"keys": keys}):
                yield row.id, row.body

    def quarters(
        self, series: int, first: int, end: int
    ) -> Iterator[tuple[int, dict[int, rollups.QuarterRollup]]]:
        """(day, its quarter hours) of a series' roll-ups, from day `first` to before `end`."""
        if self._connection is None:
            return
        for row in self._connection.execute(_rolled("day", "quarters"), _keys(series, first, end)):
            yield row.day, rollup_codec.unpack(row.quarters)[1]

    def counter_days(
        self, series: int, first: int, end: int, *, total: bool
    ) -> Iterator[tuple[int, CounterDay]]:
        """(day, its samples) of a counter's roll-ups, from day `first` to before `end`."""
        if self._connection is None:
            return
        for row in self._connection.execute(_rolled(*_COUNTED), _keys(series, first, end)):
            if row.n and row.last is not None:
                yield row.day, _counter_day(row, total=total)

    def nearest_rolled(self, series: int, day: int, *, later: bool) -> int | None:
        """The next day after this one that has roll-ups of samples, or the last one before."""
        if self._connection is None:
            return None
        keys = _keys(series, day + 1, _LAST_DAY) if later else _keys(series, 0, day)
        nearest: int | None = self._connection.scalar(_NEXT if later else _PREVIOUS, keys)
        return nearest

    def dirty_days(self, device: int) -> set[int]:
        """The days whose roll-ups do not match the device's blocks."""
        return {day for owner, day in map(dirty_of, self._dirty) if owner == device}

    def pieces(self, series: int, first: int, end: int, agg: str) -> PartialAggregate | None:
        """The quarter hours of a series that have samples, as far as `agg` needs them.

        Of the days from `first` to before `end`; their last is not known.
        """
        if self._connection is None:
            return None
        bodies = self._connection.scalars(_rolled("quarters"), _keys(series, first, end)).all()
        if not bodies:
            return None
        numbers, n, low, high, total = rollup_arrays.decode(bodies, _LANES.get(agg, ()))
        last = np.full(len(n), np.nan)
        partial = PartialAggregate(numbers * rollups.QUARTER_MS, n, total, low, high, last)
        return partial if n.all() else partial.take(n > 0)

    def apart(
        self, series: int, first: int, end: int, lanes: Sequence[str]
    ) -> tuple[rollup_arrays.RollupArrays, rollup_arrays.EdgeArrays, list[int]]:
        """Quarter hours of a series without their edges, the edges, and days of unknown edges.

        Of the days from `first` to before `end`, only those that have roll-ups.
        """
        bodies: Sequence[bytes] = ()
        if self._connection is not None:
            statement = _rolled("quarters")
            bodies = self._connection.scalars(statement, _keys(series, first, end)).all()
        return rollup_arrays.decode_apart(bodies, lanes)

    def whole_days(self, series: int, first: int, end: int, lane: str) -> WholeDays:
        """The days of a series that have samples, from day `first` to before `end`.

        `lane` is min, max or sum.
        """
        rows: Sequence[Any] = ()
        if self._connection is not None:
            statement = _rolled("day", "n", lane, "first_time", "first")
            found = self._connection.execute(statement, _keys(series, first, end)).all()
            rows = [row for row in found if row[1]]
        days, n, values, times, firsts = zip(*rows, strict=True) if rows else ((),) * 5
        numbers = np.array([-1 if time is None else time for time in times], np.int64)
        floats = [np.array(column, np.float64) for column in (n, values, firsts)]
        return WholeDays(np.array(days, np.int64), floats[0], floats[1], numbers, floats[2])

    def day_pieces(self, series: int, first: int, end: int, agg: str) -> PartialAggregate | None:
        """The whole days of a series, from `first` to before `end`, as far as `agg` needs them."""
        if self._connection is None:
            return None
        needed = [name for name in _LANES.get(agg, (agg,)) if name in rollup.c]
        statement = _rolled("day", "n", *needed)
        rows = [
            row
            for row in self._connection.execute(statement, _keys(series, first, end)).all()
            if row[1]
        ]
        if not rows:
            return None
        days, n, *rest = map(np.array, zip(*rows, strict=True))
        by_name = dict(zip(needed, rest, strict=True))
        nothing = np.full(len(rows), np.nan)
        lanes = (by_name.get(name, nothing) for name in ("sum", "min", "max", "last"))
        return PartialAggregate(days.astype(np.int64) * DAY, n.astype(np.float64), *lanes)


def _counter_day(row: Any, *, total: bool) -> CounterDay:
    quarters = rollup_codec.unpack(row.quarters)[1]
    first, last = (row.first_time, row.first), (row.last_time, row.last)
    fell = not row.first <= row.min <= row.max <= row.last
    return CounterDay(first, last, quarters, rolled=True, steady=total or not fell, total=total)


@cache
def _rolled(*columns: str) -> Select[Any]:
    """Of the roll-ups whose keys are from `low` to `high`, oldest first."""
    key = rollup.c.id
    statement = select(*(rollup.c[name] for name in columns))
    return statement.where(key.between(bindparam("low"), bindparam("high"))).order_by(key)


def _keys(series: int, first: int, end: int) -> dict[str, int]:
    return {"low": rollup_id(series, first), "high": rollup_id(series, end) - 1}
