"""Connections that cannot be had, break, go deaf, or are for one client only."""

import asyncio
import contextlib
import itertools
import logging
from pathlib import Path
from typing import Any

import pytest

from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.errors import LinkError
from meterd.sim.frames import Adu
from meterd.sim.modbus import ModbusServer
from meterd.sim.transports import ServerLine
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Times
from tests.faults.rig import INTERVAL, SLACK, TIMEOUT, VICTIM, Line, line, write_map
from tests.virtual import network, now, virtual

# The first pause before a way that cannot be opened is tried again, in seconds.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
# How often it is looked whether something was tried.
_LOOK = 0.2


async def attempts(bus: Line, seconds: float) -> list[float]:
    """When the way was tried in vain for as long, in seconds from now."""
    began, found = now(), list[float]()
    while now() - began < seconds:
        if bus.link.counters["open_failures"] > len(found):
            found.append(now() - began)
        await asyncio.sleep(_LOOK)
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
@virtual
async def test_a_way_that_is_not_there_is_tried_with_growing_pauses_and_costs_no_time(
    host: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"tcp://{host}:{network().free_port()}"
    with caplog.at_level(logging.INFO):
        async with line(tmp_path, "socket", url=url, interval=1.0) as bus:
            tried = await attempts(bus, 600)
    pauses = [b - a for a, b in itertools.pairwise(tried)]
    # 1, 2, 4, 8 … s and at most a minute, each shortened by up to a fifth, and then at a poll.
    expected = [min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n in range(len(pauses))]
    for pause, most in zip(pauses, expected, strict=True):
        assert 0.8 * most - 2 * _LOOK <= pause <= most + 1.0 + 2 * _LOOK
    assert pauses[-1] > 0.8 * LONGEST_PAUSE - _LOOK
    assert max(poll.took for poll in bus.polls[4:]) < SLACK
    assert len(bus.of(VICTIM)) >= 600
    assert len(caplog.records) == 4, "one line for each device"
    assert {poll.fault.code for poll in bus.polls if poll.fault} <= {"refused", "dns"}


@virtual
async def test_a_port_that_opens_again_is_found_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with line(tmp_path, "socket", interval=0.1) as bus:
            await bus.polled(4, 2)
            bus.server.unplug(0.5)
            await bus.until(VICTIM, up=False)
            await asyncio.sleep(0.45)
            seconds = await bus.until(VICTIM, up=True)
            await bus.polled(4, 2)
    assert seconds < FIRST_PAUSE + 0.1 + SLACK
    for unit in (1, 2, 3, 4):
        told = [r.getMessage() for r in caplog.records if f"meter-{unit} " in r.getMessage()]
        assert len(told) == 2, told


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_100_resets_in_the_middle_of_a_reply_leak_nothing(tmp_path: Path) -> None:
    """Every second reply breaks off, on real sockets; it is asked for again in the same poll."""
    patient = Times(timeout=30)
    before = open_files()
    async with contextlib.AsyncExitStack() as stack:
        lines = [
            await stack.enter_async_context(
                line(tmp_path, "socket", units=(VICTIM,), name=f"m{n}", interval=0.1, times=patient)
            )
            for n in range(10)
        ]
        for bus in lines:
            bus.spoil("reset:1/2")
        async with asyncio.timeout(60):
            while sum(bus.server.injected["reset"] for bus in lines) < 100:
                await asyncio.sleep(0.02)
        assert all(poll.up for bus in lines for poll in bus.polls)
        assert [text for bus in lines for text in bus.wrong] == []
    async with asyncio.timeout(60):
        while open_files() > before:
            await asyncio.sleep(0.02)


class DeafServer(ModbusServer):
    """Keeps `deaf` connections and hears nothing on them, as a peer that lost power."""

    deaf: frozenset[ServerLine] = frozenset()

    def received(self, line: ServerLine, request: Adu) -> None:
        if line not in self.deaf:
            super().received(line, request)


@pytest.mark.parametrize("wire", ["socket", "rtu"])
@virtual
async def test_a_half_open_connection_is_given_up_after_three_silent_exchanges(
    wire: str, tmp_path: Path
) -> None:
    async with line(tmp_path, wire, kind=DeafServer) as bus:
        await bus.polled(4, 2)
        assert isinstance(bus.server, DeafServer)
        bus.server.deaf = frozenset(bus.server.lines)
        seconds = await bus.until(4, up=True)
        await bus.polled(4, 1)
    failed = [poll for poll in bus.polls if not poll.up]
    assert 1 <= len(failed) <= 3
    assert bus.link.counters["opened"] == 2
    assert seconds < 2 * INTERVAL + SLACK


class OneClientServer(ModbusServer):
    """Serves the client that came first and hangs up on any other."""

    holder: ServerLine | None = None

    def received(self, line: ServerLine, request: Adu) -> None:
        if self.holder not in self.lines:
            self.holder = line
        if line is self.holder:
            super().received(line, request)
        else:
            line.hang_up()


@virtual
async def test_a_device_for_one_client_is_let_go_between_polls(tmp_path: Path) -> None:
    async with line(tmp_path, "socket", units=(VICTIM,), kind=OneClientServer, letting=True) as bus:
        other = open_link(parse(bus.server.url), defaults={}, times=Times(timeout=0.3))
        meter = ModbusMeter(other, ModbusOptions(map=write_map(tmp_path)))
        for _ in range(5):
            await bus.polled(VICTIM, 1)
            await asyncio.sleep(0.02)
            assert not bus.server.lines, "closed after the poll"
            assert len(await meter.read()) == 8
            await other.close()
    assert all(poll.up for poll in bus.polls)
    assert bus.wrong == []


@virtual
async def test_a_device_that_another_client_holds_is_back_when_it_lets_go(
    tmp_path: Path,
) -> None:
    async with line(tmp_path, "socket", units=(VICTIM,), kind=OneClientServer, letting=True) as bus:
        other = open_link(parse(bus.server.url), defaults={}, times=Times(timeout=0.3))
        meter = ModbusMeter(other, ModbusOptions(map=write_map(tmp_path)))
        await bus.polled(VICTIM, 1)
        await asyncio.sleep(0.02)
        await meter.read()
        held = await bus.polled(VICTIM, 3)
        await other.close()
        seconds = await bus.until(VICTIM, up=True)
    assert all(poll.fault and poll.fault.code == "closed" for poll in held)
    assert seconds < INTERVAL + SLACK


class Arrivals(set[ServerLine]):
    """Connections, with the time each was made."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[ServerLine, float] = {}

    def add(self, line: ServerLine) -> None:
        self.times[line] = now()
        super().add(line)


class HastelessServer(ModbusServer):
    """Hears nothing for a while after a connection, and after a request; both in seconds."""

    after_connect = 0.1
    after_request = 0.02

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.arrivals = Arrivals()
        self.lines = self.arrivals
        self._free_at = 0.0

    def received(self, line: ServerLine, request: Adu) -> None:
        heard = now()
        if heard >= self._free_at and heard - self.arrivals.times[line] >= self.after_connect:
            super().received(line, request)
        self._free_at = heard + self.after_request


@pytest.mark.parametrize("wire", ["socket", "rtu"])
@virtual
async def test_pauses_after_connecting_and_between_requests_are_kept(
    wire: str, tmp_path: Path
) -> None:
    kept = Times(timeout=TIMEOUT, connect_delay=0.12, gap=0.025)
    async with line(tmp_path, wire, units=(1, 2), kind=HastelessServer, times=kept) as bus:
        await bus.polled(2, 5)
    assert all(poll.up for poll in bus.polls)
    hasty = Times(timeout=TIMEOUT)
    async with line(tmp_path, wire, units=(1, 2), kind=HastelessServer, times=hasty) as bus:
        await bus.polled(2, 2)
        with contextlib.suppress(LinkError):
            await bus.link.close()
    assert not any(poll.up for poll in bus.polls)


class SlowlyWakingServer(HastelessServer):
    """Needs a pause after a connection only."""

    after_request = 0.0


class OneByOneServer(HastelessServer):
    """Needs a pause after a request only."""

    after_connect = 0.0


@pytest.mark.parametrize("wire", ["socket", "rtu"])
@pytest.mark.parametrize(
    ("kind", "setting"), [(SlowlyWakingServer, "connect_delay"), (OneByOneServer, "gap")]
)
@virtual
async def test_without_the_pause_a_hint_names_the_setting_within_five_polls(
    kind: type[ModbusServer], setting: str, wire: str, tmp_path: Path
) -> None:
    closing = setting == "connect_delay"
    async with line(tmp_path, wire, units=(VICTIM,), kind=kind, letting=closing) as bus:
        polls = await bus.polled(VICTIM, 5)
    told = [poll.fault.text for poll in polls if poll.fault]
    assert any("; hint: " in text and f"set {setting}" in text for text in told), told


@pytest.mark.parametrize("wire", ["socket", "rtu"])
@virtual
async def test_a_dead_unit_among_others_gets_no_hint_at_pauses(wire: str, tmp_path: Path) -> None:
    async with line(tmp_path, wire, units=(VICTIM, 2)) as bus:
        await bus.polled(2, 1)
        bus.spoil("timeout")
        await bus.polled(VICTIM, 6)
    told = {poll.fault.text for poll in bus.of(VICTIM) if poll.fault}
    assert told == {"no answer in time"}
    assert bus.harm([2]) == []
