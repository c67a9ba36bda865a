"""Finding the chain of models, in devices that are honest and in those that are not."""

import itertools
import random

import pytest

from meterd.drivers.sunspec.discovery import ModelSurvey, survey
from meterd.drivers.sunspec.models import MAX_MODELS, MODELS
from meterd.errors import DeviceError, LinkError
from meterd.sim.register_bank import ExceptionCode, SimulatedRefusal
from meterd.wire.modbus import ModbusClient
from tests.drivers.sunspec.device import Noting, chain, common, float_meter, inverter, linked, meter

pytestmark = pytest.mark.virtual

VENDOR = (64001, [1234] * 17)
MARKER = {40000: 0x5375, 40001: 0x6E53}


async def surveyed(bank: Noting) -> ModelSurvey:
    async with linked(bank) as (link, _):
        return await survey(ModbusClient(link, 1))


def listed(found: ModelSurvey) -> list[tuple[int, int, int]]:
    return [(one.number, one.address, one.length) for one in found.found]


@pytest.mark.parametrize("base", [40000, 50000, 0])
async def test_each_base_is_found(base: int) -> None:
    bank = Noting(chain(base, common("A", "1"), inverter(), meter()))
    found = await surveyed(bank)
    assert found.place.base == base
    assert listed(found) == [(1, base + 2, 65), (103, base + 69, 50), (203, base + 121, 105)]
    assert found.end == ""


async def test_a_base_that_holds_something_else_is_passed_over() -> None:
    other = dict.fromkeys(range(40000, 40010), 0x5375)
    found = await surveyed(Noting(other | chain(50000, common("A", "1"), meter())))
    assert found.place.base == 50000


async def test_a_base_where_the_device_fails_instead_of_refusing_is_passed_over() -> None:
    class Failing(Noting):
        def read(self, function: int, address: int, count: int) -> list[int]:
            if address >= 40000:
                raise SimulatedRefusal(4)
            return super().read(function, address, count)

    found = await surveyed(Failing(chain(0, common("A", "1"), meter())))
    assert found.place.base == 0


async def test_a_padded_common_model_and_an_unknown_model_are_stepped_over() -> None:
    bank = Noting(chain(40000, common("A", "1", pad=True), VENDOR, float_meter()))
    found = await surveyed(bank)
    assert [one.number for one in found.found] == [1, 64001, 213]
    assert [one.model is None for one in found.found] == [False, True, False]
    # Nothing of the vendor's own is read.
    assert not any(40072 <= address < 40089 for _, address, _ in bank.asked)


async def test_input_registers_are_read_where_the_device_has_no_others() -> None:
    found = await surveyed(Noting(chain(40000, common("A", "1"), meter()), function=4))
    assert (found.place.function, len(found.found)) == (4, 2)


async def test_no_sunspec_device_is_told_from_a_silent_one() -> None:
    with pytest.raises(DeviceError, match="40000, 50000, 0") as told:
        await surveyed(Noting(dict.fromkeys(range(100), 7)))
    assert told.value.code == "no_sunspec"
    async with linked(Noting({})) as (link, _):
        with pytest.raises(LinkError):
            await survey(ModbusClient(link, 9))


async def test_a_gateway_that_misses_the_unit_is_no_answer_about_sunspec() -> None:
    class Gateway(Noting):
        def read(self, function: int, address: int, count: int) -> list[int]:
            raise SimulatedRefusal(ExceptionCode.NO_UNIT)

    with pytest.raises(DeviceError) as told:
        await surveyed(Gateway({}))
    assert told.value.code == "exception_11"


async def test_a_map_that_is_cut_off_keeps_what_came_before() -> None:
    found = await surveyed(Noting(chain(40000, common("A", "1"), meter(), end=())))
    assert [one.number for one in found.found] == [1, 203]
    assert "40176 holds no model" in found.end


async def test_half_an_end_marker_is_an_end() -> None:
    found = await surveyed(Noting(chain(40000, common("A", "1"), end=[0xFFFF])))
    assert found.end == ""


async def test_zeros_behind_the_last_model_are_no_model() -> None:
    found = await surveyed(Noting(chain(40000, common("A", "1"), end=[0] * 50)))
    assert (len(found.found), "holds no model" in found.end) == (1, True)


@pytest.mark.parametrize("length", [0, 7])
async def test_a_device_that_never_ends_is_left(length: int) -> None:
    pattern = itertools.cycle([64001, length, *[9] * length])
    words = dict(zip(range(40002, 65536), pattern, strict=False)) | MARKER
    bank = Noting(words)
    found = await surveyed(bank)
    assert (len(found.found), len(bank.asked)) == (MAX_MODELS, MAX_MODELS + 1)
    assert str(MAX_MODELS) in found.end


@pytest.mark.parametrize("length", [25_600, 0xFFFF])
async def test_a_model_longer_than_the_registers_left_ends_the_chain(length: int) -> None:
    found = await surveyed(Noting(chain(40000, common("A", "1"), end=[64001, length])))
    assert [one.number for one in found.found] == [1]
    assert f"64001 claims {length}" in found.end


async def test_the_last_register_ends_the_chain() -> None:
    length = 65535 - 50004
    words = chain(50000, (64001, [0] * length))
    found = await surveyed(Noting({at: word for at, word in words.items() if at < 65536}))
    assert (len(found.found), "no end" in found.end) == (1, True)


@pytest.mark.parametrize("lie", [49, 52, 0])
async def test_a_known_model_of_a_wrong_length_is_not_read_and_said_so(lie: int) -> None:
    words = chain(40000, common("A", "1"), inverter())
    words[40070] = lie
    found = await surveyed(Noting(words))
    lied = found.found[1]
    assert (lied.number, lied.model) == (103, None)
    assert f"length {lie} instead of 50" in lied.text
    assert all(one.model is None for one in found.found[1:])


async def test_whatever_the_registers_hold_the_walk_ends_and_takes_nothing_for_a_model() -> None:
    dice = random.Random(3)
    likely = (1, 65, 103, 50, 203, 105, 64001, 0, 0xFFFF)
    bank = Noting({})
    async with linked(bank) as (link, _):
        for _ in range(100):
            size = dice.randint(0, 25_000)
            bank.become({at: dice.choice(likely) for at in range(40002, 40002 + size)} | MARKER)
            bank.asked.clear()
            found = await survey(ModbusClient(link, 1))
            assert len(bank.asked) <= MAX_MODELS + 3
            read = [one for one in found.found if one.model]
            assert all(one.length in MODELS[one.number].lengths for one in read)
