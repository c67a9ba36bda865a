"""The drivers' decoding and the simulators' encoding were written apart; here they must agree."""

import struct

import pytest

from meterd.drivers.map_library import load_map, shipped
from meterd.drivers.planner import plan
from meterd.model.quantity import describe
from meterd.model.units import factor
from meterd.sim.meter import house_meter
from meterd.sim.register_bank import MeterBank
from tests.sim.clock import StoppedClock


@pytest.mark.parametrize("name", shipped())
def test_what_was_encoded_is_decoded(name: str) -> None:
    register_map = load_map(name)
    meter = house_meter(register_map, 11 * 3600.0)
    bank = MeterBank(register_map, meter.values, clock=StoppedClock())
    values = meter.values(0.0)
    compared = 0
    places = {place for row in register_map.rows for place in row.remote_places()}
    far = {(function, at): bank.read(function, at, 1)[0] for function, at in places}
    for block in plan(register_map, register_map.rows):
        words = bank.read(block.function, block.address, block.words)
        readings = block.decode(struct.pack(f">{block.words}H", *words), far)
        for row, reading in zip(block.rows, readings, strict=True):
            expected, known = values.get(reading.quantity), describe(reading.quantity)
            if not isinstance(expected, float) or known is None:
                continue
            scale = factor(reading.unit, known.unit) or 1.0
            step = scale * (row.scale if row.type[0] in "us" else 0.0)
            if row.words == 1 and step and abs(expected) > 0x7FFF * step:
                continue  # a register too narrow for this house
            assert isinstance(reading.value, float | int), reading
            # Half a step of the register, or what a float32 can hold.
            assert reading.value * scale == pytest.approx(expected, rel=2e-7, abs=step * 0.51)
            compared += 1
    given = [row for row in register_map.rows if isinstance(values.get(row.quantity), float)]
    assert compared >= min(1, len(given))
