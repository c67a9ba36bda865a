"""Scale registers that no request can hold together with their values."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.model.sample import Reading
from meterd.sim.bank import Refusal, Refused
from meterd.sim.modbus import ModbusServer
from meterd.wire import open_link
from meterd.wire.address import parse

MAP = """\
rows:
  voltage.l1: {function: 3, address: 10, type: s16, scale: "@3000", unit: V, na: [0x8000]}
  active_power: {function: 3, address: 11, type: s32, scale: "@3001*1000", unit: W}
  frequency: {function: 3, address: 13, type: u16, scale: 0.01, unit: Hz}
"""
VALUES = (10, 4)
SCALES = (3000, 2)


class Scaled:
    """230.1 V, -12.5 kW and 50 Hz; `then` is called after each read."""

    def __init__(self) -> None:
        self.held = {10: 2301, 11: 0xFFFF, 12: 0xFF83, 13: 5000, 3000: 0xFFFF, 3001: 0xFFFF}
        self.asked: list[tuple[int, int]] = []
        self.then: Callable[[int], None] = lambda address: None

    def read(self, function: int, address: int, count: int) -> list[int]:
        self.asked.append((address, count))
        wanted = range(address, address + count)
        if not set(wanted) <= set(self.held):
            raise Refusal(Refused.ADDRESS)
        found = [self.held[register] for register in wanted]
        self.then(address)
        return found


@contextlib.asynccontextmanager
async def meter(folder: Path, bank: Scaled) -> AsyncIterator[ModbusMeter]:
    file = folder / "far.yaml"
    file.write_text(MAP)
    server = ModbusServer({1: bank})
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={})
    yield ModbusMeter(link, ModbusOptions(map=str(file)), interval=1.0)
    await link.close()
    await server.stop()


async def polled(one: ModbusMeter) -> dict[str, Reading]:
    return {reading.quantity: reading for reading in await one.read()}


def of(found: dict[str, Reading]) -> list[object]:
    return [found[name].value for name in ("voltage.l1", "active_power", "frequency")]


async def test_values_are_scaled_at_the_price_of_one_request_a_poll(tmp_path: Path) -> None:
    bank = Scaled()
    async with meter(tmp_path, bank) as one:
        assert of(await polled(one)) == [230.1, -12500.0, 50.0]
        assert bank.asked == [SCALES, VALUES, SCALES]
        assert of(await polled(one)) == [230.1, -12500.0, 50.0]
        assert bank.asked[3:] == [VALUES, SCALES]
        assert len(one.traffic()) == one.report().reads == 2


async def test_a_value_whose_scale_changes_in_the_poll_is_not_available(tmp_path: Path) -> None:
    bank = Scaled()
    async with meter(tmp_path, bank) as one:
        await polled(one)
        bank.then = lambda address: bank.held.update({3000: 0, 10: 230})
        found = await polled(one)
        assert of(found) == [None, -12500.0, 50.0]
        assert found["voltage.l1"].reason == "the meter's scale was changed while it was read"
        assert of(await polled(one)) == [230.0, -12500.0, 50.0]


async def test_a_value_whose_scale_changes_between_polls_is_not_taken_for_another(
    tmp_path: Path,
) -> None:
    bank = Scaled()
    async with meter(tmp_path, bank) as one:
        await polled(one)
        bank.held |= {3001: 0, 11: 0xFFFF, 12: 0xFFF3}
        assert of(await polled(one)) == [230.1, None, 50.0]
        assert of(await polled(one)) == [230.1, -13000.0, 50.0]


async def test_what_is_no_power_of_ten_scales_nothing(tmp_path: Path) -> None:
    bank = Scaled()
    bank.held |= {3000: 0x8000, 10: 0x8000}
    async with meter(tmp_path, bank) as one:
        found = await polled(one)
        assert of(found) == [None, -12500.0, 50.0]
        bank.held[10] = 2301
        assert "scale factor is not available" in (await polled(one))["voltage.l1"].reason


async def test_refused_scales_cost_their_values_alone(tmp_path: Path) -> None:
    bank = Scaled()
    del bank.held[3000]
    async with meter(tmp_path, bank) as one:
        found = await polled(one)
        assert of(found) == [None, None, 50.0]
        since = len(bank.asked)
        await polled(one)
        assert bank.asked[since:] == [VALUES]
