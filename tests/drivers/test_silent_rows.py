"""Meters that answer all requests but those that touch certain registers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meterd.drivers.backoff import LONGEST_PAUSE_S
from meterd.drivers.exclusions import FIRST_PAUSE_SILENT_S
from meterd.drivers.silent_rows import BUDGET
from meterd.errors import DeviceError, LinkError
from meterd.sim.faults import SimulatedFault
from meterd.sim.modbus import ModbusServer
from meterd.sim.transports import Framer
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Times
from tests.drivers.test_modbus import (
    GROUPS,
    ROWS,
    Mute,
    Picky,
    Rig,
    everything_but,
    groups,
    present,
    write,
)

pytestmark = pytest.mark.virtual

TIMEOUT = 0.1

wires = pytest.mark.parametrize("framer", ["socket", "rtu"])


@contextlib.asynccontextmanager
async def rig(
    file: Path, bank: Picky, *, kind: type[ModbusServer] = Mute, framer: Framer = "socket"
) -> AsyncIterator[Rig]:
    """A meter whose server says nothing where `bank` refuses."""
    server = kind({1: bank}, framer=framer)
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={}, times=Times(timeout=TIMEOUT))
    try:
        yield Rig(bank, link, server, file)
    finally:
        await link.close()
        await server.stop()


async def failures(rig: Rig) -> int:
    """How many polls fail until one is good."""
    for failed in range(10):
        with contextlib.suppress(LinkError, DeviceError):
            await rig.read()
            return failed
    pytest.fail("no poll was good")


@wires
@pytest.mark.parametrize("bad", [{0}, {13}, {ROWS - 1}, {3, 17}, {10, 11}], ids=str)
async def test_registers_that_get_no_answer_are_found_and_left_alone(
    tmp_path: Path, bad: set[int], framer: Framer
) -> None:
    bank = Picky(bad)
    async with rig(write(tmp_path), bank, framer=framer) as r:
        assert await failures(r) <= 3
        # Each request has one extra at most: what comes late has to be told from what is right.
        assert len(bank.asked) <= 2 * (BUDGET + 4)
        since = len(bank.asked)
        found, cost = await r.read()
        assert present(found) == everything_but(*bad)
        assert cost <= 2 * (len(bad) + 1)
        assert not bank.touched_bad(since)
        for register in bad:
            reading = found[f"x.r{register}"]
            assert reading.value is None
            assert f"not register {register} (function 4)" in reading.reason


@pytest.mark.parametrize("code", [4, 6, 11, 66])
async def test_a_no_that_names_no_register_is_taken_the_same_way(tmp_path: Path, code: int) -> None:
    bank = Picky({13}, code=code)
    async with rig(write(tmp_path), bank, kind=ModbusServer) as r:
        assert await failures(r) == 2
        found, _ = await r.read()
        assert present(found) == everything_but(13)
        assert f"exception {code}" in found["x.r13"].reason


async def test_a_meter_that_falls_silent_on_one_register_later_is_back_after_two_polls(
    tmp_path: Path,
) -> None:
    bank = Picky()
    async with rig(write(tmp_path), bank) as r:
        await r.read()
        bank.bad = {5}
        assert await failures(r) == 2
        assert present((await r.read())[0]) == everything_but(5)


async def test_it_is_found_in_each_request_of_a_poll(tmp_path: Path) -> None:
    bad = {2, *(first + 1 for first in GROUPS if first)}
    bank = Picky(bad)
    async with rig(groups(tmp_path), bank) as r:
        assert await failures(r) <= 2 * len(GROUPS)
        found, cost = await r.read()
        assert len(present(found)) == sum(GROUPS.values()) - len(bad)
        assert cost <= 2 * len(GROUPS)


async def test_one_is_asked_again_after_growing_pauses_and_taken_back(tmp_path: Path) -> None:
    bank = Picky({3, 17})
    async with rig(write(tmp_path), bank) as r:
        await failures(r)
        known, since = bank.bad, len(bank.asked)
        for _ in range(int(LONGEST_PAUSE_S)):
            r.clock.pass_by(1)
            await r.read()
        tried = sum(bool(known & set(asked)) for asked in bank.asked[since:])
        # After 30, 60, 120 and 240 s, each of them.
        assert tried == 2 * 4
        bank.bad = set()
        for _ in range(2):
            r.clock.pass_by(LONGEST_PAUSE_S)
            await r.read()
        assert present((await r.read())[0]) == everything_but()


async def test_where_the_requests_run_out_the_search_goes_on_after_a_while(tmp_path: Path) -> None:
    bad = {n for n in range(ROWS) if n % 4 == 1}
    bank = Picky({*bad, 1003, 2003, 2009})
    async with rig(groups(tmp_path), bank, kind=Mute) as r:
        for _ in range(60):
            r.clock.pass_by(FIRST_PAUSE_SILENT_S)
            with contextlib.suppress(LinkError):
                found, _ = await r.read()
        assert len(present(found)) == sum(GROUPS.values()) - len(bank.bad)


async def test_an_optional_row_is_absent_without_a_word(tmp_path: Path) -> None:
    bank = Picky({13})
    async with rig(write(tmp_path, optional={13}), bank) as r:
        await failures(r)
        found, _ = await r.read()
        assert found.keys() == everything_but(13).keys()


async def test_what_was_left_out_stays_so_when_the_link_is_opened_anew(tmp_path: Path) -> None:
    bank = Picky({13})
    async with rig(write(tmp_path), bank) as r:
        await failures(r)
        await r.link.close()
        since = len(bank.asked)
        assert await failures(r) == 0
        assert not bank.touched_bad(since)


async def test_a_meter_that_was_away_loses_no_row_and_costs_one_request_a_poll(
    tmp_path: Path,
) -> None:
    bank = Picky()
    async with rig(write(tmp_path), bank) as r:
        await r.read()
        r.server.faults = (SimulatedFault("timeout"),)
        for _ in range(6):
            before = r.link.counters["exchanges"]
            with pytest.raises(LinkError):
                await r.read()
            assert r.link.counters["exchanges"] == before + 1
        r.server.faults = ()
        found, cost = await r.read()
        assert present(found) == everything_but()
        assert cost <= 3


async def test_replies_that_are_lost_by_accident_take_no_row(tmp_path: Path) -> None:
    bank = Picky()
    async with rig(groups(tmp_path), bank) as r:
        r.server.faults = (SimulatedFault("timeout", every=5),)
        for _ in range(12):
            with contextlib.suppress(LinkError):
                await r.read()
        r.server.faults = ()
        await asyncio.sleep(TIMEOUT)
        await failures(r)
        assert len(present((await r.read())[0])) == sum(GROUPS.values())
