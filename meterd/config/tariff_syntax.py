"""How a tariff's prices, times of day, days and seasons are written, and what they stand for.

Times become quarter hours since midnight, days and months numbers, and prices decimals.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from pydantic import ValidationError

from meterd.config.codes import Code, ValueFlaw
from meterd.config.names import near

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
PLACES = 9
"""Decimal places that a price may have."""

_DIGITS = 6
_TIMES = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")
_YEARLY = re.compile(r"([0-9]{2})-([0-9]{2})")
_SLOT = 15
_MIDNIGHT = 24 * 60
# A leap year: 02-29 is a day.
_ANY_YEAR = 2024

MonthDay = tuple[int, int]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class HolidayWords:
    """Days of one year, and (month, day) of those that come every year."""

    dates: frozenset[date] = frozenset()
    yearly: frozenset[MonthDay] = frozenset()


def mistakes(found: Iterable[tuple[tuple[int | str, ...], object, ValueFlaw]]) -> None:
    """Raise for each (where below this value, what stands there, what is wrong with it)."""
    # pydantic's own type for a ValueError of a validator; its words are those of `ctx.error`.
    errors: list[Any] = [
        {"type": "value_error", "loc": loc, "input": value, "ctx": {"error": flaw.error()}}
        for loc, value, flaw in found
    ]
    if errors:
        raise ValidationError.from_exception_data("tariff", errors)


def price(value: object) -> Decimal:
    # A number is what the file says up to 15 digits, so its shortest text is exact.
    hint = "write a decimal number such as 0.2145, without a currency"
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueFlaw(Code.PRICE, "must be a price", hint).error()
    try:
        found = Decimal(str(value).strip())
    except InvalidOperation as error:
        hint = "write the decimals after a point" if "," in str(value) else hint
        raise ValueFlaw(Code.PRICE, "must be a price", hint).error() from error
    # By its digits: arithmetic on 1e999999999 overflows.
    if not found.is_finite() or (found and found.adjusted() >= _DIGITS):
        raise ValueFlaw(Code.PRICE, f"must be a price of less than {10**_DIGITS}").error()
    if found != round(found, PLACES):
        raise ValueFlaw(Code.PRICE, f"must be a price of at most {PLACES} decimal places").error()
    return found


def day(value: object) -> date | None:
    if value is None or isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError as error:
        hint = "write it as in 2026-01-01"
        raise ValueFlaw(Code.TARIFF_DAY, "must be a day of the calendar", hint).error() from error


def holidays(value: object) -> HolidayWords:
    if isinstance(value, HolidayWords):
        return value
    found = _each(value, _holiday)
    dates = frozenset(each for each in found if isinstance(each, date))
    return HolidayWords(dates, frozenset(each for each in found if not isinstance(each, date)))


def _holiday(word: str) -> date | MonthDay:
    try:
        return _month_day(word) if _YEARLY.fullmatch(word) else date.fromisoformat(word)
    except ValueError as error:
        hint = "write 2026-04-03, or 12-25 for every year"
        raise _Wrong(ValueFlaw(Code.TARIFF_DAY, "must be a day of the calendar", hint)) from error


def season(value: object) -> object:
    """`10-15..04-14` as its first and last (month, day)."""
    if value is None or isinstance(value, tuple):
        return value
    first, _, last = str(value).partition("..")
    try:
        return _month_day(first), _month_day(last)
    except ValueError as error:
        what = "must be a season from its first to its last day"
        raise ValueFlaw(Code.TARIFF_DAY, what, "write it as in 10-15..04-14").error() from error


def _month_day(text: str) -> MonthDay:
    """MM-DD as (month, day). Raises ValueError."""
    if (found := _YEARLY.fullmatch(text.strip())) is None:
        raise ValueError(text)
    that = date(_ANY_YEAR, int(found[1]), int(found[2]))
    return that.month, that.day


def weekdays(value: object) -> frozenset[int]:
    """Names and ranges of days: 0 is Monday, 7 a holiday, which no range over Sunday holds."""
    return _numbers(value, DAYS, "a day of the week or holiday", 0, around=7)


def months(value: object) -> frozenset[int]:
    """Names and ranges of months: 1 is January."""
    return _numbers(value, MONTHS, "a month", 1, around=12)


def times(value: object) -> tuple[tuple[int, int], ...]:
    """Ranges such as 22:30-06:00 as pairs of quarter hours since midnight."""
    if isinstance(value, tuple):
        return value
    return tuple(_each(value, _time))


def _time(word: str) -> tuple[int, int]:
    if (found := _TIMES.fullmatch(word.replace(" ", ""))) is None:
        raise _Wrong(_time_flaw("must be a range of times of day", "write it as in 22:30-06:00"))
    hours = [int(found[1]), int(found[3])]
    minutes = [hours[0] * 60 + int(found[2]), hours[1] * 60 + int(found[4])]
    if max(minutes) > _MIDNIGHT or int(found[2]) > 59 or int(found[4]) > 59:
        raise _Wrong(_time_flaw("must lie between 00:00 and 24:00", ""))
    if any(minute % _SLOT for minute in minutes):
        near_by = "-".join(_spell(round(minute / _SLOT) * _SLOT) for minute in minutes)
        hint = f"energy is kept by quarter hours: write {near_by}"
        raise _Wrong(_time_flaw("must begin and end on a quarter hour", hint))
    first, last = (minute // _SLOT for minute in minutes)
    if first % 96 == last % 96 and (first, last) != (0, 96):
        raise _Wrong(
            _time_flaw("must end at another time than it begins", "leave out `time:` for all day")
        )
    return first % 96, last


def _spell(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _time_flaw(what: str, hint: str) -> ValueFlaw:
    return ValueFlaw(Code.TARIFF_TIME, what, hint)


class _Wrong(Exception):  # noqa: N818 (it carries a flaw to the list of all of them)
    def __init__(self, flaw: ValueFlaw) -> None:
        super().__init__(flaw.what)
        self.flaw = flaw


def _each(value: object, read: Callable[[str], _T]) -> list[_T]:
    """One value, or each of a list; all mistakes at once, each at its place."""
    words: Sequence[Any] = value if isinstance(value, list) else [] if value is None else [value]
    found, wrong = [], []
    for place, word in enumerate(words):
        try:
            found.append(read(str(word)))
        except _Wrong as error:
            wrong.append(((place,), word, error.flaw))
    mistakes(wrong)
    return found


def _numbers(
    value: object, known: Sequence[str], what: str, least: int, around: int
) -> frozenset[int]:
    if isinstance(value, frozenset):
        return value

    def read(word: str) -> frozenset[int]:
        first, dash, last = word.lower().partition("-")
        ends = [known.index(end) for end in (first, last if dash else first) if end in known]
        if len(ends) == 2:
            return frozenset(least + each for each in _round(ends[0], ends[1], around))
        raise _Wrong(ValueFlaw(Code.TARIFF_DAY, f"must be {what}", _hint(word.lower(), known)))

    return frozenset().union(*_each(value, read))


def _hint(word: str, known: Sequence[str]) -> str:
    if word[:3] in known:
        return f"write {word[:3]}"
    found = near(word, known)
    return found if found.startswith("did") else f"they are {', '.join(known)}"


def _round(first: int, last: int, count: int) -> Iterator[int]:
    """From first to last, over the end of `count` where last is the lower."""
    if first <= last:
        return iter(range(first, last + 1))
    return iter((first, *range(first + 1, count), *range(last + 1)))
