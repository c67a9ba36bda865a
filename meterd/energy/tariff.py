"""Time-of-use tariffs: the price per kWh in each quarter hour by local time; first rule wins.

The protocols mirror the `tariffs:` section of the configuration, whose settings implement them.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple, Protocol

from meterd.energy.periods import date_of
from meterd.energy.quarter import QUARTER
from meterd.energy.zone_clock import DAY, ZoneClock

HOLIDAY = 7
"""The weekday number of a holiday, after Sunday's 6: a holiday is no other weekday."""

DIGITS = 9
"""Decimal places of a price per kWh. A cost is an integer of 10 ** -(DIGITS + 6), as energy is
in mWh."""

SLOTS_PER_DAY = DAY // QUARTER


class TariffRule(Protocol):
    """When a rate applies, in local time; an empty field is no condition.

    `days`: 0 Monday to 6 Sunday, 7 holiday. `months`: 1 to 12. `season`: (month, day) of the
    first and the last day, across the new year where the first is later. `time`: pairs of
    quarter hours since midnight (0 to 96), end excluded, across midnight where the first is later.
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
    """The prices valid from a day on (None: from the beginning), per kWh; `standing` is per day.

    `else_` is the rate where no rule matches. `feed_in` is the price of exported energy, or None.
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
    """Holidays: single dates, and (month, day) of yearly ones."""

    @property
    def dates(self) -> frozenset[date]: ...
    @property
    def yearly(self) -> frozenset[tuple[int, int]]: ...


class Tariff(Protocol):
    """Price periods in ascending order of `from_`. `currency` is a code such as EUR."""

    @property
    def currency(self) -> str: ...
    @property
    def holidays(self) -> Holidays: ...
    @property
    def prices(self) -> Sequence[RulePrices]: ...


class Rate(NamedTuple):
    """A named price, an integer of 10 ** -DIGITS per kWh."""

    name: str
    price: int


class Day(NamedTuple):
    """The prices of one local day: a rate for each quarter hour since midnight."""

    rates: Sequence[Rate]
    feed_in: int | None
    standing: int


class Pricer:
    """Looks up a tariff's prices by time; caches days."""

    def __init__(self, tariff: Tariff, clock: ZoneClock) -> None:
        self.tariff = tariff
        self._clock = clock
        self._days: dict[int, Day | None] = {}
        self._rates_cache: dict[tuple[date | None, tuple[int, ...]], Day] = {}

    def at(self, ms: int) -> tuple[Day, Rate] | None:
        """The prices of the quarter hour from `ms` (Unix ms); None before the first price period.

        Rules are matched by local time, so a skipped hour never applies and a repeated one twice.
        """
        local = self._clock.local(ms)
        day = self._day(local // DAY)
        return None if day is None else (day, day.rates[local % DAY // QUARTER])

    def standing(self, ms: int) -> int:
        """The daily charge of the local day of a moment (Unix ms), in units of 10 ** -DIGITS."""
        day = self._day(self._clock.local(ms) // DAY)
        return 0 if day is None else day.standing

    def _day(self, number: int) -> Day | None:
        if number not in self._days:
            self._days[number] = self._resolve_day(date_of(number))
        return self._days[number]

    def _resolve_day(self, day: date) -> Day | None:
        if (prices := _prices_on(self.tariff, day)) is None:
            return None
        holidays = self.tariff.holidays
        is_holiday = day in holidays.dates or (day.month, day.day) in holidays.yearly
        kind = HOLIDAY if is_holiday else day.weekday()
        rule_indices = tuple(
            n for n, rule in enumerate(prices.rules) if _applies_on(rule, day, kind)
        )
        # Cached by matching rules: most days have the same.
        if (cache_key := (prices.from_, rule_indices)) not in self._rates_cache:
            self._rates_cache[cache_key] = _resolve_rates(
                prices, [prices.rules[n] for n in rule_indices]
            )
        return self._rates_cache[cache_key]


def price_units(price: Decimal) -> int:
    """A price as an integer of 10 ** -DIGITS."""
    return int(price.scaleb(DIGITS))


def _prices_on(tariff: Tariff, day: date) -> RulePrices | None:
    prices = None
    for candidate in tariff.prices:
        if candidate.from_ is None or candidate.from_ <= day:
            prices = candidate
    return prices


def _resolve_rates(prices: RulePrices, rules: Sequence[TariffRule]) -> Day:
    rates = {name: Rate(name, price_units(price)) for name, price in prices.rates.items()}
    feed_in = None if prices.feed_in is None else price_units(prices.feed_in)
    slots = [rates[name] for name in _slots(rules, prices.else_)]
    return Day(slots, feed_in, price_units(prices.standing))


def _slots(rules: Sequence[TariffRule], otherwise: str) -> Iterator[str]:
    """The name of the rate in each quarter hour of a day on which these rules apply."""
    for slot in range(SLOTS_PER_DAY):
        yield next((rule.rate for rule in rules if _applies_at(rule, slot)), otherwise)


def _applies_on(rule: TariffRule, day: date, kind: int) -> bool:
    if rule.days and kind not in rule.days:
        return False
    if rule.months and day.month not in rule.months:
        return False
    if rule.season is None:
        return True
    first, last = rule.season
    month_day = (day.month, day.day)
    return first <= month_day <= last if first <= last else month_day >= first or month_day <= last


def _applies_at(rule: TariffRule, slot: int) -> bool:
    if not rule.time:
        return True
    return any(
        first <= slot < last if first < last else slot >= first or slot < last
        for first, last in rule.time
    )
