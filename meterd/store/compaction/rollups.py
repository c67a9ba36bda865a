"""Rows of hours (for people with a SQL client) and of roll-ups, out of a device's chunks."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from meterd.model.quantity import GUARDED, Kind
from meterd.store.blocks import rollup, rollup_codec, slicing
from meterd.store.blocks.chunk import Chunk, ChunkColumn
from meterd.store.blocks.counter_increase import Power
from meterd.store.blocks.rollup import QuarterRollup
from meterd.store.blocks.slicing import HOUR
from meterd.store.db.keys import hour_id, rollup_id
from meterd.store.db.statements import Row
from meterd.store.head.catalog import Catalog

_A_DAY = 96  # quarter hours
_AN_HOUR = 4

At = tuple[int, float]
"""Unix ms and value."""


@dataclass(slots=True)
class LastSamples:
    """The last sample of each series of a device, and the time of its last poll.

    `is_open`: nothing was known of what came after it.
    """

    previous: Chunk | None
    time: int | None = None
    samples: dict[int, At] = field(default_factory=dict)
    is_open: bool = False

    def __post_init__(self) -> None:
        if self.previous is not None:
            self.note(self.previous)
            self.previous = None

    def note(self, chunk: Chunk) -> None:
        if self.time is not None and chunk.times[-1] < self.time:
            return
        self.time = chunk.times[-1]
        for column in chunk.columns:
            times, values = slicing.valid_samples(chunk, column)
            if times:
                self.samples[column.series] = times[-1], values[-1]


def quarters(
    chunk: Chunk,
    column: ChunkColumn,
    catalog: Catalog,
    before: At | None,
    after: At | None,
    within: range | None = None,
    power: Power | None = None,
) -> dict[int, QuarterRollup]:
    """The quarter hours of one series, by their number since 1970."""
    times, values = slicing.valid_samples(chunk, column)
    if before is not None and times and before[0] >= times[0]:
        before = None
    entry = catalog.by_id[column.series]
    return rollup.fold(
        times,
        values,
        counter=entry.kind is Kind.COUNTER,
        before=before,
        after=after,
        power=power,
        within=within,
        total=entry.name[1].startswith(GUARDED),
    )


def hour_rows(
    chunk: Chunk, whole: Chunk, catalog: Catalog, tips: Mapping[int, At]
) -> Iterator[Row]:
    """A row for each series and hour of the chunk; `whole` continues after it."""
    follow = {column.series: column for column in whole.columns}
    hours = range(chunk.times[0] // HOUR * _AN_HOUR, (chunk.times[-1] // HOUR + 1) * _AN_HOUR)
    for column in chunk.columns:
        if column.series not in catalog.by_id:
            continue  # somebody took its row out of the table of series
        following = follow.get(column.series)
        counter = catalog.by_id[column.series].kind is Kind.COUNTER
        after = None
        if counter and following is not None:
            after = first_sample_since(whole, following, chunk.times[-1] + 1)
        rolled = quarters(chunk, column, catalog, tips.get(column.series), after, hours)
        yield from hour_values(column.series, rolled)


def first_sample_since(chunk: Chunk, column: ChunkColumn, time: int) -> At | None:
    """The first sample of a series at or after `time`."""
    row = bisect_left(chunk.times, time)
    at = bisect_left(column.rows, row)
    times, values = slicing.valid_samples(chunk, slicing.tail(column, at))
    return (times[0], values[0]) if times else None


def hour_values(series: int, rolled: Mapping[int, QuarterRollup]) -> Iterator[Row]:
    """The rows of the hours that these quarters belong to."""
    by_hour: dict[int, list[QuarterRollup]] = {}
    for number, quarter in sorted(rolled.items()):
        by_hour.setdefault(number // _AN_HOUR, []).append(quarter)
    for number, some in by_hour.items():
        yield {"id": hour_id(series, number), **total(some)}


def total(some: Iterable[QuarterRollup]) -> Row:
    """n, min, max, sum and increase (in the unit) of quarters."""
    listed = list(some)
    full = [quarter for quarter in listed if quarter.n]
    rises = [quarter.increase for quarter in listed if quarter.increase is not None]
    return {
        "n": sum(quarter.n for quarter in listed),
        "min": min((quarter.min for quarter in full), default=None),
        "max": max((quarter.max for quarter in full), default=None),
        "sum": sum(quarter.sum for quarter in full) if full else None,
        "increase": sum(rises) / 1000 if rises else None,
    }


def rollup_row(
    series: int,
    day: int,
    rolled: Mapping[int, QuarterRollup],
    times: Iterable[int],
    values: Iterable[float],
) -> Row | None:
    """The roll-up of one series and day; None where it has neither samples nor an increase."""
    first = day * _A_DAY
    held = {
        number: quarter for number, quarter in rolled.items() if first <= number < first + _A_DAY
    }
    if not held:
        return None
    samples = list(zip(times, values, strict=True))
    opening = samples[0] if samples else (None, None)
    closing = samples[-1] if samples else (None, None)
    return {
        "id": rollup_id(series, day),
        "series_id": series,
        "day": day,
        **total(held.values()),
        "first_time": opening[0],
        "first": opening[1],
        "last_time": closing[0],
        "last": closing[1],
        "quarters": rollup_codec.pack(day, held),
    }
