"""Who counts as there: any frame of the unit itself, and nothing else."""

import pytest

from meterd.errors import LinkError
from meterd.sim.faults import SimulatedFault
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import FixedBank
from meterd.sim.transports import Framer
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Times
from meterd.wire.unit_scan import UnitScan

pytestmark = pytest.mark.virtual

ASK = (4, 0, 2)
TIMEOUT = 0.06


async def heard(
    framer: Framer, *faults: SimulatedFault, units: range = range(1, 6), refuse: bool = False
) -> tuple[list[int], UnitScan]:
    """Units that answer a server with the units 2 (registers) and 4 (refuses function 4)."""
    banks = {2: FixedBank({4: {0: 1, 1: 2}}), 4: FixedBank({3: {0: 1}})}
    unknown = "refuse" if refuse else "silent"
    server = ModbusServer(banks, framer=framer, faults=faults, unknown_unit=unknown, seed=5)  # type: ignore[arg-type]
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={}, times=Times(timeout=TIMEOUT))
    sweep = UnitScan(link)
    try:
        return [unit for unit in units if await sweep.answers(unit, ASK, TIMEOUT)], sweep
    finally:
        await link.close()
        await server.stop()


@pytest.mark.parametrize("framer", ["socket", "rtu"])
async def test_registers_and_a_refusal_are_both_an_answer(framer: Framer) -> None:
    found, sweep = await heard(framer)
    assert found == [2, 4]
    assert (sweep.late, sweep.gateway) == (set(), False)


async def test_a_gateways_word_for_an_absent_unit_is_no_unit() -> None:
    found, sweep = await heard("socket", refuse=True)
    assert found == [2, 4]
    assert sweep.gateway


@pytest.mark.parametrize("framer", ["socket", "rtu"])
async def test_who_answers_late_is_remembered_and_taken_for_nobody_else(framer: Framer) -> None:
    found, sweep = await heard(
        framer, SimulatedFault("late", seconds=1.5 * TIMEOUT), units=range(2, 7)
    )
    assert found == []
    assert sweep.late == {2, 4}


@pytest.mark.parametrize("kind", ["garbage", "truncate", "wrong_unit", "close"])
async def test_what_is_no_frame_of_the_unit_is_no_answer(kind: str) -> None:
    found, _ = await heard("rtu", SimulatedFault(kind), units=range(2, 3))
    assert found == []


async def test_many_silent_units_do_not_reopen_the_link() -> None:
    server = ModbusServer({30: FixedBank({4: {0: 1, 1: 2}})}, framer="rtu")
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={}, times=Times(timeout=0.01))
    sweep = UnitScan(link)
    found = [unit for unit in range(1, 31) if await sweep.answers(unit, ASK, 0.02)]
    assert (found, link.epoch) == ([30], 1)
    await link.close()
    await server.stop()


async def test_a_link_that_cannot_be_opened_is_an_error_and_no_silence() -> None:
    server = ModbusServer({})
    await server.start_tcp()
    await server.stop()
    sweep = UnitScan(open_link(parse(server.url), defaults={}))
    with pytest.raises(LinkError, match="refused"):
        await sweep.answers(1, ASK, TIMEOUT)
