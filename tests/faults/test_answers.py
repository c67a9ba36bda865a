"""Answers that need patience or a second look: late ones, refusals, a busy device."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from meterd.drivers.modbus import SPLIT_BUDGET
from meterd.sim.frames import Adu
from meterd.sim.transports import ServerLine
from tests.faults.rig import (
    INTERVAL,
    SLACK,
    TIMEOUT,
    VICTIM,
    WIRES,
    PickyServer,
    TellingBank,
    line,
)
from tests.virtual import virtual

_LATE = f"late@{TIMEOUT * 1.5 * 1000:g}ms"


@pytest.mark.parametrize("wire", WIRES)
@virtual
async def test_one_that_is_always_late_is_told_to_get_a_longer_timeout(
    wire: str, tmp_path: Path
) -> None:
    async with line(tmp_path, wire, units=(VICTIM, 2)) as bus:
        await bus.polled(VICTIM, 1)
        bus.spoil(_LATE)
        polls = await bus.polled(VICTIM, 5)
    texts = [poll.fault.text for poll in polls if poll.fault is not None]
    assert any("raise" in text for text in texts), texts


@pytest.mark.parametrize("wire", ["socket", "rtu"])
@virtual
async def test_one_that_is_always_late_starts_no_storm_of_reconnects(
    wire: str, tmp_path: Path
) -> None:
    async with line(tmp_path, wire, units=(VICTIM,), interval=0.1) as bus:
        await bus.polled(VICTIM, 1)
        bus.spoil(_LATE)
        await bus.polled(VICTIM, 6)
    assert bus.wrong == []
    assert bus.link.counters["opened"] <= 2


@pytest.mark.parametrize("wire", WIRES)
@virtual
async def test_a_refused_register_is_found_and_left_alone(wire: str, tmp_path: Path) -> None:
    async with line(tmp_path, wire, units=(VICTIM, 2), interval=0.1) as bus:
        bank = cast("TellingBank", bus.server.banks[VICTIM])
        bank.refused = (102,)
        await bus.polled(VICTIM, 3)
        settled, known = bank.reads, len(bus.of(VICTIM))
        later = await bus.polled(VICTIM, 5)
        reads, polls = bank.reads - settled, len(bus.of(VICTIM)) - known
    assert settled - 2 * known <= SPLIT_BUDGET
    assert reads <= 3 * polls
    assert bus.wrong == []
    for poll in later:
        assert poll.value("x.b.place") is None
        assert poll.value("x.b.unit") == VICTIM
        doubt = poll.doubts[poll.layout.index["x.b.place"]]
        assert "refuses register 102" in doubt.reason
    assert bus.harm([2]) == []


@pytest.mark.parametrize("wire", WIRES)
@virtual
async def test_a_busy_device_is_waited_for_inside_the_poll(wire: str, tmp_path: Path) -> None:
    async with line(tmp_path, wire, units=(VICTIM, 2), interval=0.8) as bus:
        await bus.polled(VICTIM, 1)
        bus.spoil("busy:2")
        (poll,) = await bus.polled(VICTIM, 1)
        bus.spoil("")
        busy = bus.link.counters["busy"]
    assert poll.up
    assert poll.value("x.b.unit") == VICTIM
    assert busy == 4, "twice for each of two requests"
    assert bus.wrong == []


@pytest.mark.parametrize("wire", WIRES)
@virtual
async def test_a_code_of_the_vendors_own_is_shown(wire: str, tmp_path: Path) -> None:
    async with line(tmp_path, wire, units=(VICTIM,)) as bus:
        bus.spoil("exception:66")
        polls = await bus.polled(VICTIM, 2)
    fault = polls[-1].fault
    assert fault is not None
    assert fault.code == "exception_66"
    assert "66" in fault.text
    assert bus.server.injected["exception"] == len(bus.of(VICTIM)), "no extra traffic"


@virtual
async def test_one_that_answers_with_a_failure_for_long_is_back_within_one_interval(
    tmp_path: Path,
) -> None:
    async with line(tmp_path, "socket", units=(VICTIM,)) as bus:
        bus.spoil("exception:4")
        await bus.polled(VICTIM, 5)
        bus.spoil("")
        async with asyncio.timeout(60):
            seconds = await bus.until(VICTIM, up=True)
    assert seconds < INTERVAL + SLACK


class OtherProtocolServer(PickyServer):
    """Where `spoiling`, the victim's replies say that they are no Modbus: protocol id 1."""

    spoiling = False

    def received(self, line: ServerLine, request: Adu) -> None:
        reply = self.answer(request)
        if reply is None or request.unit != VICTIM or not self.spoiling:
            super().received(line, request)
            return
        frame = bytearray(line.wrap(reply))
        frame[2:4] = b"\x00\x01"
        line.send(bytes(frame))


@virtual
async def test_a_wrong_protocol_id_closes_the_connection_and_gives_no_value(tmp_path: Path) -> None:
    async with line(tmp_path, "socket", kind=OtherProtocolServer) as bus:
        server = cast("OtherProtocolServer", bus.server)
        await bus.polled(VICTIM, 2)
        server.spoiling = True
        struck = await bus.polled(VICTIM, 3)
        server.spoiling = False
        await bus.until(VICTIM, up=True)
        counters = dict(bus.link.counters)
    assert any(poll.fault is not None and poll.fault.code == "bad_frame" for poll in struck)
    assert bus.wrong == []
    assert not any(poll.fault for unit in (2, 3, 4) for poll in bus.of(unit))
    assert 1 <= counters["bad_frame"] <= counters["opened"]
