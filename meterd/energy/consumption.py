"""One question about energy, from its words to its buckets; whoever asks brings the quarters."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo
from itertools import islice

from meterd.energy.periods import Period, PeriodSpan, back, begin, day_starts, finish, spans
from meterd.energy.quarter import MIXED, Fetch, Quarter, ceil, floor
from meterd.energy.tally import EnergyBucket, EnergyDirection, EnergyFlow, Tally, flows
from meterd.energy.tariff import Pricer, Tariff
from meterd.energy.zone_clock import DAY, ZoneClock
from meterd.model.quantity import COUNTED_UNITS, GUARDED, Kind, describe, is_own

# So much is fetched at once: a quarter of a year is 9000 quarter hours.
_AT_ONCE = 92 * DAY
_PORTION = 1000
# What is shown where nobody says from when on: this many periods before the present one.
_BEFORE = {Period.HOUR: 23, Period.DAY: 30, Period.WEEK: 12, Period.MONTH: 12, Period.YEAR: 9}


@dataclass(frozen=True, slots=True)
class Metered:
    """A quantity of energy. `taken` and `given` are the counters that it takes."""

    quantity: str
    unit: str
    way: EnergyDirection
    taken: str = ""
    given: str = ""

    @property
    def priced(self) -> bool:
        """Whether a price per kWh means it; import plus export has no price."""
        return self.unit == "Wh" and "total" not in self.quantity.split(".")


def metered(quantity: str) -> Metered | None:
    """What a quantity's name asks for; None where it is no counter, and no net of two.

    Those of energy, and users' own of anything. What is no export counts as taken.
    """
    known = describe(quantity)
    if known is None or quantity.startswith(GUARDED):
        return None
    if known.unit not in COUNTED_UNITS and not is_own(quantity):
        return None
    words = quantity.split(".")
    if "net" in words and not is_own(quantity):
        taken, given = (
            ".".join(way if w == "net" else w for w in words)
            for way in EnergyDirection
            if way != "net"
        )
        both = all(
            (side := describe(name)) and side.kind is Kind.COUNTER for name in (taken, given)
        )
        return Metered(quantity, known.unit, EnergyDirection.NET, taken, given) if both else None
    if known.kind is not Kind.COUNTER:
        return None
    if "export" in words:
        return Metered(quantity, known.unit, EnergyDirection.EXPORT, given=quantity)
    return Metered(quantity, known.unit, EnergyDirection.IMPORT, taken=quantity)


def since(zone: tzinfo, period: Period, end: int) -> int:
    """Where to begin where nobody says: some whole periods before the one that ends at `end`."""
    return max(0, ceil(back(zone, period, end - 1, _BEFORE[period])))


def cut(
    zone: tzinfo, period: Period, start: int, end: int, now: int, *, whole: bool = False
) -> list[PeriodSpan]:
    """The periods of what is asked for, rounded outwards to quarter hours or `whole` periods.

    Periods that have not begun by `now` (Unix ms) are left out.
    """
    start, end = floor(start), ceil(end)
    if whole:
        start, end = begin(zone, period, start), finish(zone, period, end)
    end = min(end, finish(zone, period, ceil(now)))
    return spans(zone, period, start, end) if start < end else []


@dataclass(frozen=True, slots=True)
class Consumption:
    """The answer: buckets in time order; `method` is one of METHODS, empty if nothing is known."""

    buckets: list[EnergyBucket]
    method: str


async def consume(
    fetch: Fetch,
    device: str,
    asked: Metered,
    pieces: list[PeriodSpan],
    *,
    zone: tzinfo,
    now: int,
    tariff: Tariff | None = None,
) -> Consumption:
    """What a device consumed in each of these pieces, which follow one another."""
    if not pieces:
        return Consumption([], "")
    start, end = pieces[0].start, pieces[-1].end
    pricer = None if tariff is None else Pricer(tariff, ZoneClock(zone, start, end))
    days = () if pricer is None else day_starts(zone, start, min(end, now))
    tally = Tally(pieces, asked.way, pricer, days)
    methods: set[str] = set()
    for first, last in _windows(start, end):
        sides: list[list[Quarter]] = []
        for name in (asked.taken, asked.given):
            quarters, method = await fetch(device, name, first, last) if name else ((), "")
            sides.append([each for each in quarters if first <= each.start < last])
            methods |= {method} if quarters else set()
        await _add(tally, flows(asked.way, *sides))
    return Consumption(tally.buckets(now), MIXED if len(methods) > 1 else "".join(methods))


async def _add(tally: Tally, found: Iterator[EnergyFlow]) -> None:
    """In portions: others go on while a year is added up."""
    while portion := list(islice(found, _PORTION)):
        tally.add(portion)
        await asyncio.sleep(0)


def _windows(start: int, end: int) -> Iterator[tuple[int, int]]:
    for first in range(start, end, _AT_ONCE):
        yield first, min(first + _AT_ONCE, end)
