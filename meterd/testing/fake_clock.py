"""A clock that tests move, for all that takes a meterd.model.clock.Clock."""

import asyncio


class FakeClock:
    """Sleeping moves the clock, and lets the other tasks run; UTC may be stepped by itself."""

    def __init__(self, now: float = 1000.0, utc_ms: int = 1_800_000_000_000) -> None:
        self.now = now
        self.utc_ms = float(utc_ms)
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def now_ms(self) -> int:
        return int(self.utc_ms)

    def pass_by(self, seconds: float) -> None:
        """Time goes on."""
        self.now += seconds
        self.utc_ms += seconds * 1000

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_by(seconds)
        await asyncio.sleep(0)
