"""The driver of SunSpec devices, at simulated ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from meterd.drivers.costs import Costs
from meterd.drivers.schedule import FAST
from meterd.drivers.sunspec.discovery import locate, walk
from meterd.drivers.sunspec.meter import SunSpecMeter
from meterd.drivers.sunspec.models import rows
from meterd.drivers.sunspec.options import SunSpecOptions
from meterd.drivers.sunspec.reader import SPLIT_BUDGET, ModelReader, RequestBudget
from meterd.errors import DeviceError, LinkError
from meterd.model.sample import Reading
from meterd.sim.faults import SimulatedFault
from meterd.sim.frames import Adu
from meterd.sim.modbus import ModbusServer
from meterd.wire.link import Link
from meterd.wire.modbus import ModbusClient
from tests.drivers.sunspec import device
from tests.drivers.sunspec.device import INVERTER_SAYS, METER_SAYS, Noting, chain, linked

pytestmark = pytest.mark.virtual

COMMON = device.common("Hybrid 5", "SN-1")
VENDOR = (64001, [203, 105, 1, 65] * 5)
HYBRID = (COMMON, device.inverter(), VENDOR, device.meter())
# SunS, one header a model, the end.
WALK = 1 + 4 + 1


def built(link: Link, **options: object) -> SunSpecMeter:
    return SunSpecMeter(link, SunSpecOptions.model_validate(options))


def by_name(readings: Sequence[Reading]) -> dict[str, Reading]:
    found = {reading.quantity: reading for reading in readings}
    assert len(found) == len(readings)
    assert all(reading.reason for reading in readings if reading.value is None)
    return found


async def polled(bank: Noting, **options: object) -> dict[str, float | str | None]:
    async with linked(bank) as (link, _):
        readings = by_name(await built(link, **options).read())
    return {name: reading.value for name, reading in readings.items()}


def agree(said: Mapping[str, object], expected: Mapping[str, float | None]) -> None:
    numbers = {name: value for name, value in expected.items() if value is not None}
    assert {name for name in expected if said[name] is None} == expected.keys() - numbers.keys()
    assert {name: said[name] for name in numbers} == pytest.approx(numbers, rel=1e-12, abs=0)


@pytest.mark.parametrize("base", [40000, 50000, 0])
async def test_an_inverter_generates_negative_power_and_exports(base: int) -> None:
    said = await polled(Noting(chain(base, *HYBRID)), part="inverter")
    agree(said, INVERTER_SAYS)
    assert said.keys() - INVERTER_SAYS.keys() == {
        f"info.{word}" for word in ("manufacturer", "model", "options", "firmware", "serial_number")
    }
    assert (said["info.model"], said["info.serial_number"]) == ("Hybrid 5", "SN-1")
    assert (said["info.firmware"], said["info.options"]) == ("1.2.3", None)


async def test_a_meter_is_what_is_read_unless_told_otherwise() -> None:
    said = await polled(Noting(chain(40000, *HYBRID)))
    agree(said, METER_SAYS)
    assert "x.inverter.state" not in said


async def test_a_split_phase_meter_has_the_same_registers() -> None:
    said = await polled(Noting(chain(40000, COMMON, device.meter(number=202))))
    agree(said, METER_SAYS)


async def test_floats_of_a_meter_come_in_one_request() -> None:
    bank = Noting(chain(40000, COMMON, device.float_inverter(), device.float_meter()))
    said = await polled(bank)
    expected = {
        "current": 0.5,
        "voltage.l1": 5.5,
        "frequency": 12.5,
        "active_power": 13.5,
        "power_factor": 25.5,
        "active_energy.export": 29.5,
        "active_energy.import": 33.5,
        "reactive_energy.q4.l3": 60.5,
        "x.meter.events": 0,
    }
    assert {name: said[name] for name in expected} == expected
    assert bank.asked.count((3, 40132, 125)) == 1


async def test_an_inverter_asleep_says_0_and_nothing_of_what_is_not_a_number() -> None:
    bank = Noting(chain(40000, COMMON, device.float_inverter(), device.float_meter()))
    said = await polled(bank, part="inverter")
    assert str(said["active_power"]) == "0.0"
    assert (said["frequency"], said["power_factor"]) == (50.0, 1.0)
    assert said["active_energy.export"] == 98765.4
    assert [said["current"], said["voltage.l1"], said["temperature.ambient"]] == [None] * 3


async def test_additions_tell_more_of_an_inverter_and_repeat_nothing() -> None:
    more = (device.nameplate(), device.extended(99), device.storage())
    said = await polled(Noting(chain(40000, COMMON, device.inverter(), *more)))
    agree(said, INVERTER_SAYS)
    assert (said["x.rating.active_power"], said["x.rating.apparent_power"]) == (10_000, 10_500)
    assert (said["x.rating.power_factor.q2"], said["x.rating.energy"]) == (-0.8, None)
    assert (said["apparent_energy.export"], said["x.available.active_power"]) == (None, 9800)
    assert (said["x.connection.pv"], said["x.insulation_resistance"]) == (7, 1_500_000)
    assert (said["battery.charge"], said["battery.voltage"]) == (87.3, 51.2)
    assert (said["x.storage.charge_power.max"], said["x.storage.state"]) == (5000, 4)


async def test_an_extended_counter_alone_is_kept_to_the_watt_hour() -> None:
    said = await polled(Noting(chain(0, COMMON, device.extended(2**53 + 1))))
    assert said["active_energy.export"] == 2**53 + 1


async def test_a_part_that_never_changes_is_asked_for_all_the_same() -> None:
    bank = Noting(chain(40000, COMMON, device.nameplate()))
    async with linked(bank) as (link, server):
        meter = built(link)
        assert by_name(await meter.read())["x.rating.current"].value == 16
        server.faults = [SimulatedFault("timeout")]
        with pytest.raises(LinkError):
            await meter.read()


async def test_two_meters_of_one_device_are_told_apart() -> None:
    second = device.common("Meter 2", "SN-2")
    bank = Noting(
        chain(40000, COMMON, device.inverter(), device.meter(11), second, device.meter(22))
    )
    first, other = await polled(bank, part="meter"), await polled(bank, part=203, index=2)
    assert (first["active_power"], first["info.serial_number"]) == (11, "SN-1")
    assert (other["active_power"], other["info.serial_number"]) == (22, "SN-2")


async def test_a_missing_part_is_an_error_that_lists_what_is_there() -> None:
    with pytest.raises(DeviceError, match="it has inverter: model 103") as told:
        await polled(Noting(chain(40000, COMMON, device.inverter())), part="meter")
    assert told.value.code == "no_part"


@pytest.mark.parametrize("scale", [0x8000, 11, 0xFFF5])
async def test_a_value_whose_scale_is_unknown_is_unknown(scale: int) -> None:
    words = chain(40000, COMMON, device.inverter())
    words[40069 + 15] = scale
    async with linked(Noting(words)) as (link, _):
        said = by_name(await built(link).read())
    assert said["active_power"].value is None
    assert "scale factor" in said["active_power"].reason
    assert said["frequency"].value == 50.01


async def test_the_chain_is_walked_once_and_texts_are_read_once() -> None:
    bank = Noting(chain(40000, *HYBRID))
    async with linked(bank) as (link, _):
        meter = built(link)
        first = await meter.read()
        assert len(bank.asked) == WALK + 2
        assert meter.traffic() == [(12, 9 + 2 * 107)]
        bank.asked.clear()
        assert await meter.read() == first
        assert bank.asked == [(3, 40143, 107)]


async def test_a_scale_that_changes_changes_its_values_at_once() -> None:
    words = chain(40000, COMMON, device.meter(1500))
    bank = Noting(words)
    async with linked(bank) as (link, _):
        meter = built(link)
        assert by_name(await meter.read())["active_power"].value == 1500
        bank.become(words | {40069 + 18: 150, 40069 + 22: 1})
        assert by_name(await meter.read())["active_power"].value == 1500


async def test_a_map_that_has_moved_gives_no_value_and_is_found_again() -> None:
    bank = Noting(chain(40000, COMMON, device.meter(1)))
    async with linked(bank) as (link, _):
        meter = built(link)
        await meter.read()
        bank.become(chain(40000, COMMON, device.inverter(), device.meter(2)))
        with pytest.raises(DeviceError) as told:
            await meter.read()
        assert told.value.code == "moved"
        assert by_name(await meter.read())["active_power"].value == 2


async def test_a_float_model_that_has_moved_is_noticed_by_its_length_alone() -> None:
    bank = Noting(chain(40000, COMMON, device.float_meter()))
    async with linked(bank) as (link, _):
        meter = built(link)
        await meter.read()
        bank.become(chain(40000, COMMON, device.inverter(), device.float_meter()))
        with pytest.raises(DeviceError, match="model 213"):
            await meter.read()


async def test_after_a_failure_the_device_is_found_anew() -> None:
    bank = Noting(chain(50000, COMMON, device.meter(1)))
    async with linked(bank) as (link, server):
        meter = built(link)
        first = await meter.read()
        server.faults = [SimulatedFault("timeout")]
        with pytest.raises(LinkError):
            await meter.read()
        server.faults = []
        bank.asked.clear()
        assert await meter.read() == first
        # Where it was is where it is looked for first.
        assert bank.asked[0] == (3, 50000, 2)


async def test_on_a_new_connection_the_device_is_found_anew() -> None:
    bank = Noting(chain(40000, COMMON, device.meter(1)))
    async with linked(bank) as (link, _):
        meter = built(link)
        await meter.read()
        await link.close()
        bank.become(chain(50000, device.common("Other", "SN-9"), device.meter(7)))
        with pytest.raises(DeviceError):
            await meter.read()
        said = by_name(await meter.read())
    assert (said["active_power"].value, said["info.serial_number"].value) == (7, "SN-9")


async def test_a_device_that_is_silent_about_what_it_lacks_is_found_in_the_end() -> None:
    class Quiet(ModbusServer):
        def answer(self, request: Adu) -> Adu | None:
            address = int.from_bytes(request.pdu[1:3], "big")
            return super().answer(request) if address < 40000 else None

    async with linked(Noting(chain(0, COMMON, device.meter(5))), Quiet) as (link, _):
        meter = built(link)
        for _ in range(2):
            with pytest.raises(LinkError):
                await meter.read()
        assert by_name(await meter.read())["active_power"].value == 5


@pytest.mark.parametrize("most", [64, 40])
async def test_a_device_with_small_replies_is_read_in_pieces(most: int) -> None:
    bank = Noting(chain(40000, COMMON, device.meter()), most=most)
    async with linked(bank) as (link, _):
        meter = built(link)
        first = await meter.read()
        agree({one.quantity: one.value for one in first}, METER_SAYS)
        bank.asked.clear()
        assert by_name(await meter.read()) == by_name(first)
        # Pieces have no header in them, so it is asked for by itself.
        assert bank.asked[0] == (3, 40069, 2)
        assert all(count <= most for _, _, count in bank.asked)
        bank.become(chain(40000, COMMON, device.inverter(), device.meter()))
        with pytest.raises(DeviceError) as told:
            await meter.read()
    assert told.value.code == "moved"


async def test_registers_that_are_refused_are_unknown_and_cost_little() -> None:
    words = chain(40000, COMMON, device.meter())
    # The end of the model is missing, so asking for all of it is refused.
    bank = Noting({at: word for at, word in words.items() if at < 40069 + 38 or at > 40174})
    async with linked(bank) as (link, _):
        meter = built(link)
        said = by_name(await meter.read())
        assert len(bank.asked) <= WALK + 3 + SPLIT_BUDGET
        bank.asked.clear()
        await meter.read()
        assert all(at + count <= 40069 + 38 for _, at, count in bank.asked)
    assert (said["active_power"].value, said["frequency"].value) == (-1500, 49.99)
    assert said["active_energy.import"].value is None
    assert "refuses a request with register" in said["active_energy.import"].reason


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"part": "battery"}, "part"),
        ({"part": 160}, "160 is no SunSpec model"),
        ({"part": 1}, "1 is no SunSpec model"),
        ({"index": 0}, "index"),
        ({"map": "eastron_sdm630"}, "map"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        SunSpecOptions.model_validate(options)


async def test_before_anything_is_known_the_longest_request_is_expected() -> None:
    async with linked(Noting({})) as (link, _):
        counts = [
            built(link, **o).traffic()[0][1] for o in ({}, {"part": "inverter"}, {"part": 203})
        ]
    assert counts == [9 + 2 * n for n in (125, 62, 107)]


async def test_counters_are_read_at_the_first_three_polls_and_each_nth() -> None:
    bank = Noting(chain(40000, *HYBRID))
    async with linked(bank) as (link, _):
        meter = SunSpecMeter(link, SunSpecOptions(slow=6.0), interval=1.0)
        polls = [by_name(await meter.read()) for _ in range(14)]
    slow = [n for n, poll in enumerate(polls) if "active_energy.import" in poll]
    assert slow == [0, 1, 2, 6, 12]
    assert all("active_power" in poll for poll in polls)
    assert all(poll["info.serial_number"].value == "SN-1" for poll in polls)


async def test_a_model_of_slow_rows_alone_is_not_asked_for_in_between() -> None:
    bank = Noting(chain(40000, COMMON, device.inverter(), (123, [0] * 24)))
    async with linked(bank) as (link, _):
        meter = SunSpecMeter(link, SunSpecOptions(slow=600.0), interval=1.0)
        costs = []
        for _ in range(5):
            before = len(bank.asked)
            said = by_name(await meter.read())
            costs.append(len(bank.asked) - before)
            assert said["active_power"].value == INVERTER_SAYS["active_power"]
    assert costs[1:] == [2, 2, 1, 1]


async def test_on_a_slow_bus_counters_between_fast_rows_are_left_out() -> None:
    bank = Noting(chain(40000, device.meter()))
    async with linked(bank) as (link, _):
        client = ModbusClient(link, 1)
        place = await locate(client, [40000])
        found = (await walk(client, place)).found[0]
        mine = rows(found.number, found.address, place.function)
        reader = ModelReader(client, found, mine, RequestBudget(), Costs.serial(9600))
        whole, fast = sum(reader.requests()), sum(reader.requests(FAST))
        assert fast < whole / 2
        bank.asked.clear()
        said = by_name(await reader.read(FAST))
        assert sum(count for _, _, count in bank.asked) == fast
        assert said.keys() == {row.quantity for row in mine if row.tier == "fast"}
        assert said["active_power"].value == METER_SAYS["active_power"]
        # The model that is there is another one: this is noticed whatever is due.
        moved = ModelReader(
            client, replace(found, number=204), mine, RequestBudget(), Costs.serial(9600)
        )
        with pytest.raises(DeviceError) as told:
            await moved.read(FAST)
        assert told.value.code == "moved"
