"""What a SunSpec device refuses for a while is asked for again, on virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from meterd.drivers.sunspec import SunSpecMeter, SunSpecOptions
from meterd.model.clock import SystemClock
from meterd.model.event import Event, EventKind
from meterd.model.sample import Poll
from meterd.poll.bus import Bus
from meterd.poll.cycle import PollTarget
from meterd.poll.normalise import Normaliser
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Times
from tests.drivers.sunspec import device
from tests.drivers.sunspec.device import chain
from tests.virtual import virtual
from tests.virtual.modbus import No, Scripted

COMMON = device.common("Hybrid 5", "SN-1")


@dataclass
class Unit:
    """A polled device. What is not in `words`, or is in `bad`, is refused; so is what is long."""

    words: dict[int, int]
    bad: range = range(0)
    most: int = 125
    polls: list[Poll] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    meter: SunSpecMeter = field(init=False)
    server: Scripted = field(init=False)

    def take(self, poll: Poll) -> None:
        self.polls.append(poll)

    def read(self, unit: int, function: int, address: int, count: int) -> list[int]:
        wanted = range(address, address + count)
        if count > self.most or any(n in self.bad or n not in self.words for n in wanted):
            raise No(2)
        return [self.words[n] for n in wanted]

    def missing(self) -> set[str]:
        poll = self.polls[-1]
        return {
            sample.quantity
            for sample in poll.samples()
            if sample.value is None and "refuses" in sample.reason
        }


@contextlib.asynccontextmanager
async def polled(words: dict[int, int], **options: object) -> AsyncIterator[Unit]:
    unit = Unit(words)
    unit.server = Scripted(unit.read)
    await unit.server.start_tcp()
    link = open_link(parse(unit.server.url), defaults={}, times=Times(timeout=0.3))
    unit.meter = SunSpecMeter(link, SunSpecOptions.model_validate(options), interval=1.0)
    device_ = PollTarget("s", unit.meter, 1.0, Normaliser("s"), None, unit.events.append)
    bus = asyncio.create_task(Bus("s", [device_], [unit], SystemClock()).run())
    try:
        yield unit
    finally:
        bus.cancel()
        await asyncio.gather(bus, return_exceptions=True)
        await link.close()
        await unit.server.stop()


@virtual
async def test_registers_that_are_refused_for_a_while_come_back() -> None:
    async with polled(chain(40000, COMMON, device.meter())) as unit:
        await asyncio.sleep(3.5)
        assert unit.missing() == set()
        # From the frequency on, the model is refused.
        unit.bad = range(40069 + 30, 40069 + 107)
        await asyncio.sleep(30)
        gone = unit.missing()
        assert "active_energy.import" in gone
        assert unit.polls[-1].up
        since = len(unit.server.log)
        await asyncio.sleep(60)
        assert len(unit.server.log) - since < 60 * 10
        unit.bad = range(0)
        await asyncio.sleep(600)
        assert unit.missing() == set()
        await asyncio.sleep(600)
        # And it is read as at first: one request a poll.
        since = len(unit.server.log)
        await asyncio.sleep(10)
        assert len(unit.server.log) - since == 10
        assert unit.meter.left_out() == []
    kinds = [event.kind for event in unit.events]
    assert kinds[0] is EventKind.ROWS_LEFT_OUT
    assert EventKind.ROWS_BACK in kinds
    assert EventKind.DEVICE_DOWN not in kinds


@virtual
async def test_texts_that_were_refused_at_the_start_come_later() -> None:
    words = chain(40000, COMMON, device.meter())
    async with polled(words) as unit:
        unit.bad = range(40004, 40060)
        await asyncio.sleep(10)
        assert not any("info.model" in poll.info for poll in unit.polls)
        unit.bad = range(0)
        await asyncio.sleep(600)
        assert unit.polls[-1].info["info.model"] == "Hybrid 5"


@virtual
async def test_small_replies_in_a_bad_phase_do_not_stay() -> None:
    async with polled(chain(40000, COMMON, device.meter())) as unit:
        unit.most = 40
        await asyncio.sleep(10)
        assert unit.missing() == set()
        assert len(unit.meter.traffic()) > 3
        unit.most = 125
        await asyncio.sleep(600)
        assert len(unit.meter.traffic()) == 1


@virtual
async def test_a_device_that_refuses_everything_is_down_and_is_found_again() -> None:
    async with polled(chain(40000, COMMON, device.meter())) as unit:
        await asyncio.sleep(3.5)
        unit.server.refuses = 2
        await asyncio.sleep(6)
        assert not any(poll.up for poll in unit.polls[-5:])
        unit.server.refuses = 0
        await asyncio.sleep(2)
        assert unit.polls[-1].up
        assert unit.missing() == set()


@virtual
async def test_a_model_that_a_device_has_only_later_is_found() -> None:
    """A hybrid inverter whose meter is not there yet when it starts."""
    whole = chain(40000, COMMON, device.inverter(), device.meter(77))
    early = {at: word for at, word in whole.items() if at < 40069 + 52}
    async with polled(early) as unit:
        await asyncio.sleep(3)
        assert unit.polls[-1].value("x.inverter.state") is not None
        unit.words = whole
        await asyncio.sleep(20)
        # Without a wish the meter is what is read.
        assert unit.polls[-1].value("active_power") == 77
        since = len(unit.server.log)
        await asyncio.sleep(10)
        assert len(unit.server.log) - since == 10
