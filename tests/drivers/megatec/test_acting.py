"""Orders to a simulated UPS on a pty, whose time is the test's: it does them, and shows it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from meterd.drivers.megatec import MegatecUps
from meterd.errors import DeviceError, LinkError, Unsupported
from meterd.sim.faults import SimulatedFault
from meterd.sim.megatec import UpsServer
from meterd.sim.serve import serve_ups
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Times
from tests.drivers.megatec.units import letters, named, options
from tests.sim.clock import StoppedClock

pytestmark = pytest.mark.virtual

TIMEOUT = 0.25


@dataclass(frozen=True, slots=True)
class Rack:
    """A UPS, its driver, and the clock it lives by."""

    server: UpsServer
    ups: MegatecUps
    clock: StoppedClock

    async def after(self, seconds: float) -> str:
        """Its letters so much later."""
        self.clock.now += seconds
        return letters(named(await self.ups.read()))

    async def output(self) -> object:
        return named(await self.ups.read())["output.voltage"].value


@asynccontextmanager
async def rack(**keys: object) -> AsyncIterator[Rack]:
    clock = StoppedClock()
    async with serve_ups(clock=clock) as server:
        server.latency = 0.005
        link = open_link(parse(server.url), defaults={}, times=Times(timeout=TIMEOUT))
        yield Rack(server, MegatecUps(link, options(**keys)), clock)
        await link.close()


async def test_a_quick_test_takes_ten_seconds() -> None:
    async with rack() as found:
        assert await found.after(1) == "ol"
        await found.ups.act("test.battery.start.quick")
        assert await found.after(1) == "ol cal test"
        assert await found.after(10) == "ol"


async def test_tests_last_as_long_as_configured_or_until_they_are_stopped() -> None:
    async with rack(testtime="3m") as found:
        await found.ups.act("test.battery.start")
        assert await found.after(179) == "ol cal test"
        assert await found.after(2) == "ol"
        await found.ups.act("test.battery.start.deep")
        assert await found.after(200) == "ol cal test"
        await found.ups.act("test.battery.stop")
        assert await found.after(1) == "ol"


async def test_the_beeper_toggles() -> None:
    async with rack() as found:
        seen = []
        for _ in range(3):
            seen.append(named(await found.ups.read())["ups.beeper"].value)
            await found.ups.act("beeper.toggle")
        assert seen == [1.0, 0.0, 1.0]


async def test_shutdown_return_cuts_the_output_and_returns() -> None:
    async with rack(offdelay="1m", ondelay="2m") as found:
        await found.ups.act("shutdown.return")
        assert await found.after(58) == "ol fsd"
        assert await found.output() != 0
        assert await found.after(4) == "ol off"
        assert await found.output() == 0
        assert await found.after(110) == "ol off"
        assert await found.after(12) == "ol"


async def test_shutdown_stop_keeps_the_output_on() -> None:
    async with rack() as found:
        await found.ups.act("shutdown.return")
        assert await found.after(20) == "ol fsd"
        await found.ups.act("shutdown.stop")
        assert await found.after(3600) == "ol"


async def test_shutdown_stayoff_and_load_off_last_until_load_on() -> None:
    async with rack() as found:
        for name, delay in (("shutdown.stayoff", 31), ("load.off", 1)):
            await found.ups.act(name)
            assert await found.after(delay) == "ol off"
            assert await found.after(7200) == "ol off"
            await found.ups.act("load.on")
            assert await found.after(12) == "ol"


async def test_on_battery_a_shutdown_ends_in_silence_until_the_mains_are_back() -> None:
    async with rack() as found:
        found.server.ups.outage(600)
        assert await found.after(1) == "ob"
        await found.ups.act("shutdown.return")
        assert await found.after(20) == "ob fsd"
        with pytest.raises(LinkError) as caught:
            await found.after(20)
        assert caught.value.code == "timeout"
        with pytest.raises(LinkError):
            await found.ups.act("load.on")
        assert await found.after(700) == "ol"


async def test_no_test_is_started_during_an_outage() -> None:
    async with rack() as found:
        found.server.ups.outage(60)
        found.clock.now += 1
        with pytest.raises(DeviceError) as caught:
            await found.ups.act("test.battery.start.quick")
        assert caught.value.code == "on_battery"
        assert await found.after(61) == "ol"


@pytest.mark.parametrize("kind", ["echo", "nak"])
async def test_a_unit_that_says_no_and_shuts_down_is_believed_by_its_bit(kind: str) -> None:
    async with rack() as found:
        await found.after(0)
        # The second of three: status, order, status.
        found.server.faults = (SimulatedFault(kind, every=2),)
        await found.ups.act("shutdown.return")
        assert found.server.injected == {kind: 1}
        found.server.faults = ()
        assert await found.after(1) == "ol fsd"


async def test_a_beeper_that_does_not_change_at_all_was_refused() -> None:
    async with rack() as found:
        found.server.ups.toggle_beeper = lambda: None  # type: ignore[method-assign]
        await found.after(0)
        found.server.faults = (SimulatedFault("echo", every=2),)
        with pytest.raises(Unsupported, match="echoed"):
            await found.ups.act("beeper.toggle")
