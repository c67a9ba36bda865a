"""Days, months and years by their names, on the clock of a zone: `2026-10`, `last-month`."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from meterd.energy.periods import Period, begin, date_of, day_starts, finish
from meterd.energy.zone_clock import DAY, ZoneClock

HINT = (
    "write 2026, 2026-10, 2026-W40, 2026-10-01, 2026-10-01T14:00, today, yesterday, this-month, "
    "last-month, last-year"
)

_YEAR = re.compile(r"(\d{4})", re.ASCII)
_MONTH = re.compile(r"(\d{4})-(\d\d)", re.ASCII)
_WEEK = re.compile(r"(\d{4})-w(\d\d)", re.ASCII)
_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_CLOCK = re.compile(r"(\d{4}-\d\d-\d\d)[t-](\d\d:\d\d(?::\d\d)?)", re.ASCII)
_RELATIVE = re.compile(r"(this|last)-(day|week|month|year|hour)")
_WORDS = {"today": "this-day", "yesterday": "last-day"}
_EPOCH = date(1970, 1, 1)


class Named(NamedTuple):
    """From `start` to before `end`, Unix ms; of a moment they are the same."""

    start: int
    end: int


def named(text: str, zone: ZoneInfo, now: int) -> Named | None:
    """What a text names on this zone's clock at `now` (Unix ms); None where it is no such name.

    Raises ValueError with the rest of a sentence for days that do not exist.
    """
    word = re.sub(r"[\s_]+", "-", text.strip().lower())
    word = _WORDS.get(word, word)
    if found := _RELATIVE.fullmatch(word):
        return _relative(found[1], Period(found[2]), zone, now)
    if found := _CLOCK.fullmatch(word):
        return _moment(found[1], found[2], zone)
    if found := _YEAR.fullmatch(word):
        return _around(zone, Period.YEAR, _date(found[1], "1", "1"))
    if found := _MONTH.fullmatch(word):
        return _around(zone, Period.MONTH, _date(found[1], found[2], "1"))
    if found := _WEEK.fullmatch(word):
        return _around(zone, Period.WEEK, _week(int(found[1]), int(found[2])))
    if found := _DAY.fullmatch(word):
        return _around(zone, Period.DAY, _date(*found.groups()))
    return None


def local(zone: ZoneInfo, ms: int) -> str | None:
    """The local date of a moment at which a day begins; None for any other moment."""
    if begin(zone, Period.DAY, ms) != ms:
        return None
    return _shown(zone, ms).isoformat()


def _relative(which: str, period: Period, zone: ZoneInfo, now: int) -> Named:
    start = begin(zone, period, now)
    if which == "this":
        return Named(start, finish(zone, period, start + 1))
    return Named(begin(zone, period, start - 1), start)


def _date(year: str, month: str, day: str) -> date:
    try:
        found = date(int(year), int(month), int(day))
    except ValueError as error:
        raise ValueError("is a day or a month that does not exist") from error
    if not _EPOCH.year <= found.year < 9999:
        raise ValueError("lies outside the years 1970 to 9998")
    return found


def _week(year: int, number: int) -> date:
    try:
        return date.fromisocalendar(year, number, 1)
    except ValueError as error:
        raise ValueError("is a week that does not exist") from error


def _around(zone: ZoneInfo, period: Period, first: date) -> Named:
    """The period whose first day this is."""
    start = _day_start(zone, first)
    return Named(start, finish(zone, period, start + 1))


def _day_start(zone: ZoneInfo, day: date) -> int:
    there = (day - _EPOCH).days * DAY
    for start in day_starts(zone, there - 2 * DAY, there + 2 * DAY):
        if _shown(zone, start) == day:
            return start
    raise ValueError(f"is a day that was skipped in {zone.key}")


def _shown(zone: ZoneInfo, ms: int) -> date:
    return date_of(ZoneClock(zone, ms, ms + 1).local(ms) // DAY)


def _moment(day: str, clock: str, zone: ZoneInfo) -> Named:
    """Of a time that comes twice the first; one that is skipped is refused."""
    try:
        said = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=zone)
    except ValueError as error:
        raise ValueError("is a day or an hour that does not exist") from error
    absolute = said.astimezone(UTC)
    if absolute.astimezone(zone).replace(tzinfo=None) != said.replace(tzinfo=None):
        raise ValueError(f"was skipped by the clocks of {zone.key}")
    ms = (absolute - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return Named(ms, ms)
