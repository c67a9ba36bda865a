"""Reads a counter's days from the best source of each: head, blocks, or roll-up."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from meterd.model.quantity import GUARDED, describe
from meterd.store.blocks.counter_power import POWERS, Samples, power_of
from meterd.store.blocks.rollup import QUARTER_MS, QuarterRollup
from meterd.store.blocks.slicing import DAY
from meterd.store.head.catalog import Name
from meterd.store.query.block_reader import BlockReader
from meterd.store.query.counter_days import Bounds, CounterDay, join_days, stale
from meterd.store.query.series_array import EMPTY, SeriesArray
from meterd.store.query.series_array import concatenate as one_track

if TYPE_CHECKING:
    from meterd.store.query.range_reader import Moment


def counter_of(name: Name) -> list[Name]:
    """The power series by which a frozen counter is recognised, of the same device."""
    return [(name[0], power, "W") for power in POWERS] if power_of(name[1], _nothing) else []


def _nothing(_: str) -> Samples | None:
    return None


class CounterReader:
    """Of one series, as a reader sees the store; it may not have been committed yet."""

    def __init__(self, moment: "Moment", past: BlockReader, name: Name) -> None:
        self._moment = moment
        self._past = past
        self._name = name
        self._device = moment.catalog.devices.get(name[0], 0)
        series = moment.catalog.series.get(name)
        self._id = series.id if series is not None else None
        head = moment.head.get(name, EMPTY)
        self._fresh = {int(time) // DAY for time in head.times}
        times = [int(time) for time in (head.times[:1], head.times[-1:]) for time in time]
        if series is not None and series.first is not None and series.last is not None:
            times += (series.first, series.last)
        self._extent = (min(times), max(times)) if times else None
        self._dirty = past.dirty_days(self._device)

    def quarters(self, wanted: range) -> dict[int, QuarterRollup]:
        """Its quarter hours with these numbers since 1970. Raises StoreError."""
        if self._extent is None or not wanted:
            return {}
        oldest, newest = self._extent
        first = max(wanted.start * QUARTER_MS, oldest) // DAY
        last = min(wanted.stop * QUARTER_MS - 1, newest) // DAY
        if first > last:
            return {}
        days = list(self._between(first, last))
        before = self._neighbour(first, later=False) if oldest < first * DAY else None
        after = self._neighbour(last, later=True) if newest >= (last + 1) * DAY else None
        self._renew(days, (before, after))
        return join_days(days, (before, after), wanted)

    def _renew(self, days: list[CounterDay], around: Bounds) -> None:
        """Replaces roll-ups that do not fit their neighbours by samples, where there are any."""
        places = {days[place].first[0] // DAY: place for place in stale(days, around)}
        if places and self._id is not None:
            for day, tracks in self._past.days(self._device, [self._id], sorted(places)):
                self._moment.go_on()
                raw = self._of(day, tracks.get(self._id, EMPTY))
                if raw is not None:
                    days[places[day]] = raw

    def _between(self, first: int, last: int) -> Iterator[CounterDay]:
        """Those from one UTC day to another that have samples."""
        rolled = dict(self._rolled(first, last))
        raw = [day for day in sorted(self._dirty | self._fresh) if first <= day <= last]
        days_read = {day: counter_day for day, counter_day in rolled.items() if day not in raw}
        blocks = {}
        if self._id is not None:
            blocks = dict(self._past.days(self._device, [self._id], raw))
        for day in raw:
            self._moment.go_on()
            if day in blocks or day in self._fresh:
                stored = blocks.get(day, {}).get(self._id or 0, EMPTY)
                counter_day = self._of(day, stored)
            else:
                # Its samples are deleted; what the roll-up says is all there is.
                counter_day = rolled.get(day)
            if counter_day is not None:
                days_read[day] = counter_day
        yield from (days_read[day] for day in sorted(days_read))

    def _rolled(self, first: int, last: int) -> Iterator[tuple[int, CounterDay]]:
        if self._id is not None:
            total = self._name[1].startswith(GUARDED)
            yield from self._past.counter_days(self._id, first, last + 1, total=total)

    def _of(self, day: int, stored: SeriesArray) -> CounterDay | None:
        track = self._with_fresh(day, self._name, stored)
        power = power_of(self._name[1], self._power(day))
        total = self._name[1].startswith(GUARDED)
        return CounterDay.of(track.times.tolist(), track.values.tolist(), power, total=total)

    def _with_fresh(self, day: int, name: Name, stored: SeriesArray) -> SeriesArray:
        head = self._moment.head.get(name, EMPTY).within(day * DAY, (day + 1) * DAY)
        return one_track([stored, head]).without_nulls()

    def _power(self, day: int) -> Callable[[str], Samples | None]:
        """Loads the device's power of a day."""

        def load(quantity: str) -> Samples | None:
            described = describe(quantity)
            name = self._name[0], quantity, described.unit if described else "W"
            series = self._moment.catalog.series.get(name)
            stored = EMPTY
            if series is not None:
                for _, arrays in self._past.days(self._device, [series.id], [day]):
                    stored = arrays.get(series.id, EMPTY)
            track = self._with_fresh(day, name, stored)
            return (track.times.tolist(), track.values.tolist()) if len(track.times) else None

        return load

    def _neighbour(self, day: int, *, later: bool) -> CounterDay | None:
        """The nearest day with samples after this one, or before it."""
        while True:
            rolled = None
            if self._id is not None:
                rolled = self._past.nearest_rolled(self._id, day, later=later)
            for candidate in (*self._raw_between(day, rolled, later=later), rolled):
                neighbour = None if candidate is None else self._one(candidate)
                if neighbour is not None:
                    return neighbour
            if rolled is None:
                return None
            day = rolled

    def _raw_between(self, day: int, rolled: int | None, *, later: bool) -> list[int]:
        """Days without roll-ups between two days, the nearest to `day` first."""
        oldest, newest = self._extent or (0, 0)
        low, high = (day, rolled or newest // DAY + 1) if later else (rolled or 0, day)
        low, high = max(low, oldest // DAY - 1), min(high, newest // DAY + 1)
        return sorted(
            (candidate for candidate in self._dirty | self._fresh if low < candidate < high),
            reverse=not later,
        )

    def _one(self, day: int) -> CounterDay | None:
        return next(self._between(day, day), None)
