"""What a kilowatt hour costs at any moment: rules by the local clock, first match wins.

The shapes here are those of the `tariffs:` section, so that its settings fit as they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple, Protocol

from meterd.energy.periods import date_of
from meterd.energy.quarter import QUARTER
from meterd.energy.zone_clock import DAY, ZoneClock

HOLIDAY = 7
"""A holiday is no weekday: it has a number of its own after Sunday's 6."""

DIGITS = 9
"""Decimal places of a price. A cost is a whole number of 10 ** -(DIGITS + 6): per mWh."""

SLOTS = DAY // QUARTER


class TariffRule(Protocol):
    """When a rate applies; what is empty is no condition. All are by the local clock.

    `days`: 0 Monday to 6 Sunday, 7 holiday. `months`: 1 to 12. `season`: ((month, day) of the
    first day, that of the last), over the new year where the first is the later. `time`: pairs
    of quarter hours since midnight (0 to 96), the second not included, over midnight likewise.
    """

    @property
    def rate(self) -> str: ...
    @property
    def days(self) -> frozenset[int]: ...
    @property
    def months(self) -> frozenset[int]: ...
    @property
    def season(self) -> tuple[tuple[int, int], tuple[int, int]] | None: ...
    @property
    def time(self) -> Sequence[tuple[int, int]]: ...


class RulePrices(Protocol):
    """The prices from one day on (None: always), per kWh; `standing` is per day.

    `else_` is the rate where no rule matches. `feed_in` None: no price for what is exported.
    """

    @property
    def from_(self) -> date | None: ...
    @property
    def rates(self) -> Mapping[str, Decimal]: ...
    @property
    def rules(self) -> Sequence[TariffRule]: ...
    @property
    def else_(self) -> str: ...
    @property
    def standing(self) -> Decimal: ...
    @property
    def feed_in(self) -> Decimal | None: ...


class Holidays(Protocol):
    """Days of one year, and (month, day) of those that come every year."""

    @property
    def dates(self) -> frozenset[date]: ...
    @property
    def yearly(self) -> frozenset[tuple[int, int]]: ...


class Tariff(Protocol):
    """Prices that follow one another, the earliest first. `currency` is such as EUR."""

    @property
    def currency(self) -> str: ...
    @property
    def holidays(self) -> Holidays: ...
    @property
    def prices(self) -> Sequence[RulePrices]: ...


class Rate(NamedTuple):
    """A price by its name, in whole units of 10 ** -DIGITS per kWh."""

    name: str
    price: int


class Day(NamedTuple):
    """What applies on one local day: a rate for each quarter hour since midnight."""

    rates: Sequence[Rate]
    feed_in: int | None
    standing: int


class Pricer:
    """A tariff on a clock. Days are worked out once each."""

    def __init__(self, tariff: Tariff, clock: ZoneClock) -> None:
        self.tariff = tariff
        self._clock = clock
        self._days: dict[int, Day | None] = {}
        self._kinds: dict[tuple[date | None, tuple[int, ...]], Day] = {}

    def at(self, ms: int) -> tuple[Day, Rate] | None:
        """What applies in the quarter hour from `ms` on; None where no prices do.

        The clock decides: a clock time that is skipped never applies, one that comes twice
        applies twice.
        """
        local = self._clock.local(ms)
        day = self._day(local // DAY)
        return None if day is None else (day, day.rates[local % DAY // QUARTER])

    def standing(self, ms: int) -> int:
        """What the local day costs that this moment is in, in units of 10 ** -DIGITS."""
        day = self._day(self._clock.local(ms) // DAY)
        return 0 if day is None else day.standing

    def _day(self, number: int) -> Day | None:
        if number not in self._days:
            self._days[number] = self._work_out(date_of(number))
        return self._days[number]

    def _work_out(self, day: date) -> Day | None:
        if (prices := _prices_on(self.tariff, day)) is None:
            return None
        free = self.tariff.holidays
        holiday = day in free.dates or (day.month, day.day) in free.yearly
        kind = HOLIDAY if holiday else day.weekday()
        counting = tuple(n for n, rule in enumerate(prices.rules) if _on(rule, day, kind))
        # Most days are like another.
        if (alike := (prices.from_, counting)) not in self._kinds:
            self._kinds[alike] = _day_of(prices, [prices.rules[n] for n in counting])
        return self._kinds[alike]


def units(price: Decimal) -> int:
    """A price as a whole number of 10 ** -DIGITS."""
    return int(price.scaleb(DIGITS))


def _prices_on(tariff: Tariff, day: date) -> RulePrices | None:
    found = None
    for each in tariff.prices:
        if each.from_ is None or each.from_ <= day:
            found = each
    return found


def _day_of(prices: RulePrices, rules: Sequence[TariffRule]) -> Day:
    rates = {name: Rate(name, units(price)) for name, price in prices.rates.items()}
    feed_in = None if prices.feed_in is None else units(prices.feed_in)
    slots = [rates[name] for name in _slots(rules, prices.else_)]
    return Day(slots, feed_in, units(prices.standing))


def _slots(rules: Sequence[TariffRule], otherwise: str) -> Iterator[str]:
    """The name of the rate in each quarter hour of a day on which these rules count."""
    for slot in range(SLOTS):
        yield next((rule.rate for rule in rules if _during(rule, slot)), otherwise)


def _on(rule: TariffRule, day: date, kind: int) -> bool:
    if rule.days and kind not in rule.days:
        return False
    if rule.months and day.month not in rule.months:
        return False
    if rule.season is None:
        return True
    first, last = rule.season
    here = (day.month, day.day)
    return first <= here <= last if first <= last else here >= first or here <= last


def _during(rule: TariffRule, slot: int) -> bool:
    if not rule.time:
        return True
    return any(
        first <= slot < last if first < last else slot >= first or slot < last
        for first, last in rule.time
    )
