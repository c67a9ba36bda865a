"""Reads blocks and roll-ups, day by day, in one transaction of a reader."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import groupby
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
from meterd.store.query.series_array import SeriesArray, SharedTimes, Times, Values

# What of a roll-up's lanes each aggregate is made of.
_LANES = {"avg": ("sum",), "sum": ("sum",), "min": ("min",), "max": ("max",)}
# Made once: SQLAlchemy takes longer for a statement than SQLite does for the answer.
_DIRTY = select(dirty.c.id)
_OLDEST = select(func.min(block.c.id))
_ANY_ROLLUP = select(rollup.c.id).limit(1)
_NEIGHBOUR = select(rollup.c.day).where(
    rollup.c.id.between(bindparam("low"), bindparam("high")), rollup.c.n > 0
)
_PREVIOUS = _NEIGHBOUR.order_by(rollup.c.id.desc()).limit(1)
_NEXT = _NEIGHBOUR.order_by(rollup.c.id).limit(1)
_COUNTED = ("day", "n", "min", "max", "first_time", "first", "last_time", "last", "quarters")
_LAST_DAY = (1 << 20) - 1  # that a key has room for
_HOURS = 24
# Asked for in one statement.
_KEYS_AT_ONCE = 2400
_DEVICES_AT_ONCE = _KEYS_AT_ONCE // _HOURS


class SeriesOfBlock(NamedTuple):
    """Some series of one block, by number."""

    key: int
    device: int
    series: list[tuple[int, SeriesArray]]


class WholeDays(NamedTuple):
    """Days since 1970, how many samples each has, one aggregate, and its first sample.

    `first_times` are Unix ms, -1 where an older meterd did not note it.
    """

    days: Times
    n: Values
    values: Values
    first_times: Times
    firsts: Values


def first_raw_time(connection: Connection) -> int | None:
    """When the oldest raw samples that are left begin, Unix ms."""
    oldest = connection.scalar(_OLDEST)
    return None if oldest is None else block_hour(int(oldest))


class BlockReader:
    """A snapshot of the store's blocks; empty without a connection."""

    def __init__(self, connection: Connection | None, decoded: BlockCache) -> None:
        self._connection = connection
        self._decoded = decoded

    @cached_property
    def _dirty(self) -> frozenset[int]:
        return frozenset(self._connection.scalars(_DIRTY) if self._connection is not None else ())

    @cached_property
    def first_raw(self) -> int | None:
        """When the oldest raw samples begin (Unix ms); None without any."""
        return None if self._connection is None else first_raw_time(self._connection)

    @cached_property
    def has_rollups(self) -> bool:
        """Whether there is any roll-up."""
        return self._connection is not None and self._connection.scalar(_ANY_ROLLUP) is not None

    def is_rolled(self, device: int, day: int) -> bool:
        """Whether the day's roll-ups say what its blocks hold."""
        return dirty_id(device, day) not in self._dirty

    def is_trimmed(self, day: int) -> bool:
        """Whether the day's raw samples are deleted."""
        return self.first_raw is not None and day < self.first_raw // DAY

    def days(
        self, device: int, wanted: Sequence[int], days: Sequence[int]
    ) -> Iterator[tuple[int, dict[int, SeriesArray]]]:
        """(day, what its blocks hold of the wanted series), for the days that have blocks."""
        shared = SharedTimes()
        blocks = self.blocks({device: wanted}, days)
        for day, some in groupby(blocks, lambda read: block_hour(read.key) // DAY):
            by_series: dict[int, list[SeriesArray]] = {}
            for read in some:
                for number, array in read.series:
                    by_series.setdefault(number, []).append(array)
            yield day, {number: shared.concatenate(parts) for number, parts in by_series.items()}

    def blocks(
        self, wanted: Mapping[int, Sequence[int]], days: Sequence[int]
    ) -> Iterator[SeriesOfBlock]:
        """Of each device the wanted series, block by block; those of one device in time order."""
        devices = list(wanted)
        for first in range(0, len(devices), _DEVICES_AT_ONCE):
            some = devices[first : first + _DEVICES_AT_ONCE]
            width = max(1, _KEYS_AT_ONCE // (_HOURS * len(some)))
            for start in range(0, len(days), width):
                keys = [
                    key
                    for day in days[start : start + width]
                    for device in some
                    for key in block_ids(device, day)
                ]
                for key, body in self._bodies(keys):
                    device = dirty_of(key)[0]
                    series = self._decoded.arrays(key, body, wanted[device])
                    yield SeriesOfBlock(key, device, series)

    def _bodies(self, keys: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        if self._connection is None:
            return
        # Whole numbers, written out: for SQLAlchemy each would be a parameter, which costs more
        # than the rows do.
        listed = ",".join(map(str, keys))
        statement = f"SELECT id, body FROM block WHERE id IN ({listed}) ORDER BY id"  # noqa: S608
        for key, body in self._connection.exec_driver_sql(statement):
            yield key, bytes(body)

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
    ) -> tuple[rollup_arrays.RollupArrays, rollup_arrays.AlignedArrays, list[int]]:
        """Quarter hours without aligned samples, these, and the days where they are unknown.

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
