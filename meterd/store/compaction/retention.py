"""Retention: deletes samples older than `keep`, never because the wall clock leapt forward."""

import logging

from meterd.model.clock import Clock
from meterd.store.blocks.slicing import HOUR
from meterd.store.compaction.session import StoreSession

TRIM_EVERY = 3600.0
_TRIM_BLOCKS = 200
# A wall clock that ran so many seconds more than time did was set: old samples may be young.
_LEAP = 3600.0

_log = logging.getLogger(__name__)


class Retention:
    """`keep` and `rows` are seconds that raw samples and plain rows stay; None deletes none."""

    def __init__(self, clock: Clock, keep: float | None, rows: float | None) -> None:
        self._clock = clock
        self._keep = keep
        self._rows = rows
        self._began = clock.now_ms() / 1000 - clock.monotonic()
        self._leap = float("-inf")  # the monotonic time at which it was noticed

    def tune(self, keep: float | None, rows: float | None) -> None:
        """After a reload."""
        self._keep, self._rows = keep, rows

    def begin(self, newest: int | None) -> None:
        """Starts from the time (Unix ms) of the newest stored sample: the clock may have been set
        since.
        """
        if newest is not None:
            ahead = self._clock.now_ms() / 1000 - newest / 1000
            if ahead > _LEAP and (self._keep is not None or self._rows is not None):
                self._leap = self._clock.monotonic()
                text = "the clock is %.0f s ahead of what is stored: nothing is deleted for an hour"
                _log.warning(text, ahead)

    def trim(self, session: StoreSession) -> bool:
        """Deletes some of the expired samples; returns whether more are left. Raises StoreError."""
        if (self._keep is None and self._rows is None) or self._leapt():
            return False
        now, more = self._clock.now_ms(), False
        if self._keep is not None:
            before = now - round(self._keep * 1000)
            more = session.trim(before // HOUR * HOUR, _TRIM_BLOCKS) == _TRIM_BLOCKS
        if self._rows is not None:
            more = session.trim_plain(now - round(self._rows * 1000)) or more
        return more

    def _leapt(self) -> bool:
        """Whether the wall clock was set forward: what then looks old may not be."""
        now = self._clock.now_ms() / 1000 - self._clock.monotonic()
        leap = now - self._began
        if leap > _LEAP:
            self._began = now
            self._leap = self._clock.monotonic()
            _log.warning("the clock leapt by %.0f s: nothing is deleted this time", leap)
        # It is believed once it has stood for some time.
        return self._clock.monotonic() - self._leap < TRIM_EVERY
