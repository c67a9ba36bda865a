"""Ten thousand polls of a bad line, from wire to store: not one wrong value is stored."""

import itertools
from collections import defaultdict
from pathlib import Path

import pytest

from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.model.clock import SystemClock
from meterd.poll.cycle import PollTarget, poll_once
from meterd.poll.normalise import Normaliser
from meterd.sim.faults import parse_faults
from meterd.sim.modbus import ModbusServer
from meterd.sim.transports import Framer
from meterd.store.writer import Writer
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Times
from tests.e2e.stored import stored
from tests.wire.stamped import StampedBank

pytestmark = pytest.mark.virtual

POLLS = 10_000
UNITS = (1, 2, 3)
BLOCKS = {"low": 10, "high": 100}
FAULTS = (
    "late:0.002@50ms,extra:0.02,timeout:0.0005,wrong_unit:0.001,wrong_count:0.001,duplicate:0.002"
)


class Clock(SystemClock):
    """A second a poll, so that every poll has rows of its own."""

    def __init__(self) -> None:
        self._ms = 1_800_000_000_000

    def now_ms(self) -> int:
        self._ms += 1000
        return self._ms


def write_map(folder: Path) -> Path:
    """Two blocks of the stamped bank: number of the answer, first register, count, unit."""
    lines = ["source: this test", "confidence: high", "maker: Nobody", "model: Stamp"]
    lines += ["limits: {max_registers: 20, bridge: 0}", "rows:"]
    for block, address in BLOCKS.items():
        for place, name in enumerate(("number", "address", "count", "unit")):
            lines.append(
                f"  x.{block}.{name}: {{function: 3, address: {address + place}, type: u16}}"
            )
    # Something behind one block only, so that the two differ in length.
    lines.append("  x.high.more: {function: 3, address: 104, type: u16}")
    path = folder / "stamp.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("framer", ["socket", "rtu"])
async def test_no_wrong_value_is_stored(framer: Framer, tmp_path: Path) -> None:
    numbers = itertools.count(1)
    server = ModbusServer(
        {unit: StampedBank(unit, numbers) for unit in UNITS},
        framer=framer,
        faults=parse_faults(FAULTS),
    )
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={}, times=Times(timeout=0.03))
    options = {unit: ModbusOptions(map=str(write_map(tmp_path)), unit=unit) for unit in UNITS}
    devices = [
        PollTarget(f"u{unit}", ModbusMeter(link, options[unit]), 1.0, Normaliser(f"u{unit}"))
        for unit in UNITS
    ]
    writer = Writer(f"sqlite:///{tmp_path / 'stored.db'}", commit=1.0)
    await writer.open()
    clock = Clock()
    good = 0
    for number in range(POLLS):
        poll = await poll_once(devices[number % len(devices)], [writer], clock)
        good += poll.up
    await writer.close()
    await link.close()
    await server.stop()
    assert good > POLLS * 0.9
    assert server.injected["late"] > 20
    assert server.injected["extra"] > 200
    assert judge(tmp_path / "stored.db") == good


def judge(path: Path) -> int:
    """Reads what is stored; how many polls of answers there are."""
    found = sorted(stored(path).items(), key=lambda one: one[0][2])
    rows = [(device, time, name, v) for (device, name, time), v in found if v is not None]
    polls: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for device, time, quantity, value in rows:
        polls[device, time][quantity] = value
    answered = 0
    newest = 0.0
    for (device, _), values in polls.items():
        if not values["device.up"]:
            assert list(values) == ["device.up"]
            continue
        answered += 1
        for block, address in BLOCKS.items():
            assert values[f"x.{block}.unit"] == float(device.removeprefix("u"))
            assert values[f"x.{block}.address"] == address
            # An answer made before the poll before would be a late or foreign one.
            stamp = values[f"x.{block}.number"]
            assert 0 < (stamp - newest) % 65536 < 2000
            newest = stamp
    return answered
