"""The rhythm of a bus: a fixed grid, slots skipped and never stacked, silence paid for once."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from meterd.errors import LinkCode, LinkError
from meterd.model.sample import Poll, Reading
from meterd.poll.bus import BACKOFF_MAX_S, Bus
from meterd.poll.cycle import PollTarget
from meterd.poll.normalise import Normaliser
from meterd.testing import FakeClock

TIMEOUT = 1.0


class Script:
    """A driver that takes `seconds` and answers or fails as `fault()` says."""

    Options: ClassVar[type[Any]] = dict

    def __init__(
        self, clock: FakeClock, seconds: float = 0.01, fault: Callable[[], str] = lambda: ""
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._fault = fault
        self.starts: list[float] = []

    async def read(self) -> Sequence[Reading]:
        self.starts.append(self._clock.now)
        if code := self._fault():
            self._clock.pass_by(TIMEOUT if code == "timeout" else 0.0)
            raise LinkError("no answer", code=LinkCode(code))
        self._clock.pass_by(self._seconds)
        return [Reading("voltage.l1", 230.0, "V")]


class Sink:
    def __init__(self) -> None:
        self.polls: list[Poll] = []

    def take(self, poll: Poll) -> None:
        self.polls.append(poll)


async def run(clock: FakeClock, until: float, drivers: dict[str, tuple[Script, float]]) -> Sink:
    """Let the bus poll until the clock says so."""
    sink = Sink()
    devices = [
        PollTarget(name, d, interval, Normaliser(name)) for name, (d, interval) in drivers.items()
    ]
    bus = Bus("tcp://x", devices, [sink], clock)
    task = asyncio.create_task(bus.run())
    while clock.now < until:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    sink.skipped = bus.skipped  # type: ignore[attr-defined]
    return sink


async def test_polls_start_on_the_grid_and_do_not_drift() -> None:
    clock = FakeClock(now=1000.013)
    driver = Script(clock, seconds=0.3)
    await run(clock, 1010, {"a": (driver, 1.0)})
    assert [round(start, 6) for start in driver.starts[:4]] == [1000.05, 1001.05, 1002.05, 1003.05]


async def test_a_slow_poll_skips_slots_and_never_stacks() -> None:
    clock = FakeClock()
    driver = Script(clock, seconds=2.5)
    sink = await run(clock, 1020, {"a": (driver, 1.0)})
    assert [start - 1000 for start in driver.starts[:4]] == pytest.approx([0, 3, 6, 9])
    assert sink.skipped >= 2 * (len(driver.starts) - 1)  # type: ignore[attr-defined]


async def test_after_a_long_freeze_there_is_one_poll_and_the_grid_is_kept() -> None:
    clock = FakeClock()
    driver = Script(clock)
    task = asyncio.create_task(
        Bus("x", [PollTarget("a", driver, 10.0, Normaliser("a"))], [], clock).run()
    )
    while len(driver.starts) < 2:
        await asyncio.sleep(0)
    clock.pass_by(33)
    while len(driver.starts) < 5:
        await asyncio.sleep(0)
    task.cancel()
    assert all((start - 1000) % 10 == pytest.approx(0, abs=1e-6) for start in driver.starts[3:])


async def test_a_dead_unit_costs_its_neighbours_next_to_nothing() -> None:
    clock = FakeClock()
    dead = Script(clock, fault=lambda: "timeout")
    alive = Script(clock)
    await run(clock, 1000 + 3600, {"dead": (dead, 5.0), "alive": (alive, 5.0)})
    assert len(dead.starts) * TIMEOUT / 3600 < 0.01
    assert len(alive.starts) > 3600 / 5 - 5


async def test_a_device_is_never_left_alone_for_longer_than_the_longest_pause() -> None:
    clock = FakeClock()
    dead = Script(clock, fault=lambda: "timeout")
    await run(clock, 5000, {"dead": (dead, 1.0)})
    pauses = [b - a for a, b in zip(dead.starts, dead.starts[1:], strict=False)]
    assert max(pauses) <= BACKOFF_MAX_S + 2 * TIMEOUT
    assert pauses[:2] == pytest.approx([2.0, 2.0], abs=1.0)


async def test_a_link_that_is_gone_is_not_backed_off_twice() -> None:
    """The link itself says `refused` at no cost, so each slot may ask and nothing is missed."""
    clock = FakeClock()
    driver = Script(clock, fault=lambda: "refused" if clock.now < 1100 else "")
    sink = await run(clock, 1105, {"a": (driver, 1.0)})
    first = next(poll for poll in sink.polls if poll.up)
    assert first.time / 1000 - 1_800_000_000 == pytest.approx(100, abs=1.1)


async def test_one_line_when_it_goes_down_and_one_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    driver = Script(clock, fault=lambda: "timeout" if 1010 < clock.now < 1200 else "")
    with caplog.at_level(logging.INFO):
        await run(clock, 1400, {"a": (driver, 1.0)})
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["a is down: no answer [timeout]", "a is back"]


async def test_a_poll_always_speaks() -> None:
    clock = FakeClock()
    sink = await run(clock, 1003, {"a": (Script(clock, fault=lambda: "timeout"), 1.0)})
    assert sink.polls
    for poll in sink.polls:
        assert poll.value("device.up") == 0.0
        assert poll.fault is not None
        assert poll.fault.code == "timeout"
