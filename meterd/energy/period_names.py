"""Parses dates and relative periods in a time zone: `2026-10`, `2026-W40`, `last-month`."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from meterd.energy.periods import Period, date_of, day_starts, period_ceil, period_floor
from meterd.energy.zone_clock import DAY, ZoneClock

HINT = (
    "write 2026, 2026-10, 2026-W40, 2026-10-01, 2026-10-01T14:00, today, yesterday, this-month, "
    "last-month, last-year"
)

_YEAR = re.compile(r"(\d{4})", re.ASCII)
_MONTH = re.compile(r"(\d{4})-(\d\d)", re.ASCII)
_WEEK = re.compile(r"(\d{4})-w(\d\d)", re.ASCII)
_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_DATE_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[t-](\d\d:\d\d(?::\d\d)?)", re.ASCII)
_RELATIVE = re.compile(r"(this|last)-(day|week|month|year|hour)")
_WORDS = {"today": "this-day", "yesterday": "last-day"}
_EPOCH = date(1970, 1, 1)


class TimeSpan(NamedTuple):
    """start <= time < end in Unix ms; equal for a moment."""

    start: int
    end: int


def parse_date(text: str, zone: ZoneInfo, now: int) -> TimeSpan | None:
    """The time span that a text means in this zone at `now` (Unix ms); None for any other text.

    Raises ValueError, whose text continues a sentence, for dates and times that do not exist.
    """
    word = re.sub(r"[\s_]+", "-", text.strip().lower())
    word = _WORDS.get(word, word)
    if match := _RELATIVE.fullmatch(word):
        return _relative(match[1], Period(match[2]), zone, now)
    if match := _DATE_TIME.fullmatch(word):
        return _parse_time(match[1], match[2], zone)
    if match := _YEAR.fullmatch(word):
        return _period_from(zone, Period.YEAR, _date(match[1], "1", "1"))
    if match := _MONTH.fullmatch(word):
        return _period_from(zone, Period.MONTH, _date(match[1], match[2], "1"))
    if match := _WEEK.fullmatch(word):
        return _period_from(zone, Period.WEEK, _week(int(match[1]), int(match[2])))
    if match := _DAY.fullmatch(word):
        return _period_from(zone, Period.DAY, _date(*match.groups()))
    return None


def day_label(zone: ZoneInfo, ms: int) -> str | None:
    """The local ISO date of a moment (Unix ms) at which a day begins; None for any other."""
    if period_floor(zone, Period.DAY, ms) != ms:
        return None
    return _date_at(zone, ms).isoformat()


def _relative(which: str, period: Period, zone: ZoneInfo, now: int) -> TimeSpan:
    start = period_floor(zone, period, now)
    if which == "this":
        return TimeSpan(start, period_ceil(zone, period, start + 1))
    return TimeSpan(period_floor(zone, period, start - 1), start)


def _date(year: str, month: str, day: str) -> date:
    try:
        parsed = date(int(year), int(month), int(day))
    except ValueError as error:
        raise ValueError("is a day or a month that does not exist") from error
    if not _EPOCH.year <= parsed.year < 9999:
        raise ValueError("lies outside the years 1970 to 9998")
    return parsed


def _week(year: int, number: int) -> date:
    try:
        return date.fromisocalendar(year, number, 1)
    except ValueError as error:
        raise ValueError("is a week that does not exist") from error


def _period_from(zone: ZoneInfo, period: Period, first: date) -> TimeSpan:
    """The period whose first day is `first`."""
    start = _day_start(zone, first)
    return TimeSpan(start, period_ceil(zone, period, start + 1))


def _day_start(zone: ZoneInfo, day: date) -> int:
    day_utc = (day - _EPOCH).days * DAY
    for start in day_starts(zone, day_utc - 2 * DAY, day_utc + 2 * DAY):
        if _date_at(zone, start) == day:
            return start
    raise ValueError(f"is a day that was skipped in {zone.key}")


def _date_at(zone: ZoneInfo, ms: int) -> date:
    return date_of(ZoneClock(zone, ms, ms + 1).local(ms) // DAY)


def _parse_time(day: str, clock: str, zone: ZoneInfo) -> TimeSpan:
    """A local date and time; the first of an ambiguous one. Raises ValueError for a skipped one."""
    try:
        local = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=zone)
    except ValueError as error:
        raise ValueError("is a day or an hour that does not exist") from error
    utc = local.astimezone(UTC)
    if utc.astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
        raise ValueError(f"was skipped by the clocks of {zone.key}")
    ms = (utc - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return TimeSpan(ms, ms)
