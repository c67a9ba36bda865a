"""Sleeping: never too short, and together with those who wake at the same time."""

import asyncio
import time

import pytest

from meterd.model.clock import SystemClock, suspended_s


async def test_nobody_wakes_before_the_time() -> None:
    clock = SystemClock()

    async def early(seconds: float) -> float:
        began = time.monotonic()
        await clock.sleep(seconds)
        return seconds - (time.monotonic() - began)

    found = await asyncio.gather(*(early(n / 3000) for n in range(60)))
    assert max(found) <= 0


async def test_a_sleeper_that_is_cancelled_wakes_nobody_and_holds_up_nobody() -> None:
    clock = SystemClock()
    one, two = (asyncio.ensure_future(clock.sleep(0.01)) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    await two
    assert one.cancelled()
    assert not two.cancelled()


def test_a_clock_may_outlive_its_loop() -> None:
    clock = SystemClock()

    async def begin() -> None:
        asyncio.ensure_future(clock.sleep(0.05))  # noqa: RUF006 (it ends with its loop)
        await asyncio.sleep(0)

    async def sleep() -> None:
        await clock.sleep(0.05)

    asyncio.run(begin())
    asyncio.run(sleep())


@pytest.mark.parametrize("suspended", [0.0, 3600.25])
@pytest.mark.parametrize("preempted", [{1}, {2}, {0, 1}, {1, 2, 4, 5}, {1, 2, 4, 7, 10}])
def test_who_is_preempted_between_two_looks_at_clocks_has_not_slept(
    monkeypatch: pytest.MonkeyPatch, suspended: float, preempted: set[int]
) -> None:
    """Each look takes a microsecond, and before some of them other processes run for 4 ms."""
    looks, now = iter(range(1000)), 5000.0

    def gettime(clock: int) -> float:
        nonlocal now
        now += 0.004 if next(looks) in preempted else 1e-6
        return now + suspended if clock == time.CLOCK_BOOTTIME else now

    monkeypatch.setattr(time, "clock_gettime", gettime)
    assert suspended_s() == suspended
