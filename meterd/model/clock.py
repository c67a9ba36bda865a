"""Time as meterd asks for it, so that tests can pass their own."""

import asyncio
import math
import time
from typing import Protocol

# 2020-01-01: no clock that was set shows less. One that nobody set begins in 1970, or in 2000.
EARLIEST_MS = 1_577_836_800_000


class Clock(Protocol):
    """Two clocks: one for durations, one for people."""

    def monotonic(self) -> float:
        """Seconds since some start; never steps."""

    def now_ms(self) -> int:
        """UTC as Unix milliseconds; may step when NTP corrects it."""

    async def sleep(self, seconds: float) -> None:
        """Pause this task."""


# Where the process was preempted between two looks at clocks it looks again, so often at most.
_LOOKS = 5
_UNTOUCHED = 0.0002  # seconds between two looks one after the other, at most


def slept() -> float:
    """Seconds that the machine was suspended since it was started; what is monotonic stood still.

    0 where the system does not tell it.
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    apart, between = 0.0, math.inf
    for _ in range(_LOOKS):
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        found = time.clock_gettime(time.CLOCK_BOOTTIME)
        width = time.clock_gettime(time.CLOCK_MONOTONIC) - before
        if width < between:
            apart, between = found - before, width
        if between < _UNTOUCHED:
            break
    return round(apart, 3)


# Sleepers that are to wake within so many seconds of each other wake together.
_TICK = 0.001


class SystemClock:
    """The machine's own clocks.

    A thousand buses that wait for the same slot wait behind one timer: each timer of the loop
    costs as much as a send.
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
        tick = math.ceil((loop.time() + max(seconds, 0.0)) / _TICK)
        together = self._sleepers.get(tick)
        if together is None:
            together = self._sleepers[tick] = []
            loop.call_at(tick * _TICK, self._wake, self._sleepers, tick)
        sleeper = loop.create_future()
        together.append(sleeper)
        await sleeper

    @staticmethod
    def _wake(sleepers: dict[int, list[asyncio.Future[None]]], tick: int) -> None:
        for sleeper in sleepers.pop(tick):
            if not sleeper.done():
                sleeper.set_result(None)
