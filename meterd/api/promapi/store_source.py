"""The store as a source of PromQL: series with Prometheus' labels and staleness.

A series ends where its device stops answering, and where its value is not known: there it gets
Prometheus' stale mark, and so a graph has a gap instead of the last value once more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from meterd.api.promapi import names
from meterd.api.promapi.names import Meaning
from meterd.model.quantity import DEVICE_UP, GUARDED
from meterd.poll.latest import PollPart
from meterd.promql.result import PromErrorType, QueryError
from meterd.promql.source import Folded, Labelled, Times, Values, stale_mark
from meterd.store.blocks.sample_order import misplaced
from meterd.store.head.catalog import Name
from meterd.store.query.window_aggregates import WindowAggregates

if TYPE_CHECKING:
    from meterd.daemon.site import Site
    from meterd.store.reader import Reader

Labels = tuple[tuple[str, str], ...]

# Samples that one selector may fetch: 16 bytes each, so 160 MB at the most.
MOST_SAMPLES = 10_000_000
# Series whose names are remembered from question to question.
_CACHED = 50_000
# Devices may have been silent for long: only what is expected to be so many times too much is
# refused before the store is asked, which counts as it reads.
_DOUBTFUL = 4
# What is taken for the time between two samples where the device is not polled any more, in ms.
_USUAL = 5_000
# After an outage the pace of slow rows looks as long as the outage was: no row is that slow.
_SLOWEST = 3_600_000


@dataclass(frozen=True, slots=True)
class SourceDevice:
    """Labels of a device, its interval in ms, and the columns that it has been asked for."""

    labels: Labels
    interval: int
    parts: tuple[PollPart, ...] = ()

    def paces(self) -> dict[str, int]:
        """The interval of each quantity in ms."""
        paces: dict[str, int] = {}
        for part in self.parts:
            pace = max(self.interval, min(round(part.interval(self.interval)), _SLOWEST))
            for quantity in part.poll.layout.quantities:
                paces[quantity] = min(pace, paces.get(quantity, pace))
        return paces


_GONE = SourceDevice((), 0)


def devices(site: "Site") -> dict[str, SourceDevice]:
    """The source's view of the site; to be called on the event loop, before the thread."""
    states = site.latest.states
    return {
        device.id: SourceDevice(
            tuple(names.device_labels(device.labels).items()),
            round(device.interval * 1000),
            state.parts if (state := states.get(device.id)) is not None else (),
        )
        for device in site.devices()
    }


class StoredSeries(NamedTuple):
    """One stored series with what Prometheus calls it. Times are Unix ms."""

    name: Name
    meaning: Meaning
    labelled: Labelled
    first: int
    last: int


@lru_cache(_CACHED)
def _named(name: Name, kind: str, labels: Labels) -> tuple[names.Meaning, dict[str, str], Labels]:
    """The metadata of a series, its labels, and these as a key."""
    device, quantity, unit = name
    row = names.stored_quantity(quantity, unit, kind)
    meaning = names.meaning(row)
    named = names.series_labels(row, device, dict(labels))
    named["__name__"] = meaning.name
    return meaning, named, tuple(sorted(named.items()))


class StoreSource:
    """A SeriesSource for one query: a snapshot of the series at its first use."""

    def __init__(self, reader: "Reader", devices: Mapping[str, SourceDevice]) -> None:
        self._reader = reader
        self._devices = devices
        self._known: list[StoredSeries] | None = None
        self._labelled: list[Labelled] = []

    def series(self) -> Sequence[StoredSeries]:
        """Every series; no two have the same labels. Raises StoreError."""
        if self._known is None:
            by_labels: dict[Labels, StoredSeries] = {}
            for device, infos in groupby(self._reader.names(), attrgetter("device")):
                source_device = self._devices.get(device, _GONE)
                paces = source_device.paces()
                for info in infos:
                    name = device, info.quantity, info.unit
                    meaning, labels, key = _named(name, info.kind, source_device.labels)
                    if key in by_labels:
                        continue
                    pace = paces.get(info.quantity, source_device.interval)
                    labelled = Labelled(labels, pace, (info.first, info.last))
                    by_labels[key] = StoredSeries(name, meaning, labelled, info.first, info.last)
            self._known = list(by_labels.values())
            self._labelled = [stored.labelled for stored in self._known]
        return self._known

    def names(self) -> Sequence[Labelled]:
        self.series()
        return self._labelled

    def fetch(self, ids: Sequence[int], start: int, end: int) -> Sequence[tuple[Times, Values]]:
        """Samples with start < t <= end, stale marks included. Raises StoreError, QueryError."""
        all_series = self.series()
        selected = [all_series[number] for number in ids]
        ups = {stored.name[0]: stored.name for stored in all_series if stored.name[1] == DEVICE_UP}
        needed = {stored.name for stored in selected}
        needed |= {ups[stored.name[0]] for stored in selected if stored.name[0] in ups}
        samples = self._read(selected, needed, start, end)
        downs = {device: _downs(*samples[up]) for device, up in ups.items() if up in samples}
        return [self._marked(stored.name, samples, downs) for stored in selected]

    def samples(self, ids: Sequence[int], start: int, end: int) -> Sequence[tuple[Times, Values]]:
        """See FoldingSource. Raises StoreError, QueryError."""
        all_series = self.series()
        selected = [all_series[number] for number in ids]
        samples = self._read(selected, {stored.name for stored in selected}, start, end)
        return [_without_nulls(*samples[stored.name]) for stored in selected]

    def _read(
        self, selected: Sequence[StoredSeries], needed: set[Name], start: int, end: int
    ) -> dict[Name, tuple[Times, Values]]:
        """Samples with start < t <= end of these series, in order; NaN for nulls."""
        _need_bounded(selected, start, end)
        order = sorted(needed)
        columns = self._reader.columns(order, start + 1, end + 1, most=MOST_SAMPLES)
        samples: dict[Name, tuple[Times, Values]] = dict(zip(order, columns, strict=True))
        guarded = [name for name in order if name[1].startswith(GUARDED)]
        return samples | {name: _in_line(*samples[name]) for name in guarded}

    def fold(
        self, ids: Sequence[int], function: str, starts: Times, ends: Times
    ) -> list[Folded | None]:
        """See FoldingSource; None where roll-ups do not tell. Raises StoreError."""
        all_series = self.series()
        names = [all_series[number].name for number in ids]
        agg = "count" if function == "present" else function
        return [
            aggregates and _folded(aggregates, function)
            for aggregates in self._reader.window_aggregates(names, starts, ends, agg)
        ]

    def _marked(
        self,
        name: Name,
        samples: Mapping[Name, tuple[Times, Values]],
        downs: Mapping[str, Times],
    ) -> tuple[Times, Values]:
        times, values = samples[name]
        if name[1] == DEVICE_UP:
            return times, values
        return marked(times, values, downs.get(name[0]))


def _folded(aggregates: WindowAggregates, function: str) -> Folded:
    present = aggregates.counts > 0
    values = np.where(present, 1.0, np.nan) if function == "present" else aggregates.values
    return Folded(values, present)


def _need_bounded(selected: Sequence[StoredSeries], start: int, end: int) -> None:
    expected = 0
    for stored in selected:
        span = min(end, stored.last) - max(start, stored.first)
        expected += max(0, span) // (stored.labelled.interval or _USUAL)
    if expected > MOST_SAMPLES * _DOUBTFUL:
        raise QueryError(
            PromErrorType.EXECUTION,
            "query processing would load too many samples into memory in query execution: "
            f"about {expected:,}, of {MOST_SAMPLES:,} at the most; "
            "ask for a shorter range or fewer series",
        )


def _without_nulls(times: Times, values: Values) -> tuple[Times, Values]:
    null = np.isnan(values)
    return (times[~null], values[~null]) if null.any() else (times, values)


def _in_line(times: Times, values: Values) -> tuple[Times, Values]:
    """A running total without what a wrong clock put between samples where it does not belong.

    It never falls, so every fall would count as a reset, and the whole total with it.
    """
    known_places = np.flatnonzero(~np.isnan(values))
    readings = values[known_places]
    if len(readings) < 2 or bool(np.all(readings[1:] >= readings[:-1])):
        return times, values
    gone = known_places[misplaced(readings.tolist())]
    return np.delete(times, gone), np.delete(values, gone)


def _downs(times: Times, values: Values) -> Times:
    """When the device did not answer: each poll with device.up = 0."""
    return np.asarray(times[values == 0])


def marked(times: Times, values: Values, downs: Times | None) -> tuple[Times, Values]:
    """A series with stale marks for its nulls and for the polls that its device missed.

    Of the polls missed between two samples, the first one's mark is enough.
    """
    null = np.isnan(values)
    if null.any():
        values = np.where(null, stale_mark(), values)
    if downs is None or not len(downs):
        return times, values
    downs = downs[~np.isin(downs, times)]
    places = np.searchsorted(times, downs)
    first = np.ones(len(downs), dtype=bool)
    first[1:] = places[1:] != places[:-1]
    downs, places = downs[first], places[first]
    marks = np.repeat(stale_mark(), len(downs))
    return np.insert(times, places, downs), np.insert(values, places, marks)
