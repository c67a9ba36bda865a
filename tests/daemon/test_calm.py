"""What is there to stay is walked no more; a reload makes it garbage like any other."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from meterd.daemon.calm import SETTLED, settle
from meterd.model.clock import SystemClock


class Waits(SystemClock):
    """Stops a sleeper until it is let go."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.go = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.go.wait()


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


async def test_freezes_when_it_has_settled_and_begins_anew_with_each_reload() -> None:
    clock = Waits()
    first = asyncio.create_task(settle(clock))
    await asyncio.sleep(0)
    assert (clock.asked, gc.get_freeze_count()) == ([SETTLED], 0)
    clock.go.set()
    await first
    assert gc.get_freeze_count() > 1000
    clock.go.clear()
    second = asyncio.create_task(settle(clock))
    await asyncio.sleep(0)
    assert gc.get_freeze_count() == 0
    second.cancel()
