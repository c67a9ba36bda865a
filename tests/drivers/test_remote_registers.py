"""Registers that no request can hold together with the value that needs them."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.model.sample import Reading
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import ExceptionCode, SimulatedRefusal
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
            raise SimulatedRefusal(ExceptionCode.ADDRESS)
        found = [self.held[register] for register in wanted]
        self.then(address)
        return found


@contextlib.asynccontextmanager
async def meter(folder: Path, bank: Any, text: str = MAP) -> AsyncIterator[ModbusMeter]:
    file = folder / "far.yaml"
    file.write_text(text)
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


# -- words of one number -------------------------------------------------------------------------

SPLIT = """\
rows:
  active_power: {function: 3, words: [625, 690], word_order: little, type: s32, unit: W}
  active_energy.import: {function: 3, words: [78, 80], word_order: little, type: u32, unit: Wh}
"""


class Split:
    """A power with its high word at 690 and an energy with its high word at 80.

    They change while they are read: `later` are the numbers behind the n-th request.
    """

    def __init__(self, power: int, energy: int) -> None:
        self.power, self.energy = power, energy
        self.later: dict[int, tuple[int, int]] = {}
        self.asked: list[int] = []

    def read(self, function: int, address: int, count: int) -> list[int]:
        held = {
            625: self.power & 0xFFFF,
            690: self.power >> 16 & 0xFFFF,
            78: self.energy & 0xFFFF,
            80: self.energy >> 16,
        }
        if (function, count) != (3, 1) or address not in held:
            raise SimulatedRefusal(ExceptionCode.ADDRESS)
        self.asked.append(address)
        self.power, self.energy = self.later.get(len(self.asked), (self.power, self.energy))
        return [held[address]]


def numbers(found: dict[str, Reading]) -> list[object]:
    return [found[name].value for name in ("active_power", "active_energy.import")]


async def test_words_in_two_requests_are_one_number(tmp_path: Path) -> None:
    async with meter(tmp_path, Split(42000, 0x000C6539), SPLIT) as one:
        assert numbers(await polled(one)) == [42000.0, 812345.0]


async def test_the_high_word_of_a_power_is_read_on_both_sides_of_the_low_one(
    tmp_path: Path,
) -> None:
    bank = Split(42000, 70000)
    async with meter(tmp_path, bank, SPLIT) as one:
        await polled(one)
        assert bank.asked == [80, 690, 78, 625, 80, 690]
        bank.asked.clear()
        # What a counter had when it was read last is as good as what it has now.
        await polled(one)
        assert bank.asked == [690, 78, 625, 80, 690]
        assert len(one.traffic()) == 5


@pytest.mark.parametrize("at", range(1, 7))
async def test_a_carry_between_two_requests_makes_no_wrong_value(tmp_path: Path, at: int) -> None:
    """0x0000FFFF becomes 0x00010000: torn, it would be 0 or 131071."""
    before, after = (0xFFFF, 0x1FFFF), (0x10000, 0x20000)
    bank = Split(*before)
    bank.later = {at: after}
    async with meter(tmp_path, bank, SPLIT) as one:
        assert numbers(await polled(one)) in (
            [float(after[0]), float(after[1])],
            [float(before[0]), float(before[1])],
            [float(before[0]), float(after[1])],
            [float(after[0]), float(before[1])],
        )


@pytest.mark.parametrize("at", range(1, 7))
async def test_a_power_that_turns_between_two_requests_keeps_its_sign(
    tmp_path: Path, at: int
) -> None:
    """3 W becomes -3 W: torn, it would be 65533 or -65533."""
    bank = Split(3, 5)
    bank.later = {at: (-3, 5)}
    async with meter(tmp_path, bank, SPLIT) as one:
        assert numbers(await polled(one)) in ([3.0, 5.0], [-3.0, 5.0])


async def test_a_carry_between_two_polls_is_asked_again(tmp_path: Path) -> None:
    bank = Split(1, 0xFFFF)
    async with meter(tmp_path, bank, SPLIT) as one:
        assert numbers(await polled(one)) == [1.0, 65535.0]
        bank.energy = 0x10002
        assert numbers(await polled(one)) == [1.0, 65538.0]


@pytest.mark.parametrize("seed", range(3))
async def test_a_counter_that_rises_at_each_request_has_only_values_that_it_had(
    tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    bank = Split(7, 0x0FF00)
    numbers_at, energy = {}, bank.energy
    for n in range(1, 2000):
        energy += random.randrange(0, 20_000)
        numbers_at[n] = 7, energy
    bank.later = numbers_at
    had = {0x0FF00, *(energy for _, energy in numbers_at.values())}
    async with meter(tmp_path, bank, SPLIT) as one:
        values = [numbers(await polled(one))[1] for _ in range(60)]
    known = [value for value in values if value is not None]
    assert len(known) > 40
    assert set(known) <= had


async def test_what_changes_at_each_request_is_absent_with_the_reason(tmp_path: Path) -> None:
    bank = Split(0, 0)
    bank.later = {n: (n << 16, 7) for n in range(1, 40)}
    async with meter(tmp_path, bank, SPLIT) as one:
        found = await polled(one)
        assert numbers(found) == [None, 7.0]
        assert "read in several requests, and changed" in found["active_power"].reason
        bank.later = {}
        assert numbers(await polled(one))[0] is not None


async def test_a_refused_half_costs_its_value_alone(tmp_path: Path) -> None:
    bank = Split(42000, 70000)
    text = SPLIT.replace("690", "691")
    async with meter(tmp_path, bank, text) as one:
        found = await polled(one)
        assert numbers(found) == [None, 70000.0]
        assert "register 691 could not be read" in found["active_power"].reason


KILOS = """\
rows:
  active_energy.import:
    {unit: kWh, sum: [{function: 4, address: 10, type: u32}, {function: 3, address: 904, type: u16, unit: Wh}]}
  reactive_power: {function: 3, address: 5, type: u16, unit: var, sign: {function: 2, address: 7}, multiply: {function: 4, address: 10, type: u32}}
"""  # noqa: E501


class Kilos:
    """kWh in input registers, the Wh below them in holding register 904; a contact for the sign."""

    def __init__(self) -> None:
        self.watthours = 1999
        self.negative = 1
        self.asked = 0
        self.at = 0

    def read(self, function: int, address: int, count: int) -> list[int]:
        self.asked += 1
        if self.asked == self.at:
            self.watthours += 1
        if (function, address, count) == (2, 7, 1):
            return [self.negative]
        if (function, address, count) == (3, 5, 1):
            return [250]
        if (function, address, count) == (3, 904, 1):
            return [self.watthours % 1000]
        if (function, address, count) == (4, 10, 2):
            return [0, self.watthours // 1000]
        raise SimulatedRefusal(ExceptionCode.ADDRESS)


async def test_kilowatthours_and_watthours_of_two_functions_are_added(tmp_path: Path) -> None:
    async with meter(tmp_path, Kilos(), KILOS) as one:
        found = await polled(one)
        assert found["active_energy.import"].value == 1.999
        assert found["reactive_power"].value == -250.0


@pytest.mark.parametrize("at", range(1, 12))
async def test_a_kilowatthour_that_is_full_between_two_requests_is_none_too_much(
    tmp_path: Path, at: int
) -> None:
    bank = Kilos()
    bank.at = at
    async with meter(tmp_path, bank, KILOS) as one:
        found = await polled(one)
        assert found["active_energy.import"].value in (1.999, 2.0)
