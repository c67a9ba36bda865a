"""Computes the consumption per period of a device, from quarter hours that a callback fetches."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo
from itertools import islice

from meterd.energy.periods import (
    Period,
    PeriodSpan,
    day_starts,
    period_ceil,
    period_floor,
    periods_before,
    spans,
)
from meterd.energy.quarter import MIXED, Fetch, Quarter, quarter_ceil, quarter_floor
from meterd.energy.tally import EnergyBucket, EnergyDirection, EnergyFlow, Tally, flows
from meterd.energy.tariff import Pricer, Tariff
from meterd.energy.zone_clock import DAY, ZoneClock
from meterd.model.quantity import COUNTED_UNITS, GUARDED, Kind, describe, is_own

# Time range of one fetch in ms: a quarter of a year is 9000 quarter hours.
_FETCH_MS = 92 * DAY
# Quarter hours summed before other tasks get their turn.
_FLOWS_PER_TURN = 1000
# The default range of a query: this many periods before the current one.
_DEFAULT_PERIODS = {
    Period.HOUR: 23,
    Period.DAY: 30,
    Period.WEEK: 12,
    Period.MONTH: 12,
    Period.YEAR: 9,
}


@dataclass(frozen=True, slots=True)
class EnergyQuantity:
    """An energy that can be summed over periods.

    `imported` and `exported` are the names of the counters it is computed from, "" for none.
    """

    quantity: str
    unit: str
    direction: EnergyDirection
    imported: str = ""
    exported: str = ""

    @property
    def priced(self) -> bool:
        """Whether prices per kWh apply: to Wh, but not to the sum of import and export."""
        return self.unit == "Wh" and "total" not in self.quantity.split(".")


def energy_quantity(quantity: str) -> EnergyQuantity | None:
    """The counters of a quantity; None where it is neither a counter nor the net of two.

    Counters of energy, and users' own (`x.`) of any unit. A counter that is not an export counts
    as import.
    """
    description = describe(quantity)
    if description is None or quantity.startswith(GUARDED):
        return None
    if description.unit not in COUNTED_UNITS and not is_own(quantity):
        return None
    words = quantity.split(".")
    if "net" in words and not is_own(quantity):
        imported, exported = (
            ".".join(direction if word == "net" else word for word in words)
            for direction in EnergyDirection
            if direction != "net"
        )
        are_counters = all(
            (counter := describe(name)) and counter.kind is Kind.COUNTER
            for name in (imported, exported)
        )
        return (
            EnergyQuantity(quantity, description.unit, EnergyDirection.NET, imported, exported)
            if are_counters
            else None
        )
    if description.kind is not Kind.COUNTER:
        return None
    if "export" in words:
        return EnergyQuantity(quantity, description.unit, EnergyDirection.EXPORT, exported=quantity)
    return EnergyQuantity(quantity, description.unit, EnergyDirection.IMPORT, imported=quantity)


def default_start(zone: tzinfo, period: Period, end: int) -> int:
    """The default start (Unix ms): _DEFAULT_PERIODS before the period that ends at `end`."""
    return max(0, quarter_ceil(periods_before(zone, period, end - 1, _DEFAULT_PERIODS[period])))


def period_spans(
    zone: tzinfo, period: Period, start: int, end: int, now: int, *, whole: bool = False
) -> list[PeriodSpan]:
    """The periods from `start` to `end`, rounded outwards to quarter hours or `whole` periods.

    Times are Unix ms. Periods that begin after `now` are left out.
    """
    start, end = quarter_floor(start), quarter_ceil(end)
    if whole:
        start, end = period_floor(zone, period, start), period_ceil(zone, period, end)
    end = min(end, period_ceil(zone, period, quarter_ceil(now)))
    return spans(zone, period, start, end) if start < end else []


@dataclass(frozen=True, slots=True)
class Consumption:
    """Buckets in time order; `method` is one of quarter.METHODS, "" where nothing is known."""

    buckets: list[EnergyBucket]
    method: str


async def consume(
    fetch: Fetch,
    device: str,
    quantity: EnergyQuantity,
    spans: list[PeriodSpan],
    *,
    zone: tzinfo,
    now: int,
    tariff: Tariff | None = None,
) -> Consumption:
    """The consumption of a device in each of the spans, which must be contiguous and ascending."""
    if not spans:
        return Consumption([], "")
    start, end = spans[0].start, spans[-1].end
    pricer = None if tariff is None else Pricer(tariff, ZoneClock(zone, start, end))
    days = () if pricer is None else day_starts(zone, start, min(end, now))
    tally = Tally(spans, quantity.direction, pricer, days)
    methods: set[str] = set()
    for first, last in _windows(start, end):
        sides: list[list[Quarter]] = []
        for name in (quantity.imported, quantity.exported):
            quarters, method = await fetch(device, name, first, last) if name else ((), "")
            sides.append([quarter for quarter in quarters if first <= quarter.start < last])
            methods |= {method} if quarters else set()
        await _add(tally, flows(quantity.direction, *sides))
    return Consumption(tally.buckets(now), MIXED if len(methods) > 1 else "".join(methods))


async def _add(tally: Tally, flows: Iterator[EnergyFlow]) -> None:
    """Adds flows, and yields to the event loop after each batch: a year has 35,000 of them."""
    while batch := list(islice(flows, _FLOWS_PER_TURN)):
        tally.add(batch)
        await asyncio.sleep(0)


def _windows(start: int, end: int) -> Iterator[tuple[int, int]]:
    for first in range(start, end, _FETCH_MS):
        yield first, min(first + _FETCH_MS, end)
