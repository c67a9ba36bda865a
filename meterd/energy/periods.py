"""Boundaries of hours, days, weeks, months and years in a time zone, in Unix ms."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta, tzinfo
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from meterd.energy.quarter import QUARTER, quarter_ceil
from meterd.energy.zone_clock import DAY, OffsetPeriod, ZoneClock, offset_at

HOUR = 3_600_000
_EPOCH = date(1970, 1, 1)


class Period(StrEnum):
    """The lengths of buckets. Weeks begin on Monday, as in ISO 8601."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


# Upper bounds of a period's length in ms, clock changes included (Apia's day change, too).
_LONGEST_MS = {
    Period.HOUR: 2 * HOUR,
    Period.DAY: 2 * DAY,
    Period.WEEK: 8 * DAY,
    Period.MONTH: 32 * DAY,
    Period.YEAR: 367 * DAY,
}


class PeriodSpan(NamedTuple):
    """start <= time < end (Unix ms) within one period; `quarters` are those of the whole period."""

    start: int
    end: int
    quarters: int


def spans(zone: tzinfo, period: Period, start: int, end: int) -> list[PeriodSpan]:
    """The periods from `start` to `end` (Unix ms, whole quarter hours), clipped to both."""
    boundaries = _boundaries(zone, period, start, end)
    spans = []
    for first, last in pairwise(boundaries):
        span = max(first, start), min(last, end)
        if span[0] < span[1]:
            spans.append(PeriodSpan(*span, (last - first) // QUARTER))
    return spans


def run_starts(zone: tzinfo, period: Period, count: int, start: int, end: int) -> list[int]:
    """The starts (Unix ms) of the runs of `count` periods that overlap start <= time < end.

    Runs are aligned to 1970-01-01, those of weeks to the Monday before it.
    """
    boundaries = _boundaries(zone, period, start - (count - 1) * _LONGEST_MS[period], end)
    starts = [
        start_of_run
        for start_of_run in boundaries
        if _period_number(zone, period, start_of_run) % count == 0
    ]
    first = max(
        (index for index, start_of_run in enumerate(starts) if start_of_run <= start), default=0
    )
    return [start_of_run for start_of_run in starts[first:] if start_of_run < end]


def _period_number(zone: tzinfo, period: Period, ms: int) -> int:
    """The number of the period of a moment, counted from 1970."""
    day = (ms + offset_at(zone, ms)) // DAY
    if period is Period.DAY:
        return day
    if period is Period.WEEK:
        return (day + 3) // 7
    date = date_of(day)
    years = date.year - _EPOCH.year
    return years if period is Period.YEAR else years * 12 + date.month - 1


def period_floor(zone: tzinfo, period: Period, ms: int) -> int:
    """The start of the period that contains the moment (Unix ms)."""
    return max(edge for edge in _boundaries(zone, period, ms, ms + 1) if edge <= ms)


def period_ceil(zone: tzinfo, period: Period, ms: int) -> int:
    """The moment (Unix ms) if a period begins at it, else the start of the next period."""
    return min(edge for edge in _boundaries(zone, period, ms, ms + 1) if edge >= ms)


def periods_before(zone: tzinfo, period: Period, ms: int, count: int) -> int:
    """The start of the period `count` periods before the one that contains the moment."""
    start = period_floor(zone, period, ms)
    for _ in range(count):
        start = period_floor(zone, period, start - 1)
    return start


def day_starts(zone: tzinfo, start: int, end: int) -> list[int]:
    """The starts of local days with start <= time < end (Unix ms)."""
    return [edge for edge in _boundaries(zone, Period.DAY, start, end) if start <= edge < end]


def _boundaries(zone: tzinfo, period: Period, start: int, end: int) -> Sequence[int]:
    """Period starts from the last one at or before `start` to the first at or after `end`."""
    margin = _LONGEST_MS[period]
    starts = list(_period_starts(ZoneClock(zone, start - margin, end + margin), period))
    first = max(index for index, edge in enumerate(starts) if edge <= start)
    last = min(index for index, edge in enumerate(starts) if edge >= end)
    return starts[first : last + 1]


def _period_starts(clock: ZoneClock, period: Period) -> Iterator[int]:
    """Period starts on this clock, ascending; the first may be the start of the clock's range."""
    starts = _hour_starts if period is Period.HOUR else _day_or_longer_starts
    previous = None
    for edge in starts(clock, period):
        # Rounded up to a quarter hour: St. John's changed its clock at 00:01, and Monrovia was
        # 44 min 30 s behind UTC. A quarter hour belongs to the period in which it begins.
        if (whole := quarter_ceil(edge)) != previous:
            yield whole
        previous = whole


def _hour_starts(clock: ZoneClock, period: Period) -> Iterator[int]:
    """Full hours of local time, and its changes: a repeated hour is a period of its own."""
    for offset_period in clock.offset_periods:
        yield offset_period.start
        yield from _multiples(offset_period, HOUR)


def _day_or_longer_starts(clock: ZoneClock, period: Period) -> Iterator[int]:
    """Starts of days, weeks, months or years: the first moment with the period's date.

    A date that the clock skipped has no start.
    """
    last_day: int | None = None
    key: tuple[int, ...] = ()
    for offset_period in clock.offset_periods:
        for edge in (offset_period.start, *_multiples(offset_period, DAY)):
            day = (edge + offset_period.offset) // DAY
            if last_day is not None and day <= last_day:
                continue
            previous, key = key, _period_key(day, period)
            if key != previous:
                yield edge
            last_day = day


def _multiples(offset_period: OffsetPeriod, width: int) -> range:
    """The moments after the period's start at which local time is a multiple of `width` ms."""
    local = offset_period.start + offset_period.offset
    return range(offset_period.start + width - local % width, offset_period.end, width)


def _period_key(day: int, period: Period) -> tuple[int, ...]:
    """A key that is equal for all days of a period; `day` counts from 1970."""
    if period is Period.DAY:
        return (day,)
    if period is Period.WEEK:
        return ((day + 3) // 7,)
    date = date_of(day)
    return (date.year,) if period is Period.YEAR else (date.year, date.month)


def date_of(day: int) -> date:
    """The date of a day number, counted from 1970."""
    return _EPOCH + timedelta(days=day)
