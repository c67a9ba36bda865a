"""What is there to stay is walked no more; a reload makes it garbage like any other."""

import asyncio
import ctypes
import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from meterd.daemon import gc_tuning
from meterd.daemon.gc_tuning import SETTLED, TRIM, settle, trim
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


async def test_free_pages_are_given_back_each_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(gc_tuning, "_malloc_trim", lambda: asked.append)
    clock = Waits()
    task = asyncio.create_task(trim(clock))
    await asyncio.sleep(0)
    assert (clock.asked, asked) == ([TRIM], [])
    clock.go.set()
    while len(asked) < 3:
        await asyncio.sleep(0)
    task.cancel()
    assert set(asked) == {0}
    assert set(clock.asked) == {TRIM}


async def test_a_c_library_that_cannot_give_pages_back_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    clock = Waits()
    await asyncio.wait_for(trim(clock), 5)
    assert clock.asked == []


_FREED_AMONG_WHAT_STAYS = """
import gc
from pathlib import Path
from meterd.daemon import gc_tuning

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

size = 64 << 10  # below what malloc maps on its own
both = [(bytearray(size), bytearray(600)) for _ in range(1000)]
stays = [small for _, small in both]
del both
gc.collect()
before = resident()
gc_tuning._malloc_trim()(0)
assert resident() < before - 500 * size, (before, resident())
assert len(stays) == 1000
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library has no malloc_trim"
)
def test_what_lies_free_between_things_that_stay_is_given_back() -> None:
    # In a process of its own: what lies free in this one depends on the tests before.
    subprocess.run([sys.executable, "-c", _FREED_AMONG_WHAT_STAYS], check=True)
