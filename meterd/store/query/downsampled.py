"""Downsampled reads: points of five minutes from roll-ups, for days without raw samples.

A gauge is the mean of its quarter hour from its start on. A counter is what it showed at the end
of the quarter hour, which is the day's last reading less what it rose by from then on, and on a
straight line in between. Peaks are not known any more. Five minutes, because it is for so long
that a value stands in PromQL.
"""

from collections.abc import Iterator
from itertools import chain, pairwise
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, select

from meterd.model.quantity import Kind
from meterd.store.blocks import rollup_arrays, rollup_codec
from meterd.store.blocks.checksum import decoding
from meterd.store.blocks.rollup import QUARTER_MS, QUARTERS
from meterd.store.blocks.slicing import DAY
from meterd.store.db.keys import rollup_id
from meterd.store.db.schema import rollup
from meterd.store.head.catalog import CatalogSeries
from meterd.store.query.series_array import EMPTY, SeriesArray

_APART = 300_000
_PARTS = QUARTER_MS // _APART

Numbers = NDArray[np.int64]


class _DownsampledDay(NamedTuple):
    """A counter's day: first and last reading with their times (Unix ms), and its quarter hours.

    `numbers` since 1970, `told` whether they have samples, `rises` in thousandths of the unit.
    """

    first_time: int
    first: float
    last_time: int
    last: float
    low: float
    numbers: Numbers
    told: NDArray[np.bool_]
    rises: Numbers


def downsampled_points(
    connection: Connection | None, series: CatalogSeries, start: int, end: int
) -> SeriesArray:
    """Of quarter hours that are over by `end`, points with start <= time < end (Unix ms).

    Raises StoreError (corrupt).
    """
    if connection is None or start >= end:
        return EMPTY
    if series.kind is not Kind.COUNTER:
        return _means(connection, series.id, start, end)
    # A counter's last point of a day stands at the next midnight, which is on the way to the
    # first reading of the next day.
    days = _days(connection, series.id, (start - 1) // DAY, -(-end // DAY) + 1)
    parts = list(_counted(days))
    if not parts:
        return EMPTY
    times, values = (np.concatenate(lane) for lane in zip(*parts, strict=True))
    return SeriesArray(times, values).within(start, end)


def _means(connection: Connection, series: int, start: int, end: int) -> SeriesArray:
    between = _between(series, start // DAY, -(-end // DAY))
    statement = select(rollup.c.quarters).where(between).order_by(rollup.c.id)
    quarters = rollup_arrays.decode(connection.scalars(statement).all(), ("sum",))
    chosen = (quarters.n > 0) & ((quarters.numbers + 1) * QUARTER_MS <= end)
    times = quarters.numbers[chosen, np.newaxis] * QUARTER_MS + np.arange(_PARTS) * _APART
    values = np.repeat(quarters.total[chosen] / quarters.n[chosen], _PARTS)
    return SeriesArray(times.ravel(), values).within(start, end)


def _between(series: int, first: int, end: int) -> ColumnElement[bool]:
    ids = rollup.c.id.between(rollup_id(series, first), rollup_id(series, end) - 1)
    return ids & (rollup.c.n > 0)


def _days(connection: Connection, series: int, first: int, end: int) -> Iterator[_DownsampledDay]:
    names = "first_time", "first", "last_time", "last", "min", "quarters"
    statement = select(*(rollup.c[name] for name in names)).where(_between(series, first, end))
    for row in connection.execute(statement.order_by(rollup.c.id)):
        quarters = _quarters(row.quarters)
        yield _DownsampledDay(
            row.first_time, row.first, row.last_time, row.last, row.min, *quarters
        )


def _quarters(body: bytes) -> tuple[Numbers, NDArray[np.bool_], Numbers]:
    """Numbers, whether they have samples, and what the counter rose by; no lanes."""
    with decoding(rollup_codec.WHAT):
        packed = rollup_codec.sections(body)
        counted = _places(packed.counted)
        rises = np.zeros(packed.size, np.int64)
        rises[counted] = packed.rises()
        has_samples = np.array(packed.whole_counts(), np.int64) > 0
    return _places(packed.places) + packed.day * QUARTERS, has_samples, rises


def _places(bitmap: bytes) -> Numbers:
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
    return np.flatnonzero(bits).astype(np.int64)


def _counted(days: Iterator[_DownsampledDay]) -> Iterator[tuple[Numbers, NDArray[np.float64]]]:
    """Times and readings, day by day."""
    before = -inf
    for day, following in pairwise(chain(days, (None,))):
        if day is None:
            return
        times, values = _readings(day, following)
        # No rounding is to look like a reset, where there was none.
        yield times, np.maximum(values, before) if day.first >= before else values
        before = day.last


def _readings(
    day: _DownsampledDay, following: _DownsampledDay | None
) -> tuple[Numbers, NDArray[np.float64]]:
    """The counter's readings in the quarter hours that have samples."""
    ends = (day.numbers + 1) * QUARTER_MS
    if day.low < day.first:
        # It was reset on that day: how far it rose tells no reading.
        return ends[day.told][-1:], np.array([day.last])
    end = _reading_at(int(ends[-1]), day, following)
    later = np.cumsum(day.rises[::-1])[::-1] - day.rises
    before = np.arange(_PARTS)[::-1]
    times = ends[day.told, np.newaxis] - before * _APART
    rises = later[day.told, np.newaxis] + day.rises[day.told, np.newaxis] * before / _PARTS
    values = np.round(end - rises / 1000, 3)
    begun = times >= day.first_time
    return times[begun], values[begun]


def _reading_at(time: int, day: _DownsampledDay, following: _DownsampledDay | None) -> float:
    """At the end of a day's last quarter hour: on the line to the next day's first reading."""
    if following is None or following.first < day.last:
        return day.last
    share = (time - day.last_time) / (following.first_time - day.last_time)
    return day.last + (following.first - day.last) * share
