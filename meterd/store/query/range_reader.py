"""Reads windows of history: samples, buckets and quarter hours, of head and database."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from threading import Event
from typing import TypeAlias

from sqlalchemy import Connection

from meterd.errors import StoreCode, StoreError
from meterd.model.quantity import Kind, describe
from meterd.store.blocks import rollup
from meterd.store.blocks.rollup import QUARTER_MS, QuarterRollup
from meterd.store.blocks.slicing import DAY
from meterd.store.head.catalog import Catalog, CatalogSeries, Name
from meterd.store.query.aggregation import BucketEdges, Buckets, PartialAggregate
from meterd.store.query.block_cache import BlockCache
from meterd.store.query.block_reader import BlockReader
from meterd.store.query.counter_reader import CounterReader
from meterd.store.query.downsampled import downsampled_points, first_raw_time
from meterd.store.query.range_query import SeriesRequest
from meterd.store.query.series_array import EMPTY, SeriesArray, concatenate

MOST_SAMPLES = 20_000_000  # in one answer: 320 MB of arrays
MOST_READ = 200_000_000  # samples decoded for one answer of buckets: some ten seconds

Quarters: TypeAlias = dict[int, QuarterRollup]


@dataclass(frozen=True, slots=True)
class Moment:
    """The store as a reader sees it: its transaction, and what was in memory before it began."""

    connection: Connection | None
    catalog: Catalog
    head: Mapping[Name, SeriesArray]
    abandoned: Event
    decoded: BlockCache

    def go_on(self) -> None:
        """Raises StoreError where nobody waits for the answer any more."""
        if self.abandoned.is_set():
            raise StoreError("nobody waits for the answer", code=StoreCode.ABANDONED)


@dataclass(frozen=True, slots=True)
class _Days:
    """The UTC days of a window start <= time < end."""

    start: int
    end: int

    def all(self) -> range:
        return range(self.start // DAY, -(-self.end // DAY))

    def holds(self, day: int) -> bool:
        """Whether the whole day is within."""
        return self.start <= day * DAY and (day + 1) * DAY <= self.end


def tracks(
    moment: Moment,
    names: Sequence[Name],
    start: int,
    end: int,
    most: int | None = None,
    *,
    raw_only: bool = False,
) -> dict[Name, SeriesArray]:
    """Every sample of the window. Raises StoreError (too_much) beyond `most`.

    Where raw samples are deleted, points out of roll-ups stand for them (downsampled.py).
    """
    found: dict[Name, list[SeriesArray]] = {name: [] for name in names}
    window = _bounded(moment, names, start, end)
    past = BlockReader(moment.connection, moment.decoded)
    count = 0
    left = window.start if raw_only else first_raw_time(moment.connection, window.end)
    for device, known in _by_device(moment, names).items():
        listed = [moment.catalog.by_id[one].name for one in known]
        for one, name in zip(known, listed, strict=True):
            moment.go_on()
            lost = moment.catalog.by_id[one], window.start, min(window.end, left)
            found[name].append(downsampled_points(moment.connection, *lost))
            count += len(found[name][-1].times)
            _need_at_most(count, most)
        for _, by_id in past.days(device, known, window.all()):
            moment.go_on()
            for one, name in zip(known, listed, strict=True):
                part = by_id.get(one, EMPTY).within(start, end)
                found[name].append(part)
                count += len(part.times)
            _need_at_most(count, most)
    for name in names:
        found[name].append(moment.head.get(name, EMPTY).within(start, end))
    whole = {name: concatenate(parts) for name, parts in found.items()}
    _need_at_most(sum(len(track.times) for track in whole.values()), most)
    return whole


def points(
    moment: Moment, names: Sequence[Name], asked: SeriesRequest
) -> Iterator[tuple[Name, list[tuple[int, float]]]]:
    """The points of each series. Raises StoreError."""
    if asked.step == 0:
        found = tracks(moment, names, asked.start, asked.end, raw_only=True)
        for name in names:
            track = found[name].told()
            yield name, list(zip(track.times.tolist(), track.values.tolist(), strict=True))
        return
    past = BlockReader(moment.connection, moment.decoded)
    ids = _by_device(moment, names)
    stored = {moment.catalog.by_id[one].name for known in ids.values() for one in known}
    for name in names:
        if name not in stored:
            yield name, _buckets_of(asked, moment.head.get(name, EMPTY)).points()
    for device, known in ids.items():
        yield from _device(moment, past, device, [moment.catalog.by_id[k] for k in known], asked)


def _buckets_of(asked: SeriesRequest, track: SeriesArray) -> Buckets:
    buckets = Buckets(asked.agg, BucketEdges(asked.step, asked.edges))
    buckets.add(track.within(asked.start, asked.end).told())
    return buckets


def _device(
    moment: Moment,
    past: BlockReader,
    device: int,
    known: Sequence[CatalogSeries],
    asked: SeriesRequest,
) -> Iterator[tuple[Name, list[tuple[int, float]]]]:
    """The buckets of one device's series, day by day."""
    window = _bounded(moment, [one.name for one in known], asked.start, asked.end)
    head = {
        one.id: moment.head.get(one.name, EMPTY).within(asked.start, asked.end) for one in known
    }
    recent = min((int(track.times[0]) for track in head.values() if len(track.times)), default=None)
    rolled = _rolled(past, device, asked, window, recent)
    edges = BucketEdges(asked.step, asked.edges)
    buckets = {one.id: Buckets(asked.agg, edges) for one in known}
    read = 0
    for first, end in _alike(window.all(), rolled):
        if first in rolled:
            for one in known:
                moment.go_on()
                _add_rolled(buckets[one.id], past, one, asked, first, end)
            continue
        for count in _add_raw(buckets, past, device, head, asked, range(first, end)):
            moment.go_on()
            read += count
            _need_at_most(read, MOST_READ)
    for one in known:
        yield one.name, buckets[one.id].points()


def _alike(days: range, rolled: frozenset[int]) -> Iterator[tuple[int, int]]:
    """First day and end of each run of days that are answered in the same way."""
    for _, same in groupby(days, rolled.__contains__):
        listed = list(same)
        yield listed[0], listed[-1] + 1


def _add_rolled(
    buckets: Buckets,
    past: BlockReader,
    one: CatalogSeries,
    asked: SeriesRequest,
    first: int,
    end: int,
) -> None:
    if asked.is_of_days or asked.agg == "last":
        piece = past.day_pieces(one.id, first, end, asked.agg)
    else:
        piece = past.pieces(one.id, first, end, asked.agg)
        piece = _within(piece, asked.start, asked.end) if piece is not None else None
    if piece is not None:
        buckets.add_piece(piece)


def _add_raw(
    buckets: Mapping[int, Buckets],
    past: BlockReader,
    device: int,
    head: Mapping[int, SeriesArray],
    asked: SeriesRequest,
    days: range,
) -> Iterator[int]:
    """Day by day; yields how many samples it read."""
    blocks = past.days(device, list(buckets), days)
    upcoming = next(blocks, None)
    for day in days:
        stored: dict[int, SeriesArray] = {}
        if upcoming is not None and upcoming[0] == day:
            stored = upcoming[1]
            upcoming = next(blocks, None)
        low, high = max(asked.start, day * DAY), min(asked.end, (day + 1) * DAY)
        read = 0
        for one, mine in buckets.items():
            parts = [stored.get(one, EMPTY), head[one]]
            track = concatenate([part.within(low, high) for part in parts])
            read += len(track.times)
            mine.add(track.told())
        yield read


def _bounded(moment: Moment, names: Sequence[Name], start: int, end: int) -> _Days:
    """The part of a window in which these series have samples at all."""
    times: list[int] = []
    for name in names:
        track = moment.head.get(name, EMPTY)
        if len(track.times):
            times += (int(track.times[0]), int(track.times[-1]))
        known = moment.catalog.series.get(name)
        if known is not None and known.first is not None and known.last is not None:
            times += (known.first, known.last)
    if not times:
        return _Days(0, 0)
    return _Days(max(start, min(times)), min(end, max(times) + 1))


def _rolled(
    past: BlockReader, device: int, asked: SeriesRequest, window: _Days, recent: int | None
) -> frozenset[int]:
    """The days for which roll-ups answer: where they are exact, and where nothing else is left."""
    quarters = asked.is_of_quarters and asked.agg != "last"
    fits = quarters or asked.is_of_days
    return frozenset(
        day
        for day in window.all()
        if (past.is_trimmed(day) or (fits and _Days(asked.start, asked.end).holds(day)))
        and past.is_rolled(device, day)
        and (recent is None or day < recent // DAY)
    )


def _within(piece: PartialAggregate, start: int, end: int) -> PartialAggregate:
    """The quarters of a piece that begin in the window."""
    inside = (piece.starts >= start) & (piece.starts < end)
    return piece if inside.all() else piece.take(inside)


def quarters(moment: Moment, name: Name, start: int, end: int) -> Quarters:
    """The quarter hours of a series that begin at start <= time < end, by number."""
    wanted = range(-(-start // QUARTER_MS), -(-end // QUARTER_MS))
    past = BlockReader(moment.connection, moment.decoded)
    known = moment.catalog.series.get(name)
    described = describe(name[1], name[2])
    kind = known.kind if known is not None else described.kind if described else Kind.GAUGE
    if kind is Kind.COUNTER:
        return CounterReader(moment, past, name).quarters(wanted)
    track = moment.head.get(name, EMPTY)
    if known is None:
        return _folded(track, wanted)
    device = moment.catalog.devices[name[0]]
    recent = int(track.times[0]) if len(track.times) else None
    window = _bounded(moment, [name], start, end)
    days = [
        day
        for day in window.all()
        if past.is_rolled(device, day) and (recent is None or day < recent // DAY)
    ]
    found: Quarters = {}
    if days:
        for day, told in past.quarters(known.id, days[0], days[-1] + 1):
            if day in set(days):
                found.update((number, one) for number, one in told.items() if number in wanted)
    raw = [day for day in window.all() if day not in set(days)]
    for first, last in _batches(raw):
        part = tracks(moment, [name], first * DAY, (last + 1) * DAY, raw_only=True)[name]
        inner = range(
            max(wanted.start, first * rollup.QUARTERS),
            min(wanted.stop, (last + 1) * rollup.QUARTERS),
        )
        found.update(_folded(part, inner))
    return dict(sorted(found.items()))


def _folded(track: SeriesArray, wanted: range) -> Quarters:
    track = track.told()
    times, values = track.times.tolist(), track.values.tolist()
    return rollup.fold(times, values, counter=False, within=wanted)


def _batches(days: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of consecutive days."""
    start = 0
    for at in range(1, len(days) + 1):
        if at == len(days) or days[at] != days[at - 1] + 1:
            yield days[start], days[at - 1]
            start = at


def _by_device(moment: Moment, names: Sequence[Name]) -> dict[int, list[int]]:
    """The numbers of the series that the store has, by their device's."""
    found: dict[int, list[int]] = {}
    for name in names:
        known = moment.catalog.series.get(name)
        if known is not None:
            found.setdefault(moment.catalog.devices[name[0]], []).append(known.id)
    return found


def _need_at_most(count: int, most: int | None) -> None:
    most = MOST_SAMPLES if most is None else most
    if count > most:
        text = f"the question covers more than {most} samples; ask for less time or fewer series"
        raise StoreError(text, code=StoreCode.TOO_MUCH)
