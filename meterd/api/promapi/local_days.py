"""The energy of each local day as series: bars by day that are right where the clock changes.

    meterd_active_energy_import_local_day_watthours{device="main"} 12340

At any moment it is what the whole day came to that the moment lies in, by the site's clock; of
today so far. PromQL has no days of 23 and 25 hours: `increase(x[1d])` cannot say it, and Grafana's
steps are 24 hours each. Looked at in the middle of the day (offset -12h) a step that is an hour
off still meets its own day. Worked out of the quarter hours that GET energy has, so both agree.
"""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from meterd.api.promapi.names import OWN, Meaning
from meterd.energy.consumption import consume, energy_quantity, period_spans
from meterd.energy.periods import HOUR, Period, PeriodSpan, period_ceil, period_floor
from meterd.energy.tally import EnergyBucket
from meterd.promql.result import PromErrorType, QueryError
from meterd.promql.source import Labelled, Times, Values, stale_mark

if TYPE_CHECKING:
    from meterd.api.promapi.store_source import StoredSeries
    from meterd.daemon.site import Site

# Counter -> metric; the guarded one and the register mean the same days.
METRICS = {
    "active_energy.import": "meterd_active_energy_import_local_day_watthours",
    "active_energy.export": "meterd_active_energy_export_local_day_watthours",
}
_GUARDED = "guarded."
# Days of series that one query may work out: a year of 33 series, some seconds of work.
_MOST = 12_000
# Seconds for all of them; a query has 30.
_DEADLINE = 25.0


@dataclass(frozen=True, slots=True)
class DaySeries:
    """The days of one counter; there may be some from `first` to `last` (Unix ms)."""

    labelled: Labelled
    first: int
    last: int
    device: str
    quantity: str

    @property
    def meaning(self) -> Meaning:
        name = METRICS[self.quantity]
        return Meaning(name, *OWN[name], "watthours")


class LocalDays:
    """The local days of a site up to today's end. To be made on the event loop, for one query."""

    def __init__(self, site: "Site", now: int) -> None:
        self._site = site
        self._zone = ZoneInfo(site.timezone)
        self._now = now
        self._loop = asyncio.get_running_loop()

    def series(self, stored: Sequence["StoredSeries"]) -> list[DaySeries]:
        """Of every device that has stored such a counter."""
        by_name: dict[tuple[str, str], DaySeries] = {}
        for stored_series in stored:
            device, counter, _ = stored_series.name
            quantity = counter.removeprefix(_GUARDED)
            if quantity not in METRICS:
                continue
            before = by_name.get((device, quantity))
            first, last = stored_series.first, stored_series.last
            if before is not None:
                first, last = min(first, before.first), max(last, before.last)
            labels = {**stored_series.labelled.labels, "__name__": METRICS[quantity]}
            by_name[device, quantity] = DaySeries(
                Labelled(labels, HOUR), first, self._end_of(last), device, quantity
            )
        return list(by_name.values())

    def _end_of(self, ms: int) -> int:
        return period_ceil(self._zone, Period.DAY, ms + 1) - 1

    def fetch(
        self, selected: Sequence[DaySeries], start: int, end: int
    ) -> Iterator[tuple[Times, Values]]:
        """Each hour of start < t <= end, and where a day begins. Called in a thread.

        Raises QueryError, StoreError.
        """
        if not selected:
            return
        first, last = max(0, start + 1), min(end + 1, self._end_of(self._now) + 1)
        pieces = period_spans(self._zone, Period.DAY, first, last, self._now, whole=True)
        _need_at_most(len(pieces) * len(selected))
        future = asyncio.run_coroutine_threadsafe(self._all(selected, pieces), self._loop)
        try:
            days = future.result(_DEADLINE)
        except Late as error:
            future.cancel()
            raise QueryError(
                PromErrorType.TIMEOUT, "query timed out in adding up local days"
            ) from error
        for day_series, buckets in zip(selected, days, strict=True):
            yield _points(
                buckets, max(start, period_floor(self._zone, Period.DAY, day_series.first) - 1), end
            )

    async def _all(
        self, selected: Sequence[DaySeries], pieces: list[PeriodSpan]
    ) -> list[Sequence[EnergyBucket]]:
        return [await self._days(day_series, pieces) for day_series in selected]

    async def _days(
        self, day_series: DaySeries, pieces: list[PeriodSpan]
    ) -> Sequence[EnergyBucket]:
        energy = energy_quantity(day_series.quantity)
        # Nobody need look for energy before the first sample.
        lived = [each for each in pieces if each.end > day_series.first]
        if energy is None or not lived:
            return ()
        consumption = await consume(
            self._site.quarters, day_series.device, energy, lived, zone=self._zone, now=self._now
        )
        return consumption.buckets


def _points(buckets: Sequence[EnergyBucket], start: int, end: int) -> tuple[Times, Values]:
    """A day's value at its beginning and at each full hour; a stale mark where it is not known."""
    times: list[int] = []
    values: list[float] = []
    for bucket in buckets:
        hours = range(bucket.start - bucket.start % HOUR + HOUR, bucket.end, HOUR)
        inside = [t for t in (bucket.start, *hours) if start < t <= end]
        value = np.nan if bucket.value is None else bucket.value / 1000
        times += inside
        values += [value] * len(inside)
    whole = np.array(values, np.float64)
    return np.array(times, np.int64), np.where(np.isnan(whole), stale_mark(), whole)


def _need_at_most(count: int) -> None:
    if count > _MOST:
        text = f"{count:,} local days, of {_MOST:,} at the most; ask for less time or fewer series"
        raise QueryError(PromErrorType.EXECUTION, text)
