"""Meters that must be unlocked: at the start, after reopening, when they refuse; never unasked."""

from pathlib import Path

import pytest
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU

from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.errors import DeviceError, LinkError
from meterd.testing import ScriptedLink

RTU = FramerRTU(DecodePDU(is_server=False))
MAP = """\
source: a test of a locked meter
maker: Acme
model: Locked
wake: [{function: 6, address: 4096, values: [1]}, {function: 16, address: 4100, values: [2, 3]}]
rows:
  frequency: {function: 3, address: 0, type: u16, scale: 0.1, unit: Hz}
"""


def frame(text: str) -> bytes:
    return RTU.encode(bytes.fromhex(text), 1, 0)


READ, SAYS = frame("03 0000 0001"), frame("03 02 01F4")
NO = frame("83 02")
FIRST, SECOND = frame("06 1000 0001"), frame("10 1004 0002 04 0002 0003")
ECHO = frame("10 1004 0002")


class Bench:
    def __init__(self, folder: Path, *, allowed: bool = True) -> None:
        path = folder / "locked.yaml"
        path.write_text(MAP)
        self.link = ScriptedLink({READ: SAYS, FIRST: FIRST, SECOND: ECHO})
        options = ModbusOptions(map=str(path), allow_wake=allowed)
        self.meter = ModbusMeter(self.link, options, interval=1.0)

    async def read(self) -> list[bytes]:
        """What is sent for one poll that gives the value."""
        before = len(self.link.sent)
        (said,) = await self.meter.read()
        assert said.value == 50.0
        return self.link.sent[before:]


async def test_it_is_unlocked_at_the_start_and_after_each_opening(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert await bench.read() == [FIRST, SECOND, READ]
    assert await bench.read() == [READ]
    bench.link.reopen()
    assert await bench.read() == [FIRST, SECOND, READ]


async def test_nothing_is_written_where_the_device_does_not_allow_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, allowed=False)
    assert await bench.read() == [READ]
    bench.link.script(READ, NO)
    with pytest.raises(DeviceError):
        await bench.meter.read()
    assert not {FIRST, SECOND} & set(bench.link.sent)


async def test_a_meter_that_refuses_is_unlocked_once_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.read()
    bench.link.script(READ, [NO, SAYS])
    assert await bench.read() == [READ, FIRST, SECOND, READ]


async def test_a_meter_that_goes_on_refusing_is_not_written_to_again_in_this_poll(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    await bench.read()
    bench.link.script(READ, NO)
    for _ in range(3):
        before = len(bench.link.sent)
        with pytest.raises(DeviceError, match="refuses all"):
            await bench.meter.read()
        assert bench.link.sent[before:].count(FIRST) == 1
    bench.link.script(READ, SAYS)
    assert READ in await bench.read()


async def test_a_no_to_the_write_is_an_event_once_and_it_is_read_all_the_same(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    bench.link.script(FIRST, frame("86 03"))
    assert await bench.read() == [FIRST, READ]
    bench.link.reopen()
    assert await bench.read() == [FIRST, READ]
    (notice,) = bench.meter.notices
    assert (notice.kind, notice.data) == ("wake_refused", {"register": 4096})


async def test_a_write_without_an_answer_fails_the_poll_and_is_not_repeated_in_it(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    bench.link.script(SECOND, frame("10 1004 0001"))
    with pytest.raises(LinkError, match="nobody knows whether register 4100 was written"):
        await bench.meter.read()
    assert bench.link.sent == [FIRST, SECOND]


async def test_a_link_that_is_closed_after_each_poll_is_unlocked_in_each(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.link.is_open = False  # type: ignore[attr-defined]
    assert await bench.read() == [FIRST, SECOND, READ]
    assert await bench.read() == [FIRST, SECOND, READ]
