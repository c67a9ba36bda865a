"""Every misbehaviour of a Modbus server, against the client: no wrong register gets through."""

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from meterd.errors import DeviceError, LinkError, ProtocolError
from meterd.sim.faults import SimulatedFault, parse_faults
from meterd.sim.modbus import ModbusServer
from meterd.sim.transports import Framer
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times
from meterd.wire.modbus import ModbusClient, ModbusException, Refused
from tests.virtual import wire_of
from tests.virtual.modbus import Scripted, mute
from tests.wire.stamped import StampedBank, check

pytestmark = pytest.mark.virtual

TIMEOUT = 0.03
WIRES = ("socket", "rtu", "pty")
UNIT = 7


@dataclass
class Bench:
    server: ModbusServer
    link: Link
    client: ModbusClient
    bank: StampedBank

    async def read(self, address: int = 10, count: int = 20) -> None:
        """A read that fails or gives the registers asked for."""
        before = self.bank.last
        data = await self.client.read(3, address, count)
        check(data, after=before, address=address, count=count, unit=UNIT)

    async def good_read_within(self, tries: int) -> int:
        """How many reads it takes until one succeeds."""
        for number in range(1, tries + 1):
            with contextlib.suppress(LinkError, DeviceError):
                await self.read()
                return number
        raise AssertionError(f"no good read in {tries}: {dict(self.link.counters)}")


@contextlib.asynccontextmanager
async def bench(
    wire: str, faults: str = "", *, timeout: float = TIMEOUT, **options: bool
) -> AsyncIterator[Bench]:
    framer: Framer = "socket" if wire == "socket" else "rtu"
    numbers = itertools.count(1)
    banks = {unit: StampedBank(unit, numbers) for unit in (UNIT, 8, 9)}
    server = ModbusServer(
        banks,
        framer=framer,
        faults=parse_faults(faults),
        **options,  # type: ignore[arg-type]
    )
    if wire == "pty":
        # A name of its own, as under /dev/serial/by-id: the next pty may get another number.
        server.start_pty(Path(tempfile.mkdtemp()) / "port")
    else:
        await server.start_tcp()
    link = open_link(parse(server.url), defaults={"baud": "115200"}, times=Times(timeout=timeout))
    try:
        yield Bench(server, link, ModbusClient(link, UNIT), banks[UNIT])
    finally:
        await link.close()
        await server.stop()


@pytest.mark.parametrize("wire", WIRES)
async def test_registers_come_as_asked(wire: str) -> None:
    async with bench(wire) as b:
        for address, count in ((0, 4), (10, 20), (5, 125)):
            await b.read(address, count)
        assert b.link.counters["exchanges"] == 3
        assert b.link.counters["opened"] == 1


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "fault",
    [
        "timeout",
        "late@45ms",
        "wrong_unit",
        "wrong_function",
        "wrong_count",
        "lying_count",
        "truncate",
        "garbage",
        "exception:4",
        "exception:66",
        "exception:11",
        "close",
        "reset",
        "dribble@15ms",
    ],
)
async def test_a_fault_is_an_error_and_the_next_read_is_right(wire: str, fault: str) -> None:
    async with bench(wire) as b:
        await b.read()
        b.server.faults = parse_faults(fault)
        for _ in range(3):
            with pytest.raises((LinkError, DeviceError)):
                await b.read()
        b.server.faults = ()
        # A port that was pulled needs a moment; everything else is well at once or once later.
        if wire == "pty" and fault in ("close", "reset"):
            await asyncio.sleep(1.2)
        assert await b.good_read_within(6) <= 6
        await b.read(50, 30)


@pytest.mark.parametrize("fault", ["wrong_tid", "zero_tid"])
async def test_a_foreign_transaction_id_is_dropped_and_counted(fault: str) -> None:
    async with bench("socket", fault) as b:
        with pytest.raises(ProtocolError) as caught:
            await b.read()
        assert caught.value.code == "bad_reply"
        assert b.link.counters["foreign_tid"] == 1


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("wrong_unit", "wrong_unit"),
        ("wrong_function", "wrong_function"),
        ("wrong_count", "wrong_count"),
        ("lying_count", "wrong_count"),
    ],
)
async def test_a_reply_that_does_not_match_is_counted_by_its_cause(fault: str, cause: str) -> None:
    async with bench("socket", fault) as b:
        with pytest.raises(ProtocolError, match=cause):
            await b.read()
        assert b.link.counters[cause] == 1
        assert b.link.counters["opened"] == 1


@pytest.mark.parametrize("wire", WIRES)
async def test_the_right_reply_behind_a_foreign_one_is_taken(wire: str) -> None:
    async with bench(wire, "extra") as b:
        good = 0
        for address in range(20):
            # On RTU a second frame in one segment makes both doubtful: an error, never a value.
            with contextlib.suppress(ProtocolError):
                await b.read(address, 20)
                good += 1
        assert good == 20 if wire == "socket" else good > 0
        dropped = ("foreign_tid", "wrong_unit", "wrong_count", "late_own")
        assert sum(b.link.counters[cause] for cause in dropped) >= good


async def test_a_late_reply_is_counted_as_our_own() -> None:
    async with bench("socket", "late:1/2@45ms") as b:
        for _ in range(5):
            await b.read()
            with pytest.raises(LinkError, match="no answer"):
                await b.read()
            await asyncio.sleep(0.05)
        await b.read()
        assert b.link.counters["late_own"] == 5
        assert b.link.counters["opened"] == 1


@pytest.mark.parametrize("wire", WIRES)
async def test_a_busy_device_is_asked_again_within_the_read(wire: str) -> None:
    async with bench(wire, "busy:2") as b:
        await b.read()
        assert b.link.counters["busy"] == 2


@pytest.mark.parametrize("wire", WIRES)
async def test_a_device_that_stays_busy_is_asked_four_times_and_named(wire: str) -> None:
    async with bench(wire, "exception:6") as b:
        with pytest.raises(ModbusException, match="server device busy") as caught:
            await b.read()
        assert caught.value.exception == 6
        assert b.link.counters["busy"] == 3


# A frame: unit and CRC around RTU, 7 bytes of head before MBAP, two digits a byte in ASCII.
@pytest.mark.parametrize(
    ("framer", "function", "count", "wide", "sizes"),
    [
        ("socket", 3, 10, False, (12, 29)),
        ("rtu", 3, 10, False, (8, 25)),
        ("ascii", 4, 10, False, (17, 51)),
        ("rtu", 1, 9, False, (8, 7)),
        ("rtu", 2, 9, False, (8, 7)),
        # Halves of registers of 32 bits: three are in two of those.
        ("rtu", 3, 3, True, (8, 13)),
        ("rtu", 2, 9, True, (8, 7)),
    ],
)
async def test_how_long_a_request_and_its_answer_are(
    framer: str, function: int, count: int, wide: bool, sizes: tuple[int, int]
) -> None:
    link = open_link(
        parse(f"tcp://192.0.2.1:502?framer={framer}"), defaults={}, times=Times(timeout=1)
    )
    assert ModbusClient(link, UNIT, wide=wide).sizes(function, count) == sizes


@pytest.mark.parametrize("function", [3, 1])
async def test_bytes_that_take_longer_than_the_timeout_are_waited_for(
    function: int, tmp_path: Path
) -> None:
    """The timeout is the meter's: at 1200 baud, 8E1, 125 registers take 2.4 s."""
    server = Scripted(lambda *asked: [1] * asked[3], framer="rtu")
    port = tmp_path / "port"
    server.start_serial(port)
    wire_of(port).baud = 1200
    link = open_link(
        parse(f"serial://{port}?baud=1200&parity=E"), defaults={}, times=Times(timeout=0.1)
    )
    count = 125 if function == 3 else 2000
    data = await ModbusClient(link, UNIT).read(function, 0, count)
    assert data == (bytes([0, 1]) * 125 if function == 3 else bytes([0xFF]) * 250)
    # And no longer: a meter that is silent is given up.
    server.behave = mute
    began = asyncio.get_running_loop().time()
    with pytest.raises(LinkError, match="no answer"):
        await ModbusClient(link, UNIT).read(function, 0, count // 2)
    assert asyncio.get_running_loop().time() - began < 1.5
    await link.close()
    await server.stop()


@pytest.mark.parametrize("code", [1, 2, 3])
async def test_refusals_are_for_good(code: int) -> None:
    async with bench("socket", f"exception:{code}") as b:
        with pytest.raises(Refused) as caught:
            await b.read()
        assert caught.value.exception == code


async def test_a_vendors_exception_shows_its_number() -> None:
    async with bench("socket", "exception:66") as b:
        with pytest.raises(ModbusException, match="exception 66") as caught:
            await b.read()
        assert caught.value.code == "exception_66"


@pytest.mark.parametrize("wire", ["socket", "rtu"])
async def test_a_connection_that_was_closed_while_idle_costs_nothing(wire: str) -> None:
    async with bench(wire) as b:
        await b.read()
        for line in tuple(b.server.lines):
            line.hang_up()
        await asyncio.sleep(0.01)
        await b.read()
        assert b.link.counters["opened"] == 2


@pytest.mark.parametrize("wire", ["socket", "rtu"])
async def test_a_reset_in_mid_reply_is_survived_within_the_read(wire: str) -> None:
    async with bench(wire, timeout=0.2) as b:
        await b.read()
        b.server.faults = (SimulatedFault("reset", every=2),)
        await b.read()
        await b.read()
        assert b.link.counters["reopened"] == 1


@pytest.mark.parametrize("cut", range(1, 30))
async def test_a_frame_cut_at_any_byte_harms_nothing_after_it(cut: int) -> None:
    for wire in ("socket", "rtu"):
        async with bench(wire) as b:
            b.server.faults = (SimulatedFault("truncate", every=1, number=cut),)
            with pytest.raises(LinkError):
                await b.read(0, 12)
            b.server.faults = ()
            assert await b.good_read_within(3) <= 3


async def test_a_length_of_60000_closes_at_once() -> None:
    ended = asyncio.Event()

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read(12)
        writer.write(request[:2] + b"\x00\x00\xea\x60\x07\x03")
        await writer.drain()
        with contextlib.suppress(ConnectionError):
            await reader.read(1)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(lie, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = open_link(parse(f"tcp://127.0.0.1:{port}"), defaults={}, times=Times(timeout=5))
    started = asyncio.get_running_loop().time()
    with pytest.raises(ProtocolError) as caught:
        await ModbusClient(link, UNIT).read(3, 0, 4)
    assert caught.value.code == "bad_frame"
    assert asyncio.get_running_loop().time() - started < 1
    await link.close()
    await asyncio.wait_for(ended.wait(), 60)
    server.close()


async def test_a_reply_that_dribbles_for_ever_ends_at_the_deadline() -> None:
    async with bench("socket", "dribble@20ms") as b:
        started = asyncio.get_running_loop().time()
        with pytest.raises(LinkError):
            await b.read()
        # The whole reply would take a second.
        assert asyncio.get_running_loop().time() - started < 0.7


async def test_the_fence_stops_a_reply_that_a_gateway_kept_over_a_reconnect() -> None:
    """Three timeouts late, on whatever connection is there: only the fence can tell."""
    async with bench("rtu", shared_wire=True) as b:
        await b.read()
        b.server.faults = parse_faults("late:1/2@100ms")
        for _ in range(30):
            with contextlib.suppress(LinkError):
                await b.read()
        assert b.link.counters["fences"] > 0


@pytest.mark.parametrize(("wire", "polls"), [("socket", 4_000), ("rtu", 4_000)])
async def test_no_wrong_registers_on_a_bad_line(wire: str, polls: int) -> None:
    faults = "late:0.004@40ms,extra:0.02,timeout:0.001,wrong_unit:0.002,duplicate:0.005"
    async with bench(wire, faults) as b:
        clients = {unit: ModbusClient(b.link, unit) for unit in b.server.banks}
        good = 0
        for number in range(polls):
            unit = (UNIT, 8, 9)[number % 3]
            bank = b.server.banks[unit]
            assert isinstance(bank, StampedBank)
            address, count = number % 40, 10 + number % 3
            before = bank.last
            with contextlib.suppress(LinkError, DeviceError):
                data = await clients[unit].read(3, address, count)
                # Stamps are 16 bits wide; fences and foreign replies use some up, too.
                check_stamp(data, before, address, count, unit)
                good += 1
        assert good > polls * 0.9
        assert b.server.injected["late"] > 5
        assert b.server.injected["extra"] > 40


def check_stamp(data: bytes, before: int, address: int, count: int, unit: int) -> None:
    stamp = int.from_bytes(data[:2], "big")
    assert (stamp - before) & 0xFFFF in range(1, 1000)
    rest = stamp.to_bytes(2, "big") + data[2:]
    check(rest, after=stamp - 1, address=address, count=count, unit=unit)


@pytest.mark.parametrize("wire", ["rtu", "pty"])
async def test_frames_that_are_spoilt_are_not_said_to_be_late(wire: str) -> None:
    async with bench(wire) as b:
        await b.read()
        b.server.faults = (SimulatedFault("garbage"),)
        for _ in range(4):
            with pytest.raises(LinkError) as caught:
                await b.read()
            assert "raise it" not in str(caught.value)
        assert b.link.counters["late_own"] == 0
