"""Where hours, days, weeks, months and years of a zone begin, in Unix ms."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta, tzinfo
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from meterd.energy.quarter import QUARTER, ceil
from meterd.energy.zone_clock import DAY, OffsetPeriod, ZoneClock, offset_at

HOUR = 3_600_000
_ORIGIN = date(1970, 1, 1)


class Period(StrEnum):
    """Weeks begin on Monday, as in ISO 8601."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


# The longest that a period can be, with the clock set back in it; Apia's is not longer.
_LONGEST = {
    Period.HOUR: 2 * HOUR,
    Period.DAY: 2 * DAY,
    Period.WEEK: 8 * DAY,
    Period.MONTH: 32 * DAY,
    Period.YEAR: 367 * DAY,
}


class PeriodSpan(NamedTuple):
    """A part of a period, or all of it; `quarters` is how many the whole period has."""

    start: int
    end: int
    quarters: int


def spans(zone: tzinfo, period: Period, start: int, end: int) -> list[PeriodSpan]:
    """The periods from `start` to `end` (Unix ms, whole quarter hours), cut off at both."""
    edges = _around(zone, period, start, end)
    found = []
    for first, last in pairwise(edges):
        cut = max(first, start), min(last, end)
        if cut[0] < cut[1]:
            found.append(PeriodSpan(*cut, (last - first) // QUARTER))
    return found


def edges(zone: tzinfo, period: Period, count: int, start: int, end: int) -> list[int]:
    """Where each run of `count` periods begins (Unix ms) that touches start <= moment < end.

    Runs are counted from 1970-01-01, of weeks from the Monday before it.
    """
    wide = _around(zone, period, start - (count - 1) * _LONGEST[period], end)
    found = [edge for edge in wide if _number(zone, period, edge) % count == 0]
    first = max((place for place, edge in enumerate(found) if edge <= start), default=0)
    return [edge for edge in found[first:] if edge < end]


def _number(zone: tzinfo, period: Period, ms: int) -> int:
    """Which period since 1970 a moment is in."""
    day = (ms + offset_at(zone, ms)) // DAY
    if period is Period.DAY:
        return day
    if period is Period.WEEK:
        return (day + 3) // 7
    found = date_of(day)
    years = found.year - _ORIGIN.year
    return years if period is Period.YEAR else years * 12 + found.month - 1


def begin(zone: tzinfo, period: Period, ms: int) -> int:
    """When the period began that this moment (Unix ms) is in."""
    return max(edge for edge in _around(zone, period, ms, ms + 1) if edge <= ms)


def finish(zone: tzinfo, period: Period, ms: int) -> int:
    """This moment (Unix ms) if a period begins then, else when the next one does."""
    return min(edge for edge in _around(zone, period, ms, ms + 1) if edge >= ms)


def back(zone: tzinfo, period: Period, ms: int, count: int) -> int:
    """The beginning of the period `count` periods before the one that the moment is in."""
    found = begin(zone, period, ms)
    for _ in range(count):
        found = begin(zone, period, found - 1)
    return found


def day_starts(zone: tzinfo, start: int, end: int) -> list[int]:
    """The beginnings of local days with start <= moment < end (Unix ms)."""
    return [edge for edge in _around(zone, Period.DAY, start, end) if start <= edge < end]


def _around(zone: tzinfo, period: Period, start: int, end: int) -> Sequence[int]:
    """The edges from the last one at or before `start` to the first at or after `end`."""
    margin = _LONGEST[period]
    edges = list(_edges(ZoneClock(zone, start - margin, end + margin), period))
    first = max(place for place, edge in enumerate(edges) if edge <= start)
    last = min(place for place, edge in enumerate(edges) if edge >= end)
    return edges[first : last + 1]


def _edges(clock: ZoneClock, period: Period) -> Iterator[int]:
    """Where periods begin on this clock, rising; the first may be where the clock begins."""
    find = _hours if period is Period.HOUR else _days
    last = None
    for edge in find(clock, period):
        # St. John's changed its clock at 00:01, and Monrovia was 44 min 30 s behind UTC: a
        # quarter hour belongs to where it begins.
        if (whole := ceil(edge)) != last:
            yield whole
        last = whole


def _hours(clock: ZoneClock, period: Period) -> Iterator[int]:
    """Full hours of the clock, and its changes: of an hour that comes twice each is its own."""
    for stretch in clock.stretches:
        yield stretch.start
        yield from _multiples(stretch, HOUR)


def _days(clock: ZoneClock, period: Period) -> Iterator[int]:
    """A day begins when the clock first shows its date: no day that was skipped begins."""
    known: int | None = None
    key: tuple[int, ...] = ()
    for stretch in clock.stretches:
        for edge in (stretch.start, *_multiples(stretch, DAY)):
            day = (edge + stretch.offset) // DAY
            if known is not None and day <= known:
                continue
            before, key = key, _key(day, period)
            if key != before:
                yield edge
            known = day


def _multiples(stretch: OffsetPeriod, width: int) -> range:
    """The moments after the stretch's start at which its clock shows a multiple of `width`."""
    local = stretch.start + stretch.offset
    return range(stretch.start + width - local % width, stretch.end, width)


def _key(day: int, period: Period) -> tuple[int, ...]:
    """The same for all days of one period; `day` counts from 1970."""
    if period is Period.DAY:
        return (day,)
    if period is Period.WEEK:
        return ((day + 3) // 7,)
    found = date_of(day)
    return (found.year,) if period is Period.YEAR else (found.year, found.month)


def date_of(day: int) -> date:
    """The date of a day that is counted from 1970."""
    return _ORIGIN + timedelta(days=day)
