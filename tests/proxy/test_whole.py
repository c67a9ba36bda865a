"""The whole way: meter, link, proxy, other programs; all at once and with things going wrong."""

import asyncio
import contextlib
import re
import struct

import pytest

from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.errors import DeviceError, LinkError
from meterd.model.clock import SystemClock
from meterd.poll.cycle import PollTarget, poll_once
from meterd.poll.normalise import Normaliser
from meterd.sim.faults import parse_faults
from meterd.sim.register_bank import FixedBank, RefusalRule, RefusedRequest
from meterd.sim.serve import meter_bank
from tests.cli.command import run
from tests.proxy.rig import Rig, rig
from tests.sim.clock import StoppedClock
from tests.virtual import now, virtual

MODEL = "eastron_sdm630"


def frozen() -> FixedBank:
    """An SDM630 at one moment; holes read 0."""
    image = meter_bank(MODEL, clock=StoppedClock()).image()
    return FixedBank({4: dict.fromkeys(range(400), 0) | dict(image.words[4])}, 80)


async def mbpoll(port: int, address: int, count: int) -> list[int]:
    """The words that it prints."""
    asked = ("-0", "-1", "-t", "3:hex", "-r", str(address), "-c", str(count))
    done = await run("mbpoll", *asked, "-m", "tcp", "-a", "1", "-p", str(port), "127.0.0.1")
    assert done.code == 0, done.out + done.err
    return [int(word, 16) for word in re.findall(r"^\[\d+\]:\s+0x(\w{4})", done.out, re.MULTILINE)]


def daemons_own(site: Rig) -> PollTarget:
    """The driver as the daemon polls it, on the client that the proxy watches."""
    meter = ModbusMeter(site.link, ModbusOptions(map=MODEL, unit=1))
    meter.client = site.client
    return PollTarget("main", meter, 1.0, Normaliser("main"))


@pytest.mark.needs("mbpoll")
async def test_mbpoll_reads_through_the_proxy_what_the_meter_serves() -> None:
    bank = frozen()
    async with rig(bank) as site:
        async with site.turn:
            poll = await poll_once(daemons_own(site), [], SystemClock())
        assert poll.up
        polled = site.server.requests
        for address, count in ((0, 40), (46, 30), (200, 8), (346, 30)):
            through = await mbpoll(site.proxy.port, address, count)
            assert through == await mbpoll(site.server.port, address, count)
            assert len(set(through)) > 5
        # All four came out of the poll; the meter itself was asked by the direct ones alone.
        assert site.proxy.counters["remembered"] == 4
        assert site.server.requests == polled + 4
        assert await mbpoll(site.proxy.port, 0, 80) == bank.read(4, 0, 80)


@virtual
async def test_a_meter_that_takes_one_client_has_one_and_serves_three() -> None:
    """Two programs and the daemon at once, some of it from memory, some through the link."""
    bank = frozen()
    async with rig(bank, max_age=0.02) as site:
        device = daemons_own(site)
        ended = asyncio.Event()

        async def daemon() -> int:
            good = 0
            while not ended.is_set():
                async with site.turn:
                    poll = await poll_once(device, [], SystemClock())
                assert poll.up, poll.fault
                assert poll.value("voltage.l1") == pytest.approx(
                    struct.unpack(">f", struct.pack(">2H", *bank.read(4, 0, 2)))[0], rel=1e-6
                )
                good += 1
                await asyncio.sleep(0.01)
            return good

        async def program(first: int) -> None:
            caller = await site.caller()
            for number in range(60):
                address, count = (first + 7 * number) % 300, 2 + number % 5
                expected = struct.pack(f">{count}H", *bank.read(4, address, count))
                assert await caller.read(address, count) == expected

        polling = asyncio.create_task(daemon())
        await asyncio.gather(program(0), program(100))
        ended.set()
        assert await polling > 1
        assert site.link.counters["opened"] == 1
        assert len(site.server.lines) == 1
        assert site.proxy.counters["remembered"] > 0
        assert site.proxy.counters["asked"] > 0


class ClockBank:
    """Registers that say when they were read: milliseconds of the loop's clock, 32 bits."""

    def read(self, function: int, address: int, count: int) -> list[int]:
        if address + count > 100:
            raise RefusalRule(RefusedRequest.ADDRESS)
        stamp = round(now() * 1000)
        return ([stamp >> 16, stamp & 0xFFFF] * count)[address % 2 :][:count]


@virtual
async def test_nothing_older_than_max_age_is_ever_served() -> None:
    """On a line that loses answers and delays them, with polls now and then."""
    max_age = 0.05
    async with rig(ClockBank(), max_age=max_age) as site:
        site.server.faults = parse_faults("timeout:0.02,late:0.02@120ms,exception:4:0.05")
        ended = asyncio.Event()
        ages: list[float] = []

        async def daemon() -> None:
            while not ended.is_set():
                with contextlib.suppress(LinkError, DeviceError):
                    await site.poll(4, 0, 60)
                await asyncio.sleep(0.03)

        async def program(first: int) -> None:
            caller = await site.caller()
            for number in range(150):
                pdu = await caller.ask(struct.pack(">BHH", 4, first + 2 * (number % 30), 2))
                if pdu[0] == 4:
                    stamp = int.from_bytes(pdu[2:], "big")
                    ages.append((round(now() * 1000) - stamp) / 1000)
                await asyncio.sleep(0.004)

        polling = asyncio.create_task(daemon())
        await asyncio.gather(program(0), program(20))
        ended.set()
        await polling
    assert len(ages) > 150
    # What it takes to come here, and the stamp's rounding.
    assert max(ages) < max_age + 0.005
    assert sum(age > 0.02 for age in ages) > 10


@virtual
async def test_a_device_that_goes_and_comes_back() -> None:
    async with rig(frozen(), max_age=0.05) as site:
        caller = await site.caller()
        assert len(await caller.read(0, 4)) == 8
        site.server.unplug(0.3)
        site.alive = False
        await asyncio.sleep(0.06)
        assert await caller.refused(0, 4) == 11
        await asyncio.sleep(0.3)
        with contextlib.suppress(LinkError):
            await site.poll()
        await asyncio.sleep(1.1)
        await site.poll()
        site.alive = True
        assert len(await caller.read(100, 4)) == 8
