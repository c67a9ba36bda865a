"""A zone's clock between two moments, as stretches of one offset: local time by addition.

        UTC ──────────────┬───────────────────┬──────────
        local = UTC +     1 h        2 h           1 h        (Berlin)

Neither clock times that do not exist nor those that come twice need a rule of their own so.
"""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

DAY = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
# No zone's clock was changed twice in six days since 1970: Recife's was after seven, in 2000.
_LOOK = 3 * DAY


class OffsetPeriod(NamedTuple):
    """From `start` to before `end` (Unix ms) local time is UTC plus `offset` ms."""

    start: int
    end: int
    offset: int


class ZoneClock:
    """The clock of `zone` from `start` to `end` (Unix ms)."""

    def __init__(self, zone: tzinfo, start: int, end: int) -> None:
        self.stretches = tuple(_stretches(zone, start, end))
        self._starts = [stretch.start for stretch in self.stretches]

    def at(self, ms: int) -> OffsetPeriod:
        """The stretch that a moment lies in; before the first and after the last: these."""
        return self.stretches[max(0, bisect_right(self._starts, ms) - 1)]

    def local(self, ms: int) -> int:
        """What the clock shows, as if it were UTC, in ms."""
        return ms + self.at(ms).offset


def offset_at(zone: tzinfo, ms: int) -> int:
    """What local time is ahead of UTC, in ms."""
    ahead = (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone).utcoffset()
    return 0 if ahead is None else ahead // _MS


def _stretches(zone: tzinfo, start: int, end: int) -> Iterator[OffsetPeriod]:
    begun, offset = start, offset_at(zone, start)
    here = start
    while here < end:
        there = min(here + _LOOK, end)
        if (after := offset_at(zone, there)) != offset:
            change = _change(zone, here, there, offset)
            yield OffsetPeriod(begun, change, offset)
            begun, offset = change, after
        here = there
    yield OffsetPeriod(begun, max(end, begun + 1), offset)


def _change(zone: tzinfo, low: int, high: int, before: int) -> int:
    """The first moment after `low` whose offset is another; at `high` it is."""
    while high - low > 1:
        middle = (low + high) // 2
        if offset_at(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high
