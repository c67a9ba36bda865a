"""Debian's mbpoll and `meterd poll` read the same from one simulated meter."""

import re
import struct
from pathlib import Path

import pytest

from meterd.drivers.map_library import load_map
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import FixedBank
from meterd.sim.serve import meter_bank
from tests.cli.command import COMMAND, meterd, run, samples
from tests.e2e.running import first_line
from tests.sim.clock import StoppedClock

pytestmark = pytest.mark.needs("mbpoll")

MODEL = "eastron_sdm630"
ROWS = load_map(MODEL).rows
# First register and count of what the meter has; a request across its large holes is refused.
PARTS = ((0, 80), (80, 28), (200, 70), (334, 48))
MOST = 80
# To canonical units: this test knows what a kilowatt-hour is by itself.
TIMES = {"kWh": 1000, "kvarh": 1000, "kVAh": 1000}


async def mbpoll(*arguments: str) -> dict[str, float]:
    """What the words that mbpoll prints mean, by quantity."""
    words: dict[int, int] = {}
    for first, count in PARTS:
        asked = ("-0", "-1", "-t", "3:hex", "-r", str(first), "-c", str(count), *arguments)
        done = await run("mbpoll", *asked)
        assert done.code == 0, done.out + done.err
        found = re.findall(r"^\[(\d+)\]:\s+0x([0-9A-F]{4})", done.out, re.MULTILINE)
        words.update((int(address), int(word, 16)) for address, word in found)
    pairs = {row: struct.pack(">2H", words[row.address], words[row.address + 1]) for row in ROWS}
    return {
        row.quantity: struct.unpack(">f", pair)[0] * TIMES.get(row.unit, 1)
        for row, pair in pairs.items()
    }


def frozen() -> FixedBank:
    """What the simulated meter holds at one moment, for ever; holes read 0."""
    image = meter_bank(MODEL, clock=StoppedClock()).image()
    holes = {register: 0 for first, count in PARTS for register in range(first, first + count)}
    return FixedBank({4: holes | dict(image.words[4])}, MOST)


def agree(polled: dict[str, float | None], printed: dict[str, float]) -> None:
    """Equal to the last bit of a float32, for every quantity of the map."""
    del polled["device.up"]
    assert polled.keys() == printed.keys()
    assert polled == pytest.approx(printed, rel=2**-24, abs=0)
    assert len({round(value, 3) for value in printed.values()}) > 30


async def test_every_value_agrees_over_tcp() -> None:
    server = ModbusServer({7: frozen()})
    await server.start_tcp()
    try:
        port = str(server.port)
        printed = await mbpoll("-m", "tcp", "-a", "7", "-p", port, "127.0.0.1")
        polled = await meterd("poll", f"{MODEL}@tcp://127.0.0.1:{port}/7", "--format", "json")
    finally:
        await server.stop()
    agree(samples(polled), printed)


async def test_every_value_agrees_over_a_serial_line(tmp_path: Path) -> None:
    port = tmp_path / "meter"
    server = ModbusServer({1: frozen()}, framer="rtu")
    server.start_pty(port)
    try:
        serial = ("-b", "9600", "-P", "none", str(port))
        printed = await mbpoll("-m", "rtu", "-a", "1", *serial)
        polled = await meterd("poll", f"{MODEL}@serial://{port}?unit=1", "--format", "json")
    finally:
        await server.stop()
    agree(samples(polled), printed)


async def test_they_agree_about_a_running_simulator() -> None:
    """Its values move, so mbpoll's have to lie between what meterd said before and after."""
    async with first_line(*COMMAND, "simulate", MODEL, "--listen", "127.0.0.1:0") as url:
        target = (f"{MODEL}@{url}/1", "--format", "json")
        before = samples(await meterd("poll", *target))
        printed = await mbpoll("-m", "tcp", "-p", url.rpartition(":")[2], "127.0.0.1")
        after = samples(await meterd("poll", *target))
    counters = [row.quantity for row in ROWS if "_energy." in row.quantity]
    assert len(counters) > 20
    # A float32 is printed in as few digits as name it: half a unit in its last place.
    slack = 1 + 2**-24
    for name in counters:
        low, high = before[name], after[name]
        assert low is not None
        assert high is not None
        assert low <= printed[name] * slack
        assert printed[name] <= high * slack
    for name in ("voltage.l1", "voltage.l2", "voltage.l3", "frequency"):
        assert printed[name] == pytest.approx(before[name], rel=0.05)
