"""An event loop for which time stands still while the machine gives its processor to others.

Client and server of a fault test are one process. Where that is halted for longer than a timeout,
an answer that was long there would count as late, which says nothing about meterd.
"""

import asyncio
import functools
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")

# No longer than this, in seconds, is waited without a look at what the waiting really took.
_SLICE = 0.004
# Woken later by so much, the machine is busy, and for a while time goes by at half its pace.
_HALT = 0.008
_BUSY = 0.2
_SLOWER = 1 / 2


class _Selector(selectors.DefaultSelector):
    """Counts the time that the loop may count: what was asked to be waited, and what was worked."""

    def __init__(self) -> None:
        super().__init__()
        self._now = time.monotonic()
        self._worked = time.thread_time()
        self._busy_until = 0.0

    def now(self) -> float:
        return self._now + time.thread_time() - self._worked

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events: list[tuple[selectors.SelectorKey, int]] = []
        end = None if timeout is None else self.now() + timeout
        while not events:
            left = _SLICE if end is None else end - self.now()
            piece = min(max(left, 0.0), _SLICE)
            self._now, began = self.now(), time.monotonic()
            events = super().select(piece)
            self._count(began, piece)
            if end is not None and self.now() >= end:
                break
        return events

    def _count(self, began: float, piece: float) -> None:
        """So long was waited, by what was asked for."""
        after = time.monotonic()
        waited = after - began
        if waited - piece > _HALT:
            self._busy_until = after + _BUSY
        # What the system does itself, such as handing bytes through a pty, is held up as well.
        self._now += min(waited, piece) * (_SLOWER if after < self._busy_until else 1.0)
        self._worked = time.thread_time()


class PatientLoop(asyncio.SelectorEventLoop):
    """Its time is that of its selector."""

    def __init__(self) -> None:
        self._patient = _Selector()
        super().__init__(self._patient)

    def time(self) -> float:
        return self._patient.now()


class LoopClock:
    """The clock of a bus in such a loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def patient(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs the test in a loop of its own that is one."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=PatientLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run
