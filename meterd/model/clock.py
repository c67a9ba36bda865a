"""Time as meterd asks for it, so that tests can pass their own."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for durations, one for people."""

    def monotonic(self) -> float:
        """Seconds since some start; never steps."""

    def now_ms(self) -> int:
        """UTC as Unix milliseconds; may step when NTP corrects it."""

    async def sleep(self, seconds: float) -> None:
        """Pause this task."""


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
