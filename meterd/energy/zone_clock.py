"""A time zone's UTC offsets in a time range: local time is UTC plus the offset of its period.

        UTC ──────────────┬───────────────────┬──────────
        local = UTC +     1 h        2 h           1 h        (Berlin)

Converting from UTC to local time only, skipped and repeated local times need no rules.
"""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

DAY = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
# Distance of offset probes in ms. No zone changed its clock twice within six days since 1970:
# the closest are seven days (Recife, 2000).
_PROBE_MS = 3 * DAY


class OffsetPeriod(NamedTuple):
    """From `start` to before `end` (Unix ms) local time is UTC plus `offset` ms."""

    start: int
    end: int
    offset: int


class ZoneClock:
    """Local time of `zone` from `start` to `end` (Unix ms)."""

    def __init__(self, zone: tzinfo, start: int, end: int) -> None:
        self.offset_periods = tuple(_offset_periods(zone, start, end))
        self._starts = [period.start for period in self.offset_periods]

    def at(self, ms: int) -> OffsetPeriod:
        """The period that contains a moment; the first or last one for a moment outside of all."""
        return self.offset_periods[max(0, bisect_right(self._starts, ms) - 1)]

    def local(self, ms: int) -> int:
        """Local time in ms, as if it were UTC."""
        return ms + self.at(ms).offset


def offset_at(zone: tzinfo, ms: int) -> int:
    """The zone's UTC offset at a moment (Unix ms), in ms."""
    offset = (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone).utcoffset()
    return 0 if offset is None else offset // _MS


def _offset_periods(zone: tzinfo, start: int, end: int) -> Iterator[OffsetPeriod]:
    period_start, offset = start, offset_at(zone, start)
    probed = start
    while probed < end:
        next_probe = min(probed + _PROBE_MS, end)
        if (next_offset := offset_at(zone, next_probe)) != offset:
            changed_at = _find_change(zone, probed, next_probe, offset)
            yield OffsetPeriod(period_start, changed_at, offset)
            period_start, offset = changed_at, next_offset
        probed = next_probe
    yield OffsetPeriod(period_start, max(end, period_start + 1), offset)


def _find_change(zone: tzinfo, low: int, high: int, before: int) -> int:
    """The first moment after `low` with another offset, by bisection; `high` has another one."""
    while high - low > 1:
        middle = (low + high) // 2
        if offset_at(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high
