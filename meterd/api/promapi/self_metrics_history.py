"""meterd's own health over the last hours, for dashboards that have no Prometheus behind them.

The store keeps what devices say; how meterd fares is kept in memory only, and not for long.
"""

import asyncio
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meterd.api.promapi import self_metrics
from meterd.api.promapi.names import Meaning
from meterd.api.server_stats import ServerStats
from meterd.errors import StoreError
from meterd.model.clock import Clock

if TYPE_CHECKING:
    from meterd.daemon.site import Site
    from meterd.promql.source import Labelled, Times, Values

# Seconds between two looks: as often as the quickest device is polled, so that a window that
# holds some polls holds some looks; but a look costs about 1 ms, and more with many devices.
QUICKEST, SLOWEST = 1.0, 15.0
_MANY_DEVICES = 20
_KEEP_ROWS = 4_320  # six hours, one each 5 s
# Where there are many devices the hours get fewer, down to ten minutes.
_MOST_VALUES = 500_000
_LEAST_ROWS = 40
# ms by which a clock that was set back is waited for; what is further ahead was noted under a wrong
# clock.
_BACK_MS = 300_000
# Samples that are noted before the event loop gets a turn: about 2 ms.
_AT_ONCE = 500

Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class OwnSeries:
    """One series of meterd's own; first and last are Unix ms."""

    labelled: "Labelled"
    meaning: Meaning
    first: int
    last: int


class _Row:
    """The values at one time; `index`: the series of each value, which rows share."""

    __slots__ = ("index", "time", "values")

    def __init__(self, time: int, index: Mapping[Key, int], values: "array[float]") -> None:
        self.time = time
        self.index = index
        self.values = values


class OwnHistory:
    """The newest rows, and one more every now and then."""

    def __init__(self, site: "Site", server_stats: ServerStats | None = None) -> None:
        self._site = site
        self._server_stats = server_stats or ServerStats()
        self._rows: deque[_Row] = deque(maxlen=_KEEP_ROWS)

    async def run(self, clock: Clock) -> None:
        """Until cancelled. A clock that people set forward or back changes no pace."""
        while True:
            # Servers listen before the store is open, and until it is, there is nothing to note.
            with suppress(StoreError):
                for _ in self._steps(clock.now_ms()):
                    await asyncio.sleep(0)
            await asyncio.sleep(self.pace())

    def pace(self) -> float:
        """Seconds until the next look."""
        intervals = [device.interval for device in self._site.devices()]
        if len(intervals) > _MANY_DEVICES:
            return SLOWEST
        return max(QUICKEST, min((SLOWEST, *intervals)))

    def look(self, now: int) -> None:
        """Note how meterd fares; `now` is Unix ms."""
        for _ in self._steps(now):
            pass

    def _steps(self, now: int) -> Iterator[None]:
        """The same, with pauses in which polls go on."""
        if self._rows and now <= self._rows[-1].time <= now + _BACK_MS:
            return  # the clock was set back: it is waited for
        while self._rows and self._rows[-1].time >= now:
            self._rows.pop()  # of a clock that was far ahead
        families = self_metrics.Families()
        yield from self_metrics.steps(families, self._site, self._server_stats, now)
        values: dict[Key, float] = {}
        for number, sample in enumerate(s for family in families for s in family.samples):
            labels = {**sample.labels, "__name__": sample.name}
            values[tuple(sorted(labels.items()))] = sample.value
            if number % _AT_ONCE == _AT_ONCE - 1:
                yield
        self._rows.append(_Row(now, self._index(list(values)), array("d", values.values())))
        while len(self._rows) > max(_LEAST_ROWS, _MOST_VALUES // max(1, len(values))):
            self._rows.popleft()

    def _index(self, keys: Sequence[Key]) -> Mapping[Key, int]:
        if self._rows and list(self._rows[-1].index) == keys:
            return self._rows[-1].index
        return {key: place for place, key in enumerate(keys)}

    def series(self) -> dict[Key, OwnSeries]:
        """Every series that has been there in the hours that are kept."""
        rows = tuple(self._rows)
        lasts = _first_times(reversed(rows))
        pace = round(self.pace() * 1000)
        return {
            key: _one(key, pace, first, lasts[key]) for key, first in _first_times(rows).items()
        }

    def fetch(self, keys: Sequence[Key], start: int, end: int) -> "Iterator[tuple[Times, Values]]":
        """Samples with start < t <= end of each series; a stale mark where it went away."""
        # A copy first: this runs in a thread, and the next look may come any time.
        rows = [row for row in tuple(self._rows) if start < row.time <= end]
        for key in keys:
            yield _column(key, rows)


def _one(key: Key, pace: int, first: int, last: int) -> OwnSeries:
    from meterd.promql.source import Labelled

    labels = dict(key)
    return OwnSeries(Labelled(labels, pace), self_metrics.meaning(labels["__name__"]), first, last)


def _first_times(rows: Iterable[_Row]) -> dict[Key, int]:
    """The first time of each series, in the order of the rows."""
    firsts: dict[Key, int] = {}
    index: Mapping[Key, int] | None = None
    for row in rows:
        if row.index is not index:
            index = row.index
            for key in index:
                firsts.setdefault(key, row.time)
    return firsts


def _column(key: Key, rows: Sequence[_Row]) -> "tuple[Times, Values]":
    # Not everybody has a Grafana: numpy is loaded with the first query.
    import numpy as np

    from meterd.promql.source import stale_mark

    times, values, gone = array("q"), array("d"), []
    is_there = False
    for row in rows:
        place = row.index.get(key)
        if place is None and is_there:
            gone.append(len(times))
        if place is not None or is_there:
            times.append(row.time)
            values.append(0.0 if place is None else row.values[place])
        is_there = place is not None
    data = np.array(values, dtype=np.float64)
    if gone:
        data[gone] = stale_mark()[0]
    return np.array(times, dtype=np.int64), data
