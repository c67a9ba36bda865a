"""Sleeping: never too short, and together with those who wake at the same time."""

import asyncio
import time

from meterd.model.clock import SystemClock


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
