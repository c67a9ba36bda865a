"""The same registers served by other people's servers: every value is what was written by hand.

What a register means is worked out here on paper, in the comments, never by meterd's decoder.
"""

import importlib.util
import os
import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from meterd.drivers.map_library import load_map
from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.drivers.registers import Row
from meterd.model.clock import SystemClock
from meterd.model.sample import Poll
from meterd.poll.cycle import PollTarget, poll_once
from meterd.poll.normalise import Normaliser
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import FixedBank
from meterd.sim.serve import meter_bank
from meterd.wire import open_link
from meterd.wire.address import parse
from tests.cli.command import run
from tests.e2e.running import first_line
from tests.sim.clock import StoppedClock

SERVERS = ("pymodbus_server", "modbus_tk_server")

# Every type of number, high and low word first; what the sunspec scale register does, too.
OWN_MAP = """
source: written for this test
confidence: high
maker: Nobody
model: Of all types
rows:
  voltage.l1:             {function: 3, address: 0, type: u16, scale: 0.1, unit: V}
  active_power:           {function: 3, address: 1, type: s16, scale: "@2", unit: W}
  active_power.l1:        {function: 3, address: 3, type: s16, scale: 10, unit: W}
  active_energy.import:   {function: 3, address: 4, type: u64, unit: Wh, tier: slow}
  active_energy.export:   {function: 3, address: 8, type: u64, word_order: little, unit: Wh}
  reactive_energy.import: {function: 3, address: 12, type: u32, word_order: little, unit: varh}
  reactive_energy.export: {function: 3, address: 14, type: u32, unit: kvarh}
  current.l1:             {function: 3, address: 16, type: f32, word_order: little, unit: A}
  frequency:              {function: 3, address: 18, type: f64, unit: Hz}
  active_power.l2:        {function: 3, address: 22, type: s32, unit: kW}
  active_power.l3:        {function: 3, address: 24, type: s32, word_order: little, unit: W}
  power_factor:           {function: 3, address: 26, type: s16, scale: 0.001, unit: '1'}
  voltage.l2: {function: 3, address: 27, type: f32, word_order: little, byte_order: little, unit: V}
  active_energy.net:      {function: 3, address: 29, type: s64, unit: Wh}
  apparent_power:         {function: 3, address: 33, type: u32, unit: VA, na: [0xFFFFFFFF]}
"""
OWN_WORDS = {
    (3, 0): "08FE"  # 2302 tenths
    " FF9C FFFF"  # -100, and 10 to the power of -1
    " FF85"  # -123 tens
    " 0000 0001 0002 0003"  # 2**32 + 2 * 65536 + 3
    " 0003 0002 0001 0000"  # the same, low word first
    " 0001 0002"  # 2 * 65536 + 1
    " 0000 0007"
    " 0000 41C8"  # 25.0, low word first
    " 4049 0000 0000 0000"  # 50.0
    " FFFF FFFE"  # -2 kW
    " FC18 FFFF"  # -1000
    " FC18"  # -1000 thousandths
    " 0080 6643"  # 230.5 is 43 66 80 00: each word's bytes, and the words, turned round
    " FFFF FFFF FFFF FFFF"  # -1
    " FFFF FFFF"  # not available
}
OWN_VALUES: dict[str, float | None] = {
    "voltage.l1": 230.2,
    "active_power": -10.0,
    "active_power.l1": -1230.0,
    "active_energy.import": 4295098371.0,
    "active_energy.export": 4295098371.0,
    "reactive_energy.import": 131073.0,
    "reactive_energy.export": 7000.0,
    "current.l1": 25.0,
    "frequency": 50.0,
    "active_power.l2": -2000.0,
    "active_power.l3": -1000.0,
    "power_factor": -1.0,
    "voltage.l2": 230.5,
    "active_energy.net": -1.0,
    "apparent_power": None,
}

SDM630_WORDS = {
    (4, 0): "4366 199A",  # 230.1
    (4, 2): "4366 8000",  # 230.5
    (4, 6): "3FC0 0000",  # 1.5
    (4, 12): "C47A 0000",  # -1000
    (4, 52): "44FA 0000",  # 2000
    (4, 62): "3F73 3333",  # 0.95
    (4, 70): "4247 EB85",  # 49.98
    (4, 72): "4640 E6B6",  # 12345.678 kWh
    (4, 342): "4B18 967F",  # 9999999 kWh
    (4, 380): "40A0 0000",  # 5 kvarh
}
SDM630_VALUES: dict[str, float | None] = {
    "voltage.l1": 230.1,
    "voltage.l2": 230.5,
    "voltage.l3": 0.0,
    "current.l1": 1.5,
    "active_power.l1": -1000.0,
    "active_power": 2000.0,
    "power_factor": 0.95,
    "frequency": 49.98,
    "active_energy.import": 12345678.0,
    "active_energy.total": 9999999000.0,
    "reactive_energy.total.l3": 5000.0,
}

EM340_WORDS = {
    (4, 0): "08FD 0000",  # 2301 tenths, low word first
    (4, 12): "05DC 0000",  # 1500 mA
    (4, 18): "D8F0 FFFF",  # -10000 tenths
    (4, 40): "4E20 0000",  # 20000 tenths
    (4, 46): "FC4A",  # -950 thousandths
    (4, 51): "01F4",  # 500 tenths
    (4, 52): "86A0 0001",  # 100000 times 0.1 kWh
    (4, 54): "0002 0001",  # 65538 times 0.1 kvarh
    (4, 78): "FFFF 7FFF",  # overflow: not available
    (4, 20480): "0041 004E 0031 0034 0038 0037 0030",  # one letter a register
}
EM340_VALUES: dict[str, float | None] = {
    "voltage.l1": 230.1,
    "voltage.l2": 0.0,
    "current.l1": 1.5,
    "active_power.l1": -1000.0,
    "active_power": 2000.0,
    "power_factor.l1": -0.95,
    "frequency": 50.0,
    "active_energy.import": 10_000_000.0,
    "reactive_energy.import": 6_553_800.0,
    "active_energy.export": None,
}


@dataclass(frozen=True, slots=True)
class Case:
    """A map, the last register that has to be there, what some hold, and what that means."""

    map: str
    registers: int
    words: dict[tuple[int, int], str]
    values: dict[str, float | None]

    def lines(self) -> str:
        """As the servers read them: one run without holes, and what lies beyond it."""
        function = min(self.words)[0]
        run = ["0000"] * self.registers
        beyond = ""
        for (_, address), text in self.words.items():
            words = text.split()
            if address < self.registers:
                run[address : address + len(words)] = words
            else:
                beyond += f"{function} {address} {text}\n"
        return f"{function} 0 {' '.join(run)}\n{beyond}"


CASES = {
    "all types": Case("own", 35, OWN_WORDS, OWN_VALUES),
    "SDM630": Case("eastron_sdm630", 400, SDM630_WORDS, SDM630_VALUES),
    "EM340": Case("carlo-gavazzi_em340", 110, EM340_WORDS, EM340_VALUES),
}


@pytest.fixture
def own_map(tmp_path: Path) -> str:
    path = tmp_path / "own.yaml"
    path.write_text(OWN_MAP, "utf-8")
    return str(path)


async def polled(url: str, register_map: str) -> Poll:
    """The path that the daemon takes, from wire to sinks."""
    link = open_link(parse(url), defaults={})
    meter = ModbusMeter(link, ModbusOptions(map=register_map, unit=1))
    sunk: list[Poll] = []

    class Sink:
        def take(self, poll: Poll) -> None:
            sunk.append(poll)

    try:
        await poll_once(PollTarget("m", meter, 1.0, Normaliser("m")), [Sink()], SystemClock())
    finally:
        await link.close()
    (poll,) = sunk
    assert poll.up, poll.fault
    return poll


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("server", SERVERS)
async def test_every_value_is_what_was_written(server: str, case: Case, own_map: str) -> None:
    if server == "modbus_tk_server" and importlib.util.find_spec("modbus_tk") is None:
        assert os.environ.get("METERD_TEST_ALL") != "1", "modbus-tk is not installed"
        pytest.skip("needs PyPI's modbus-tk")
    register_map = own_map if case.map == "own" else case.map
    program = (sys.executable, "-m", f"tests.e2e.servers.{server}")
    async with first_line(*program, given=case.lines()) as port:
        poll = await polled(f"tcp://127.0.0.1:{port}", register_map)
    found = {name: poll.value(name) for name in case.values}
    assert found == case.values
    if case.map == "own":
        assert set(poll.layout.quantities) == {*OWN_VALUES, "device.up"}
    if case is CASES["EM340"]:
        assert poll.info["info.serial_number"] == "AN14870"


def test_the_floats_were_put_on_paper_rightly() -> None:
    """The one thing in the tables above that is hard to do by hand."""
    for (_, address), text in SDM630_WORDS.items():
        (row,) = (row for row in load_map("eastron_sdm630").rows if row.address == address)
        if (value := SDM630_VALUES[row.quantity]) is not None:
            raw = value / (1000 if row.unit in ("kWh", "kvarh") else 1)
            assert struct.pack(">f", raw).hex(" ", 2).upper() == text


# One map of each class: its values, to mbpoll, are these.
MBPOLL = {
    ("f32", "big"): ("eastron_sdm630", ("-B", "-t", "{}:float")),
    ("s32", "little"): ("carlo-gavazzi_em340", ("-t", "{}:int")),
    ("u32", "little"): ("peacefair_pzem-016", ("-t", "{}:int")),
    ("u32", "big"): ("abb_b23", ("-B", "-t", "{}:int")),
    ("s32", "big"): ("abb_b23", ("-B", "-t", "{}:int")),
    ("u16", "big"): ("peacefair_pzem-016", ("-t", "{}")),
    ("s16", "big"): ("carlo-gavazzi_em340", ("-t", "{}")),
}
TIMES = {"kWh": 1000, "kvarh": 1000, "kVAh": 1000, "kW": 1000, "kvar": 1000, "kVA": 1000}
ROWS_EACH = 8


async def mbpoll(port: int, row: Row, how: tuple[str, ...]) -> float:
    """The number that it prints for one value; of 16 bits it adds the signed one in brackets."""
    # Its 3 are input registers, function 4, and its 4 holding registers, function 3.
    kind = tuple(word.format(7 - row.function) for word in how)
    place = ("-0", "-1", "-a", "1", "-r", str(row.address), "-c", "1", "-p", str(port))
    done = await run("mbpoll", *kind, *place, "127.0.0.1")
    assert done.code == 0, done.out + done.err
    printed = re.search(r"^\[\d+\]:\s+(\S+)(?: \((-?\d+)\))?$", done.out, re.MULTILINE)
    assert printed is not None, done.out
    return float(printed[2] if printed[2] and row.type == "s16" else printed[1])


@pytest.mark.needs("mbpoll")
@pytest.mark.parametrize(("kind", "order"), MBPOLL)
async def test_mbpoll_understands_our_simulated_meter_as_meterd_does(kind: str, order: str) -> None:
    name, how = MBPOLL[kind, order]
    rows = [row for row in load_map(name).rows if (row.type, row.word_order) == (kind, order)]
    rows = [row for row in rows if not row.enum and not row.quantity.startswith("info.")]
    image = meter_bank(name, clock=StoppedClock()).image()
    words = {function: dict(held) for function, held in image.words.items()}
    for function, held in words.items():
        first, last = min(held), max(held)
        words[function] = dict.fromkeys(range(first, min(last, first + 900) + 1), 0) | held
    server = ModbusServer({1: FixedBank(words, 125)})
    await server.start_tcp()
    try:
        poll = await polled(server.url, name)
        printed = {row: await mbpoll(server.port, row, how) for row in rows[:ROWS_EACH]}
    finally:
        await server.stop()
    assert len(printed) >= min(3, len(rows)) > 0
    for row, number in printed.items():
        value = poll.value(row.quantity)
        assert value == pytest.approx(number * row.scale * TIMES.get(row.unit, 1), rel=1e-5)
    assert any(printed.values())
