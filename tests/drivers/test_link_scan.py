"""Who is found on a link, with which settings, at which cost."""

from pathlib import Path

import pytest

from meterd.drivers.link_scan import FoundUnit, LinkScan, ways
from meterd.drivers.map_library import load_map
from meterd.model.clock import SystemClock
from meterd.sim.faults import SimulatedFault
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import Bank, FixedBank
from meterd.sim.serve import meter_bank, serve_ups
from meterd.sim.transports import Framer
from meterd.wire.address import parse

pytestmark = pytest.mark.virtual

NOON = 12 * 3600.0
TIMEOUT = 0.06


class Steps:
    """Counts the stages and their steps."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.steps = 0

    def begin(self, what: str, steps: int) -> None:
        self.stages.append(what)

    def step(self) -> None:
        self.steps += 1


def banks() -> dict[int, Bank]:
    """Two meters, and a unit that refuses everything that it is asked first."""
    return {
        2: meter_bank("eastron_sdm120", offset=NOON),
        5: meter_bank("abb_b23", offset=NOON),
        6: FixedBank({3: {9000: 1}}),
    }


async def surveyed(url: str, units: range, *maps: str) -> tuple[list[FoundUnit], Steps]:
    steps = Steps()
    tries = list(ways(parse(url)))
    survey = LinkScan(tries, units, SystemClock(), steps, timeout=TIMEOUT)
    await survey.find()
    await survey.identify([load_map(name) for name in maps])
    return survey.found, steps


def best(found: list[FoundUnit]) -> dict[int | None, str]:
    return {one.unit: one.guesses[0].map if one.guesses else "" for one in found}


@pytest.mark.parametrize("framer", ["socket", "rtu"])
async def test_units_and_frames_are_found_out_on_a_network(framer: Framer) -> None:
    server = ModbusServer(banks(), framer=framer)
    await server.start_tcp()
    url = f"tcp://127.0.0.1:{server.port}"
    found, steps = await surveyed(url, range(1, 8), "eastron_sdm120", "abb_b23")
    await server.stop()
    assert best(found) == {2: "eastron_sdm120", 5: "abb_b23", 6: ""}
    assert {one.address.options["framer"] for one in found} == {framer}
    assert all(one.latency is not None and one.latency < TIMEOUT for one in found)
    assert len(steps.stages) == (1 if framer == "socket" else 2) + 3


async def test_units_are_found_on_a_serial_line(tmp_path: Path) -> None:
    server = ModbusServer(banks(), framer="rtu")
    server.start_pty(tmp_path / "bus")
    url = f"serial://{tmp_path / 'bus'}"
    found, _ = await surveyed(url, range(1, 8), "eastron_sdm120", "abb_b23")
    await server.stop()
    assert best(found) == {2: "eastron_sdm120", 5: "abb_b23", 6: ""}


async def test_a_ups_is_found_where_no_meter_answers_and_is_only_asked(tmp_path: Path) -> None:
    async with serve_ups(link_path=tmp_path / "ups") as server:
        found, _ = await surveyed(f"serial://{tmp_path / 'ups'}", range(1, 4))
        state = server.ups.view()
    [one] = found
    assert (one.unit, one.guesses[0].map) == (None, "megatec")
    assert one.guesses[0].because[0].startswith("input.voltage 2")
    assert (state.testing, state.shutting_down) == (False, False)


async def test_a_device_that_ignores_the_unit_is_one_device() -> None:
    bank = meter_bank("eastron_sdm120", offset=NOON)
    server = ModbusServer(dict.fromkeys(range(1, 12), bank))
    await server.start_tcp()
    found, _ = await surveyed(server.url, range(1, 12), "eastron_sdm120")
    await server.stop()
    assert [(one.unit, one.note) for one in found] == [(1, "answers to every unit: one device")]


async def test_units_that_answer_late_are_named_with_what_to_do() -> None:
    server = ModbusServer(banks(), faults=[SimulatedFault("late", seconds=1.5 * TIMEOUT)])
    await server.start_tcp()
    found, _ = await surveyed(f"{server.url}?framer=socket", range(1, 8))
    await server.stop()
    assert {(one.unit, one.latency, one.note) for one in found} == {
        (unit, None, "answers late: raise --timeout") for unit in (2, 5, 6)
    }


def test_a_serial_line_is_tried_with_each_speed_and_parity() -> None:
    tries = ways(parse("serial:///dev/ttyUSB0?stop=2"), ["9600", "19200"], ["N", "E"])
    assert [(way.options["baud"], way.options["parity"]) for way in tries] == [
        ("9600", "N"),
        ("9600", "E"),
        ("19200", "N"),
        ("19200", "E"),
    ]
    [plain] = ways(parse("serial:///dev/ttyUSB0?baud=4800"))
    assert plain.options == {"baud": "4800"}


async def test_all_units_of_a_line_of_9600_baud_take_about_two_minutes() -> None:
    from meterd.drivers.link_scan import _PROBES, _timeout

    whole = 247 * len(_PROBES) * (_timeout(parse("serial:///dev/ttyUSB0")) + 3.5 * 11 / 9600)
    assert 90 < whole < 130
