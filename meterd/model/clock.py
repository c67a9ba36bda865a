"""The Clock protocol: monotonic time, UTC and sleep, which tests replace; the system's clock."""

import asyncio
import math
import time
from typing import Protocol

# 2020-01-01. A clock that shows less was not set: they start in 1970, some in 2000.
EARLIEST_MS = 1_577_836_800_000


class Clock(Protocol):
    """A monotonic clock for durations, a UTC clock for timestamps."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never steps."""

    def now_ms(self) -> int:
        """UTC in Unix ms; may step when it is set or corrected by NTP."""

    async def sleep(self, seconds: float) -> None:
        """Suspends the current task."""


# Two clocks are read one after the other; the pair is read again if the process was preempted.
_READ_ATTEMPTS = 5
_READ_MAX_S = 0.0002  # a pair that took longer was interrupted


def suspended_s() -> float:
    """Seconds that the machine was suspended since boot: CLOCK_BOOTTIME less CLOCK_MONOTONIC.

    0.0 where the system has no CLOCK_BOOTTIME.
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    offset, narrowest = 0.0, math.inf
    for _ in range(_READ_ATTEMPTS):
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        boottime = time.clock_gettime(time.CLOCK_BOOTTIME)
        width = time.clock_gettime(time.CLOCK_MONOTONIC) - before
        if width < narrowest:
            offset, narrowest = boottime - before, width
        if narrowest < _READ_MAX_S:
            break
    return round(offset, 3)


# Sleeps are rounded up to multiples of it, in seconds: those that end together share a timer.
_TIMER_RESOLUTION_S = 0.001


class SystemClock:
    """The machine's clocks.

    Tasks that sleep until the same millisecond share one timer of the event loop, each of which
    costs as much as a send: a thousand buses wait for the same slot.
    """

    _loop: asyncio.AbstractEventLoop | None = None
    _sleepers: dict[int, list[asyncio.Future[None]]]

    def monotonic(self) -> float:
        return time.monotonic()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._sleepers = loop, {}
        tick = math.ceil((loop.time() + max(seconds, 0.0)) / _TIMER_RESOLUTION_S)
        sleepers = self._sleepers.get(tick)
        if sleepers is None:
            sleepers = self._sleepers[tick] = []
            loop.call_at(tick * _TIMER_RESOLUTION_S, self._wake, self._sleepers, tick)
        sleeper = loop.create_future()
        sleepers.append(sleeper)
        await sleeper

    @staticmethod
    def _wake(sleepers: dict[int, list[asyncio.Future[None]]], tick: int) -> None:
        for sleeper in sleepers.pop(tick):
            if not sleeper.done():
                sleeper.set_result(None)
