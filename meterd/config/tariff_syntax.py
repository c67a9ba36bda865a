"""Parses a tariff's prices, times of day, days, months, seasons and holidays.

Times become quarter hours since midnight, days and months numbers, prices decimals.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from pydantic import ValidationError

from meterd.config.codes import Code, ValueFlaw
from meterd.config.names import spelling_hint

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MAX_DECIMALS = 9
"""Decimal places that a price may have."""

_MAX_DIGITS = 6  # before the decimal point
_TIME_RANGE = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")
_MONTH_DAY = re.compile(r"([0-9]{2})-([0-9]{2})")
_QUARTER_MIN = 15
_DAY_MIN = 24 * 60
# For dates without a year: 02-29 is valid.
_LEAP_YEAR = 2024

MonthDay = tuple[int, int]
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, slots=True)
class HolidaySettings:
    """Holidays: dates, and (month, day) of those that are the same every year."""

    dates: frozenset[date] = frozenset()
    yearly: frozenset[MonthDay] = frozenset()


def raise_flaws(flaws: Iterable[tuple[tuple[int | str, ...], object, ValueFlaw]]) -> None:
    """Raise one ValidationError with all flaws, each as (path below the value, input, flaw)."""
    # pydantic's own type for a ValueError of a validator; its words are those of `ctx.error`.
    errors: list[Any] = [
        {"type": "value_error", "loc": loc, "input": value, "ctx": {"error": flaw.error()}}
        for loc, value, flaw in flaws
    ]
    if errors:
        raise ValidationError.from_exception_data("tariff", errors)


def price(value: object) -> Decimal:
    # str() of a float is its shortest text: up to 15 digits that is what the file says, exactly.
    hint = "write a decimal number such as 0.2145, without a currency"
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueFlaw(Code.PRICE, "must be a price", hint).error()
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation as error:
        hint = "write the decimals after a point" if "," in str(value) else hint
        raise ValueFlaw(Code.PRICE, "must be a price", hint).error() from error
    # Compared by the exponent: arithmetic on 1e999999999 overflows.
    if not amount.is_finite() or (amount and amount.adjusted() >= _MAX_DIGITS):
        raise ValueFlaw(Code.PRICE, f"must be a price of less than {10**_MAX_DIGITS}").error()
    if amount != round(amount, MAX_DECIMALS):
        raise ValueFlaw(
            Code.PRICE, f"must be a price of at most {MAX_DECIMALS} decimal places"
        ).error()
    return amount


def day(value: object) -> date | None:
    if value is None or isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError as error:
        hint = "write it as in 2026-01-01"
        raise ValueFlaw(Code.TARIFF_DAY, "must be a day of the calendar", hint).error() from error


def holidays(value: object) -> HolidaySettings:
    if isinstance(value, HolidaySettings):
        return value
    days = _parse_items(value, _holiday)
    dates = frozenset(day for day in days if isinstance(day, date))
    return HolidaySettings(dates, frozenset(day for day in days if not isinstance(day, date)))


def _holiday(word: str) -> date | MonthDay:
    try:
        return _month_day(word) if _MONTH_DAY.fullmatch(word) else date.fromisoformat(word)
    except ValueError as error:
        hint = "write 2026-04-03, or 12-25 for every year"
        raise _ItemFlaw(
            ValueFlaw(Code.TARIFF_DAY, "must be a day of the calendar", hint)
        ) from error


def season(value: object) -> object:
    """Parse `10-15..04-14` into its first and last (month, day)."""
    if value is None or isinstance(value, tuple):
        return value
    first, _, last = str(value).partition("..")
    try:
        return _month_day(first), _month_day(last)
    except ValueError as error:
        what = "must be a season from its first to its last day"
        raise ValueFlaw(Code.TARIFF_DAY, what, "write it as in 10-15..04-14").error() from error


def _month_day(text: str) -> MonthDay:
    """Parse MM-DD into (month, day). Raises ValueError."""
    if (match := _MONTH_DAY.fullmatch(text.strip())) is None:
        raise ValueError(text)
    day = date(_LEAP_YEAR, int(match[1]), int(match[2]))
    return day.month, day.day


def weekdays(value: object) -> frozenset[int]:
    """Parse names and ranges of days: 0 is Monday, 7 a holiday, in no range over Sunday."""
    return _parse_ranges(value, DAYS, "a day of the week or holiday", 0, cycle=7)


def months(value: object) -> frozenset[int]:
    """Parse names and ranges of months: 1 is January."""
    return _parse_ranges(value, MONTHS, "a month", 1, cycle=12)


def times(value: object) -> tuple[tuple[int, int], ...]:
    """Parse ranges such as 22:30-06:00 into pairs of quarter hours since midnight."""
    if isinstance(value, tuple):
        return value
    return tuple(_parse_items(value, _time))


def _time(word: str) -> tuple[int, int]:
    if (match := _TIME_RANGE.fullmatch(word.replace(" ", ""))) is None:
        raise _ItemFlaw(_time_flaw("must be a range of times of day", "write it as in 22:30-06:00"))
    hours = [int(match[1]), int(match[3])]
    minutes = [hours[0] * 60 + int(match[2]), hours[1] * 60 + int(match[4])]
    if max(minutes) > _DAY_MIN or int(match[2]) > 59 or int(match[4]) > 59:
        raise _ItemFlaw(_time_flaw("must lie between 00:00 and 24:00", ""))
    if any(minute % _QUARTER_MIN for minute in minutes):
        nearest = "-".join(
            _clock_time(round(minute / _QUARTER_MIN) * _QUARTER_MIN) for minute in minutes
        )
        hint = f"energy is kept by quarter hours: write {nearest}"
        raise _ItemFlaw(_time_flaw("must begin and end on a quarter hour", hint))
    first, last = (minute // _QUARTER_MIN for minute in minutes)
    if first % 96 == last % 96 and (first, last) != (0, 96):
        raise _ItemFlaw(
            _time_flaw("must end at another time than it begins", "leave out `time:` for all day")
        )
    return first % 96, last


def _clock_time(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _time_flaw(what: str, hint: str) -> ValueFlaw:
    return ValueFlaw(Code.TARIFF_TIME, what, hint)


class _ItemFlaw(Exception):  # noqa: N818 (private to this file)
    """The flaw of one item, which `_parse_items()` collects."""

    def __init__(self, flaw: ValueFlaw) -> None:
        super().__init__(flaw.what)
        self.flaw = flaw


def _parse_items(value: object, parse: Callable[[str], _Parsed]) -> list[_Parsed]:
    """Parse one item, or each of a list. Raises ValidationError with the flaws of all items."""
    items: Sequence[Any] = value if isinstance(value, list) else [] if value is None else [value]
    parsed, flaws = [], []
    for index, item in enumerate(items):
        try:
            parsed.append(parse(str(item)))
        except _ItemFlaw as error:
            flaws.append(((index,), item, error.flaw))
    raise_flaws(flaws)
    return parsed


def _parse_ranges(
    value: object, names: Sequence[str], what: str, least: int, cycle: int
) -> frozenset[int]:
    if isinstance(value, frozenset):
        return value

    def parse(word: str) -> frozenset[int]:
        first, dash, last = word.lower().partition("-")
        ends = [names.index(end) for end in (first, last if dash else first) if end in names]
        if len(ends) == 2:
            return frozenset(least + n for n in _cyclic_range(ends[0], ends[1], cycle))
        raise _ItemFlaw(ValueFlaw(Code.TARIFF_DAY, f"must be {what}", _hint(word.lower(), names)))

    return frozenset().union(*_parse_items(value, parse))


def _hint(word: str, names: Sequence[str]) -> str:
    if word[:3] in names:
        return f"write {word[:3]}"
    suggestion = spelling_hint(word, names)
    return suggestion if suggestion.startswith("did") else f"they are {', '.join(names)}"


def _cyclic_range(first: int, last: int, count: int) -> Iterator[int]:
    """From first to last; where last is the lower, over the end of the cycle of `count` numbers."""
    if first <= last:
        return iter(range(first, last + 1))
    return iter((first, *range(first + 1, count), *range(last + 1)))
