"""Reads windows of history: samples, buckets and quarter hours, of head and database."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from threading import Event

from sqlalchemy import Connection

from meterd.errors import StoreCode, StoreError
from meterd.model.quantity import Kind, describe
from meterd.store.blocks import rollup
from meterd.store.blocks.rollup import QUARTER_MS, Quarters
from meterd.store.blocks.slicing import DAY
from meterd.store.head.catalog import Catalog, CatalogSeries, Name
from meterd.store.query.aggregation import BucketEdges, Buckets, PartialAggregate
from meterd.store.query.block_cache import BlockCache
from meterd.store.query.block_reader import BlockReader
from meterd.store.query.counter_reader import CounterReader
from meterd.store.query.downsampled import downsampled_points
from meterd.store.query.range_query import SeriesRequest
from meterd.store.query.series_array import EMPTY, SeriesArray, SharedTimes, concatenate

MOST_SAMPLES = 20_000_000  # in one answer: 320 MB of arrays
MOST_READ = 200_000_000  # samples decoded for one answer of buckets: some ten seconds


@dataclass(frozen=True, slots=True)
class Moment:
    """A reader's snapshot: its transaction, and the head as it was before that began."""

    connection: Connection | None
    catalog: Catalog
    head: Mapping[Name, SeriesArray]
    abandoned: Event
    decoded: BlockCache

    def go_on(self) -> None:
        """Raises StoreError where the client is gone."""
        if self.abandoned.is_set():
            raise StoreError("nobody waits for the answer", code=StoreCode.ABANDONED)


@dataclass(frozen=True, slots=True)
class Days:
    """The UTC days of a window start <= time < end."""

    start: int
    end: int

    def all(self) -> range:
        return range(self.start // DAY, -(-self.end // DAY))

    def holds(self, day: int) -> bool:
        """Whether the whole day is within."""
        return self.start <= day * DAY and (day + 1) * DAY <= self.end


def sample_arrays(
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
    by_name: dict[Name, list[SeriesArray]] = {name: [] for name in names}
    window = bounded(moment, names, start, end)
    blocks = BlockReader(moment.connection, moment.decoded)
    shared = SharedTimes()
    numbers = _by_device(moment, names)
    parts_of = {
        number: by_name[moment.catalog.by_id[number].name]
        for ids in numbers.values()
        for number in ids
    }
    count = 0
    raw_start = blocks.first_raw
    if not raw_only and (raw_start > window.start if raw_start is not None else blocks.has_rollups):
        deleted_until = window.end if raw_start is None else min(window.end, raw_start)
        for number, parts in parts_of.items():
            moment.go_on()
            series = moment.catalog.by_id[number]
            parts.append(downsampled_points(moment.connection, series, window.start, deleted_until))
            count += len(parts[-1].times)
            _need_at_most(count, most)
    for block in blocks.blocks(numbers, window.all()):
        moment.go_on()
        for number, array in block.series:
            samples = shared.within(array, start, end)
            parts_of[number].append(samples)
            count += len(samples.times)
        _need_at_most(count, most)
    for name in names:
        by_name[name].append(shared.within(moment.head.get(name, EMPTY), start, end))
    whole = {name: shared.concatenate(parts) for name, parts in by_name.items()}
    _need_at_most(sum(len(track.times) for track in whole.values()), most)
    return whole


def points(
    moment: Moment, names: Sequence[Name], request: SeriesRequest
) -> Iterator[tuple[Name, list[tuple[int, float]]]]:
    """The points of each series. Raises StoreError."""
    if request.step == 0:
        arrays = sample_arrays(moment, names, request.start, request.end, raw_only=True)
        for name in names:
            track = arrays[name].without_nulls()
            yield name, list(zip(track.times.tolist(), track.values.tolist(), strict=True))
        return
    blocks = BlockReader(moment.connection, moment.decoded)
    ids = _by_device(moment, names)
    stored = {moment.catalog.by_id[number].name for numbers in ids.values() for number in numbers}
    for name in names:
        if name not in stored:
            yield name, _buckets_of(request, moment.head.get(name, EMPTY)).points()
    for device, numbers in ids.items():
        yield from _device(
            moment, blocks, device, [moment.catalog.by_id[number] for number in numbers], request
        )


def _buckets_of(request: SeriesRequest, track: SeriesArray) -> Buckets:
    buckets = Buckets(request.agg, BucketEdges(request.step, request.edges))
    buckets.add(track.within(request.start, request.end).without_nulls())
    return buckets


def _device(
    moment: Moment,
    blocks: BlockReader,
    device: int,
    series: Sequence[CatalogSeries],
    request: SeriesRequest,
) -> Iterator[tuple[Name, list[tuple[int, float]]]]:
    """The buckets of one device's series, day by day."""
    window = bounded(moment, [each.name for each in series], request.start, request.end)
    head = {
        each.id: moment.head.get(each.name, EMPTY).within(request.start, request.end)
        for each in series
    }
    recent = min((int(track.times[0]) for track in head.values() if len(track.times)), default=None)
    rolled = _rolled(blocks, device, request, window, recent)
    edges = BucketEdges(request.step, request.edges)
    buckets = {each.id: Buckets(request.agg, edges) for each in series}
    read = 0
    for first, end in _day_runs(window.all(), rolled):
        if first in rolled:
            for each in series:
                moment.go_on()
                _add_rolled(buckets[each.id], blocks, each, request, first, end)
            continue
        for count in _add_raw(buckets, blocks, device, head, request, range(first, end)):
            moment.go_on()
            read += count
            _need_at_most(read, MOST_READ)
    for each in series:
        yield each.name, buckets[each.id].points()


def _day_runs(days: range, rolled: frozenset[int]) -> Iterator[tuple[int, int]]:
    """First day and end of each run of days that are answered in the same way."""
    for _, run in groupby(days, rolled.__contains__):
        listed = list(run)
        yield listed[0], listed[-1] + 1


def _add_rolled(
    buckets: Buckets,
    blocks: BlockReader,
    series: CatalogSeries,
    request: SeriesRequest,
    first: int,
    end: int,
) -> None:
    if request.is_of_days or request.agg == "last":
        piece = blocks.day_pieces(series.id, first, end, request.agg)
    else:
        piece = blocks.pieces(series.id, first, end, request.agg)
        piece = _within(piece, request.start, request.end) if piece is not None else None
    if piece is not None:
        buckets.add_piece(piece)


def _add_raw(
    buckets: Mapping[int, Buckets],
    reader: BlockReader,
    device: int,
    head: Mapping[int, SeriesArray],
    request: SeriesRequest,
    days: range,
) -> Iterator[int]:
    """Day by day; yields how many samples it read."""
    blocks = reader.days(device, list(buckets), days)
    upcoming = next(blocks, None)
    for day in days:
        stored: dict[int, SeriesArray] = {}
        if upcoming is not None and upcoming[0] == day:
            stored = upcoming[1]
            upcoming = next(blocks, None)
        low, high = max(request.start, day * DAY), min(request.end, (day + 1) * DAY)
        read = 0
        for number, series_buckets in buckets.items():
            parts = [stored.get(number, EMPTY), head[number]]
            track = concatenate([part.within(low, high) for part in parts])
            read += len(track.times)
            series_buckets.add(track.without_nulls())
        yield read


def bounded(moment: Moment, names: Sequence[Name], start: int, end: int) -> Days:
    """The part of a window in which these series have samples at all."""
    times: list[int] = []
    for name in names:
        track = moment.head.get(name, EMPTY)
        if len(track.times):
            times += (int(track.times[0]), int(track.times[-1]))
        series = moment.catalog.series.get(name)
        if series is not None and series.first is not None and series.last is not None:
            times += (series.first, series.last)
    if not times:
        return Days(0, 0)
    return Days(max(start, min(times)), min(end, max(times) + 1))


def _rolled(
    blocks: BlockReader, device: int, request: SeriesRequest, window: Days, recent: int | None
) -> frozenset[int]:
    """The days to answer from roll-ups: where those are exact, and where raw samples are
    deleted.
    """
    quarters = request.is_of_quarters and request.agg != "last"
    fits = quarters or request.is_of_days
    return frozenset(
        day
        for day in window.all()
        if (blocks.is_trimmed(day) or (fits and Days(request.start, request.end).holds(day)))
        and blocks.is_rolled(device, day)
        and (recent is None or day < recent // DAY)
    )


def _within(piece: PartialAggregate, start: int, end: int) -> PartialAggregate:
    """The quarters of a piece that begin in the window."""
    inside = (piece.starts >= start) & (piece.starts < end)
    return piece if inside.all() else piece.take(inside)


def quarters(moment: Moment, name: Name, start: int, end: int) -> Quarters:
    """The quarter hours of a series that begin at start <= time < end, by number."""
    wanted = range(-(-start // QUARTER_MS), -(-end // QUARTER_MS))
    blocks = BlockReader(moment.connection, moment.decoded)
    series = moment.catalog.series.get(name)
    described = describe(name[1], name[2])
    kind = series.kind if series is not None else described.kind if described else Kind.GAUGE
    if kind is Kind.COUNTER:
        return CounterReader(moment, blocks, name).quarters(wanted)
    track = moment.head.get(name, EMPTY)
    if series is None:
        return _folded(track, wanted)
    device = moment.catalog.devices[name[0]]
    recent = int(track.times[0]) if len(track.times) else None
    window = bounded(moment, [name], start, end)
    days = [
        day
        for day in window.all()
        if blocks.is_rolled(device, day) and (recent is None or day < recent // DAY)
    ]
    result: Quarters = {}
    if days:
        for day, of_day in blocks.quarters(series.id, days[0], days[-1] + 1):
            if day in set(days):
                result.update(
                    (number, quarter) for number, quarter in of_day.items() if number in wanted
                )
    raw = [day for day in window.all() if day not in set(days)]
    for first, last in _batches(raw):
        part = sample_arrays(moment, [name], first * DAY, (last + 1) * DAY, raw_only=True)[name]
        inner = range(
            max(wanted.start, first * rollup.QUARTERS),
            min(wanted.stop, (last + 1) * rollup.QUARTERS),
        )
        result.update(_folded(part, inner))
    return dict(sorted(result.items()))


def _folded(track: SeriesArray, wanted: range) -> Quarters:
    track = track.without_nulls()
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
    numbers: dict[int, list[int]] = {}
    for name in names:
        series = moment.catalog.series.get(name)
        if series is not None:
            numbers.setdefault(moment.catalog.devices[name[0]], []).append(series.id)
    return numbers


def _need_at_most(count: int, most: int | None) -> None:
    most = MOST_SAMPLES if most is None else most
    if count > most:
        text = f"the question covers more than {most} samples; ask for less time or fewer series"
        raise StoreError(text, code=StoreCode.TOO_MUCH)
