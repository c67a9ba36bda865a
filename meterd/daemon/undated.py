"""Polls of a machine whose clock is not set yet (a Pi without one, before NTP): they wait."""

import logging
from collections import deque
from dataclasses import replace
from typing import NamedTuple

from meterd.model.clock import EARLIEST_MS, Clock
from meterd.model.sample import Poll, Sink

# Values that wait, 16 MB: half an hour of 10,000 series at 10 s, weeks of a household.
MOST = 2_000_000

_log = logging.getLogger(__name__)


class _Held(NamedTuple):
    poll: Poll
    started: float  # monotonic


class Undated:
    """In front of the store, which would keep 1970 for ever, or delete it as too old at once.

    What steps no clock is when each poll began by the monotonic one: once the other is right,
    that dates them. Nobody can date what waits when the process ends.
    """

    def __init__(self, clock: Clock, most: int = MOST) -> None:
        self._clock = clock
        self._most = most
        self._held: deque[_Held] = deque()
        self._values = 0
        self.dropped = 0  # polls
        self.sink: Sink | None = None

    def take(self, poll: Poll) -> None:
        if poll.time >= EARLIEST_MS and not self._held:
            self._pass(poll)
        else:
            self._hold(poll)

    def _pass(self, poll: Poll) -> None:
        if self.sink is not None:
            self.sink.take(poll)

    def _hold(self, poll: Poll) -> None:
        if not self._held and self._clock.now_ms() < EARLIEST_MS:
            _log.warning("the clock is not set: polls wait in memory for the right time")
        self._held.append(_Held(poll, self._clock.monotonic() - poll.took))
        self._values += len(poll.values)
        while self._values > self._most:
            self._values -= len(self._held.popleft().poll.values)
            self.dropped += 1
        if self._clock.now_ms() >= EARLIEST_MS:
            self._release()

    def _release(self) -> None:
        """The clock is right: so is every poll, by how long ago it began."""
        now, since = self._clock.now_ms(), self._clock.monotonic()
        waited = 0
        while self._held:
            poll, started = self._held.popleft()
            if poll.time < EARLIEST_MS:
                poll = replace(poll, time=now - round((since - started) * 1000))
                waited += 1
            self._pass(poll)
        self._values = 0
        lost = f"; {self.dropped} older ones are lost" if self.dropped else ""
        _log.warning("the clock is set: %d polls have their times now%s", waited, lost)

    def close(self) -> None:
        """What never got a time is lost."""
        if self._held:
            _log.error("%d polls are lost: the clock was never set", len(self._held))
            self._held.clear()
            self._values = 0
