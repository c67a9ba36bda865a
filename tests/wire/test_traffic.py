"""Copies of answers, and other masters, on links whose frames carry no ids: in virtual time."""

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meterd.drivers.map_library import shipped
from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.model.clock import SystemClock
from meterd.model.event import Event, EventKind, Notice
from meterd.model.sample import Poll, Sample
from meterd.poll.bus import Bus
from meterd.poll.cycle import PollTarget
from meterd.poll.normalise import Normaliser
from meterd.sim.frames import Adu, with_crc
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times
from meterd.wire.modbus import ModbusClient, Refused
from meterd.wire.streamlink import StreamLink
from tests.virtual import virtual
from tests.virtual.modbus import Behave, Client, No, Registers, Scripted, telling

LATENCY = 0.06
WIRES = ("rtu", "ascii", "serial")


@contextlib.asynccontextmanager
async def bus(
    wire: str,
    folder: Path,
    *,
    registers: Registers | None = None,
    behave: Behave | None = None,
    shared: bool = False,
) -> AsyncIterator[tuple[Scripted, Link]]:
    framer = "ascii" if wire == "ascii" else "rtu"
    server = Scripted(registers or telling(), framer=framer, shared=shared)  # type: ignore[arg-type]
    if wire == "serial":
        server.start_serial(folder / "port")
    else:
        await server.start_tcp()
    if behave is not None:
        server.behave = behave
    link = open_link(parse(server.url), defaults={}, times=Times())
    try:
        yield server, link
    finally:
        await link.close()
        await server.stop()


def copies(*gaps: float, latency: float = LATENCY) -> Behave:
    return lambda _, reply: [(latency, reply), *((latency + gap, reply) for gap in gaps)]


def places(_: int, __: int, address: int, count: int) -> list[int]:
    return list(range(address, address + count))


async def blocks(client: ModbusClient, *starts: int, count: int = 10) -> list[str]:
    """Reads them one after the other: what was wrong."""
    wrong = []
    for start in starts:
        data = await client.read(3, start, count)
        words = [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
        if words != list(range(start, start + count)):
            wrong.append(f"{start}: {words}")
    return wrong


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "gaps", [(0.005,), (0.02,), (0.04,), (0.08,), (0.15,), (0.3,), (0.02, 0.03), (0.01, 0.2)]
)
@virtual
async def test_no_copy_of_an_answer_is_taken_for_the_next(
    wire: str, gaps: tuple[float, ...], tmp_path: Path
) -> None:
    async with bus(wire, tmp_path, registers=places, behave=copies(*gaps)) as (server, link):
        client = ModbusClient(link, 1)
        for _ in range(10):
            assert await blocks(client, 0, 100, 200, 300) == []
            await asyncio.sleep(0.3)
        assert link.counters["copies"] > 10
        # Copies cost pauses, not requests.
        assert len(server.log) <= 44


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("gap", [0.005, 0.02, 0.04, 0.3])
@virtual
async def test_the_copy_of_a_refusal_refuses_nothing_else(
    wire: str, gap: float, tmp_path: Path
) -> None:
    def read(_: int, __: int, address: int, count: int) -> list[int]:
        if address == 100:
            raise No(2)
        return list(range(address, address + count))

    async with bus(wire, tmp_path, registers=read, behave=copies(gap)) as (_, link):
        client = ModbusClient(link, 1)
        for _ in range(5):
            assert await blocks(client, 0) == []
            with pytest.raises(Refused):
                await client.read(3, 100, 10)
            assert await blocks(client, 200, 300) == []
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("wire", WIRES)
@virtual
async def test_equal_blocks_are_read_and_cost_one_more_request_each(
    wire: str, tmp_path: Path
) -> None:
    async with bus(wire, tmp_path, registers=lambda *_: [0] * 10, behave=copies()) as (
        server,
        link,
    ):
        client = ModbusClient(link, 1)
        for _ in range(20):
            for address in (0, 100, 200):
                assert await client.read(3, address, 10) == bytes(20)
            await asyncio.sleep(1)
        # The first of them is like no frame of the last second.
        assert len(server.log) == 20 * 5
        assert link.counters["copies"] == 0


@pytest.mark.parametrize("gap", [0.005, 0.04, 0.3])
@virtual
async def test_equal_blocks_that_come_twice_are_read_and_a_change_is_seen_at_once(
    gap: float, tmp_path: Path
) -> None:
    held = {0: 0, 100: 0, 200: 0}

    def read(_: int, __: int, address: int, count: int) -> list[int]:
        return [held[address]] * count

    async with bus("rtu", tmp_path, registers=read, behave=copies(gap)) as (_, link):
        client = ModbusClient(link, 1)
        for number in range(60):
            held[(0, 100, 200)[number % 3]] = number // 7
            for address, value in held.items():
                data = await client.read(3, address, 10)
                assert data == value.to_bytes(2, "big") * 10
            await asyncio.sleep(0.2)


@virtual
async def test_two_clients_of_one_unit_know_of_each_others_answers(tmp_path: Path) -> None:
    async with bus("rtu", tmp_path, registers=places, behave=copies(0.02)) as (_, link):
        first, second = ModbusClient(link, 1), ModbusClient(link, 1)
        for _ in range(10):
            assert await blocks(first, 0, 100) == []
            assert await blocks(second, 200, 300) == []


@virtual
async def test_a_link_learns_its_pause_from_copies_tells_of_them_and_forgets(
    tmp_path: Path,
) -> None:
    async with bus("rtu", tmp_path, registers=places, behave=copies(0.02)) as (server, link):
        assert isinstance(link, StreamLink)
        client = ModbusClient(link, 1)
        notices: list[Notice] = []
        for _ in range(5):
            await blocks(client, 0, 100, 200)
            notices += client.notices()
            await asyncio.sleep(1)
        assert link.settle == pytest.approx(0.03, abs=0.003)
        assert [notice.kind for notice in notices] == [EventKind.ANSWERS_DOUBLED]
        assert notices[0].data == {"link": link.url, "seconds": 0.02}
        server.behave = copies()
        for _ in range(14):
            await asyncio.sleep(50)
            await blocks(client, 0, 100, 200)
            notices += client.notices()
        assert [notice.kind for notice in notices[1:]] == [EventKind.ANSWERS_SINGLE]
        assert link.settle == 0


@virtual
async def test_answers_that_differ_cost_no_request_more(tmp_path: Path) -> None:
    async with bus("rtu", tmp_path, registers=places, behave=copies()) as (server, link):
        client = ModbusClient(link, 1)
        for _ in range(10):
            await blocks(client, 0, 100, 200)
            await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await blocks(client, 0, 100, 200)
        assert asyncio.get_running_loop().time() - began == pytest.approx(3 * LATENCY, abs=0.005)
        assert len(server.log) == 33


@pytest.mark.parametrize("gap", [0.005, 0.02, 0.04])
@pytest.mark.parametrize("name", [name for name in shipped() if name != "sunspec"])
@virtual
async def test_no_shipped_map_gets_a_wrong_value_from_copies(
    name: str, gap: float, tmp_path: Path
) -> None:
    """Every register tells function and address, so that no two blocks are alike."""

    def read(_: int, function: int, address: int, count: int) -> list[int]:
        if function <= 2:
            return [(address + n) * 7 % 3 % 2 for n in range(count)]
        return [(function * 7919 + n * 31) & 0x7FFF for n in range(address, address + count)]

    said = []
    for behave in (copies(), copies(gap)):
        async with bus("rtu", tmp_path, registers=read, behave=behave) as (_, link):
            meter = ModbusMeter(link, ModbusOptions(map=name))
            said.append({one.quantity: one.value for one in await meter.read()})
    assert said[0] == said[1]


# -- somebody else ------------------------------------------------------------------------------


class Gateway(Scripted):
    """A transparent gateway: every client hears every answer, and with `echo` every request."""

    echo = False

    def received(self, client: Client, adu: Adu) -> None:
        if self.echo:
            for other in self.clients.values():
                if other is not client:
                    other.write(with_crc(bytes([adu.unit]) + adu.pdu))
        super().received(client, adu)


async def ask_for_ever(url: str, period: float, counts: tuple[int, ...]) -> None:
    """Another program: random blocks of unit 1."""
    address = parse(url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    reading = asyncio.ensure_future(reader.read(-1))
    try:
        while True:
            pdu = struct.pack(">BHH", 3, random.choice((1000, 2000)), random.choice(counts))
            writer.write(with_crc(b"\x01" + pdu))
            await asyncio.sleep(random.uniform(0.5, 1.5) * period)
    finally:
        reading.cancel()
        writer.close()


MAP = "limits: {bridge: 0}\nrows:\n" + "".join(
    f"  x.r{n}: {{function: 3, address: {n}, type: u16}}\n"
    for start in (0, 100, 200)
    for n in range(start, start + 10)
)


@dataclass
class Shared:
    """A meter on a bus that is not its own: what its polls gave."""

    polls: list[Poll] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def take(self, poll: Poll) -> None:
        self.polls.append(poll)

    @property
    def wrong(self) -> list[Sample]:
        return [
            sample
            for poll in self.polls
            for sample in poll.samples()
            if sample.quantity.startswith("x.") and sample.value != int(sample.quantity[3:])
        ]

    def foreign(self) -> float | None:
        return self.polls[-1].value("device.foreign_traffic")


@contextlib.asynccontextmanager
async def sharing(folder: Path, *, echo: bool = False) -> AsyncIterator[tuple[Shared, Gateway]]:
    """Polled each second."""
    file = folder / "own.yaml"
    file.write_text(MAP)
    server = Gateway(places, framer="rtu", shared=True, behave=copies())
    server.echo = echo
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={}, times=Times())
    meter = ModbusMeter(link, ModbusOptions(map=str(file)), interval=1.0)
    shared = Shared()
    device = PollTarget("d", meter, 1.0, Normaliser("d"), noticed=shared.events.append)
    polling = asyncio.create_task(Bus("bus", [device], [shared], SystemClock()).run())
    try:
        yield shared, server
    finally:
        polling.cancel()
        await asyncio.wait([polling])
        await link.close()
        await server.stop()


@pytest.mark.parametrize(
    ("period", "counts", "echo"),
    [
        (0.7, (10,), False),
        (0.5, (10,), False),
        (1.0, (10,), False),
        (2.0, (10,), False),
        (0.5, (9, 10, 11), True),
        (0.7, (10,), True),
    ],
)
@virtual
async def test_beside_another_master_nothing_is_wrong_and_it_is_told(
    period: float, counts: tuple[int, ...], echo: bool, tmp_path: Path
) -> None:
    async with sharing(tmp_path, echo=echo) as (shared, server):
        other = asyncio.create_task(ask_for_ever(server.url, period, counts))
        await asyncio.sleep(60)
        assert shared.wrong == []
        assert sum(poll.up for poll in shared.polls) > len(shared.polls) / 2 > 10
        (event,) = (one for one in shared.events if one.kind is EventKind.FOREIGN_TRAFFIC)
        assert "somebody else asks" in event.text
        assert event.data["unit"] == 1
        assert event.data["function"] == 3
        assert event.data["count"] in counts
        assert shared.foreign() == 1
        other.cancel()
        await asyncio.sleep(320)
        assert shared.events[-1].kind is EventKind.FOREIGN_TRAFFIC_GONE
        assert shared.foreign() == 0
        assert shared.wrong == []


@virtual
async def test_a_bus_that_is_never_free_gives_a_reason_and_no_wrong_value(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (shared, server):
        other = asyncio.create_task(ask_for_ever(server.url, 0.1, (10,)))
        await asyncio.sleep(60)
        other.cancel()
        faults = [poll.fault for poll in shared.polls if poll.fault is not None]
        assert len(faults) > len(shared.polls) / 2
        assert any(fault.code == "foreign_traffic" for fault in faults)
        assert any("somebody else asks on this bus" in fault.text for fault in faults)
        assert shared.wrong == []


@virtual
async def test_a_master_of_other_units_is_told_and_costs_nothing(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (shared, server):
        await asyncio.sleep(10)
        for _ in range(40):
            server.say(with_crc(b"\x09\x03\x04\x00\x01\x00\x02"))
            await asyncio.sleep(0.7)
        assert [event.kind for event in shared.events] == [EventKind.FOREIGN_TRAFFIC]
        assert "unit 9, function 3, count 2" in shared.events[0].text
        assert all(poll.up and poll.took < 0.3 for poll in shared.polls[10:])


@virtual
async def test_alone_there_is_no_word_of_others(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (shared, _):
        await asyncio.sleep(60)
        assert shared.foreign() is None
        assert shared.events == []
        assert all(poll.up for poll in shared.polls)
