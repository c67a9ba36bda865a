"""The UPS' serial line, with a client of bare bytes on it."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from meterd.errors import ConfigError
from meterd.sim.faults import SimulatedFault
from meterd.sim.megatec import IDENTITY, RATINGS, UpsServer, answer
from meterd.sim.serve import serve_ups
from meterd.sim.ups import Ups, UpsState
from tests.sim.clock import StoppedClock
from tests.virtual import now
from tests.virtual.ports import SerialEnd, open_serial

pytestmark = pytest.mark.virtual

Q1 = re.compile(rb"\(\d{3}\.\d \d{3}\.\d \d{3}\.\d \d{3} \d\d\.\d \d\d\.\d \d\d\.\d [01]{8}\r")


class Terminal(asyncio.Protocol):
    """The client's end of the line."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._transport: SerialEnd | None = None

    def open(self, path: str) -> None:
        self._transport = open_serial(path, self)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._heard.put_nowait(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard.put_nowait(b"")

    async def ask(self, command: str, patience: float = 0.12) -> bytes:
        """What comes until nothing has come for a while. Raises ConnectionError at a hang-up."""
        assert self._transport is not None
        self._transport.write(command.encode() + b"\r")
        heard = b""
        while True:
            try:
                data = await asyncio.wait_for(self._heard.get(), patience)
            except TimeoutError:
                return heard
            if not data:
                raise ConnectionError("hung up")
            heard += data


@contextmanager
def terminal(path: str) -> Iterator[Terminal]:
    opened = Terminal()
    opened.open(path)
    try:
        yield opened
    finally:
        opened.close()


@asynccontextmanager
async def line(*faults: SimulatedFault) -> AsyncIterator[tuple[UpsServer, Terminal]]:
    async with serve_ups(faults=faults, clock=StoppedClock()) as server:
        with terminal(server.path) as client:
            yield server, client


async def test_the_three_questions_are_answered() -> None:
    async with line() as (server, client):
        status = await client.ask("Q1")
        assert Q1.fullmatch(status)
        assert len(status) == 47
        assert status.endswith(b" 00001001\r")
        assert await client.ask("F") == RATINGS.encode() + b"\r"
        assert await client.ask("I") == IDENTITY.encode() + b"\r"
        assert server.requests == 3
    assert (len(RATINGS), len(IDENTITY)) == (21, 38)


async def test_what_is_not_supported_is_echoed() -> None:
    async with line() as (_, client):
        for command in ("QS", "M", "QPI", "S99R1", "q1"):
            assert await client.ask(command) == command.encode() + b"\r"


async def test_on_battery_the_bits_say_so() -> None:
    clock = StoppedClock()
    model = Ups(clock=clock, load=60.0)
    model.outage(1000.0)
    clock.now += 2
    assert answer(model, "Q1")[-8:] == "10001001"
    clock.now += 500
    assert answer(model, "Q1")[-8:] == "11001001"


async def test_an_empty_ups_is_silent() -> None:
    async with line() as (server, client):
        clock = StoppedClock()
        server.ups = Ups(clock=clock)
        server.ups.outage(1e5)
        clock.now += 9e4
        assert await client.ask("Q1") == b""


def test_orders_are_silent_and_obeyed() -> None:
    clock = StoppedClock()
    model = Ups(clock=clock)
    bits = []
    for command in ("Q", "T", "CT", "T05", "CT", "TL", "CT", "S.5R0003", "C", "S01", "C"):
        assert answer(model, command) == ""
        clock.now += 1
        bits.append(answer(model, "Q1")[-3:])
    idle, test, shutdown = "000", "100", "010"
    assert bits == [idle, test, idle, test, idle, test, idle, shutdown, idle, shutdown, idle]


@pytest.mark.parametrize(("command", "off", "on"), [("S.2R0001", 12, 72), ("S01R0003", 60, 240)])
def test_a_shutdown_keeps_its_times(command: str, off: int, on: int) -> None:
    clock = StoppedClock()
    model = Ups(clock=clock)
    answer(model, command)
    start = clock.now
    states = {}
    for at in (off - 1, off + 1, on - 1, on + 2):
        clock.now = start + at
        states[at] = model.state()
    assert list(states.values()) == [
        UpsState.ONLINE,
        UpsState.OFF,
        UpsState.OFF,
        UpsState.ONLINE,
    ]


def test_r0000_stays_off() -> None:
    clock = StoppedClock()
    model = Ups(clock=clock)
    answer(model, "S00R0000")
    clock.now += 10_000
    assert model.state() is UpsState.OFF


async def test_at_2400_baud_a_status_takes_its_time() -> None:
    async with serve_ups(baud=2400) as server:
        with terminal(server.path) as client:
            began = now()
            assert Q1.fullmatch(await client.ask("Q1", 0.1))
            # 47 characters of 4.17 ms, and 0.1 s of silence after them.
            assert now() - began == pytest.approx(47 * 10 / 2400 + 0.1, abs=0.03)


# The faults.


async def test_timeout_and_late() -> None:
    async with line(SimulatedFault("timeout", every=2)) as (server, client):
        assert Q1.fullmatch(await client.ask("Q1"))
        assert await client.ask("Q1") == b""
        assert server.injected == {"timeout": 1}
        server.faults = (SimulatedFault("late", seconds=0.2),)
        assert await client.ask("F") == b""
        server.faults = ()
        # A late line comes in front of the next answer's, or behind it.
        assert RATINGS.encode() in await client.ask("I", 0.3)


async def test_garbage_noise_and_truncation_are_no_good_lines() -> None:
    async with line() as (server, client):
        right = await client.ask("Q1")
        for kind in ("garbage", "noise", "truncate"):
            server.faults = (SimulatedFault(kind),)
            heard = await client.ask("Q1")
            assert heard
            assert heard != right
        assert right.startswith(heard)
        server.faults = (SimulatedFault("truncate", number=46),)
        assert await client.ask("Q1") == right[:46]


async def test_echo_comes_before_the_reply_and_nak_instead_of_it() -> None:
    async with line(SimulatedFault("echo")) as (server, client):
        heard = await client.ask("Q1")
        assert heard.startswith(b"Q1\r(")
        assert Q1.fullmatch(heard[3:])
        assert await client.ask("CT") == b"CT\r"
        server.faults = (SimulatedFault("nak"),)
        assert await client.ask("Q1") == b"(NAK\r"
        assert await client.ask("C") == b"(NAK\r"


async def test_an_order_has_no_reply_to_spoil() -> None:
    async with line(SimulatedFault("garbage")) as (server, client):
        assert await client.ask("CT") == b""
        assert not server.injected


async def test_unplugged_it_hangs_up_and_comes_back_under_its_link(tmp_path: Path) -> None:
    link = tmp_path / "by-id-ups"
    async with serve_ups(link_path=link, faults=[SimulatedFault("unplug", seconds=0.2)]) as server:
        assert server.url == f"serial://{link}?baud=2400"
        with terminal(str(link)) as client:
            with pytest.raises(ConnectionError, match="hung up"):
                await client.ask("Q1")
            assert not link.exists()
        await asyncio.sleep(0.3)
        server.faults = ()
        with terminal(str(link)) as client:
            assert Q1.fullmatch(await client.ask("Q1"))
    assert not link.exists()


async def test_a_meters_fault_is_unknown_to_a_ups() -> None:
    with pytest.raises(ConfigError, match="unknown fault 'wrong_tid'"):
        UpsServer(Ups(), faults=[SimulatedFault("wrong_tid")])


def test_an_order_that_no_document_knows_is_echoed_and_not_obeyed() -> None:
    clock = StoppedClock()
    model = Ups(clock=clock)
    for command in ("S.1", "S.0R0003", "S11", "S99R0003", "S.5R3", "T00", "T5", "T100", "CTL", "c"):
        assert answer(model, command) == command
    clock.now += 3600
    assert model.state() is UpsState.ONLINE
    assert answer(model, "Q1").endswith(" 00001001")


def test_after_load_off_c_turns_the_output_on_when_it_has_rested() -> None:
    clock = StoppedClock()
    model = Ups(clock=clock)
    answer(model, "S00R0000")
    clock.now += 1
    assert model.state() is UpsState.OFF
    assert answer(model, "Q1").split()[2] == "000.0"
    answer(model, "C")
    clock.now += 9
    assert model.state() is UpsState.OFF
    clock.now += 2
    assert model.state() is UpsState.ONLINE
    assert answer(model, "Q1").endswith(" 00001001")
