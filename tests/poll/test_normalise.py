"""What the house holds to be true of what a device said."""

import math
from array import array
from decimal import Decimal

import numpy as np
import pytest

from meterd.model.calibration import Calibration
from meterd.model.quantity import CATALOGUE
from meterd.model.sample import Quality, Reading
from meterd.poll.normalise import Normaliser, Terms


def poll(*readings: Reading, swapped: bool = False):  # type: ignore[no-untyped-def]
    return Normaliser("m", swapped=swapped).poll(readings, 1000, 0.1)


@pytest.mark.parametrize(
    ("reading", "value", "unit"),
    [
        (Reading("active_power", 0.29, "kW"), 290.0, "W"),
        (Reading("active_energy.import", 1234.5, "kWh"), 1234500.0, "Wh"),
        (Reading("active_energy.import", 1.001, "kWh"), 1001.0, "Wh"),
        (Reading("current.l1", 5735.0, "mA"), 5.735, "A"),
        (Reading("voltage.l1", 230.1, "V"), 230.1, "V"),
        (Reading("battery.runtime", 8.0, "min"), 480.0, "s"),
        (Reading("x.water.flow", 3.5, "l/min"), 3.5, "l/min"),
        (Reading("voltage.l1", 230, "V"), 230.0, "V"),
    ],
)
def test_values_come_in_the_canonical_unit(reading: Reading, value: float, unit: str) -> None:
    (sample, up) = poll(reading).samples()
    assert (sample.value, sample.unit, sample.quality) == (value, unit, Quality.GOOD)
    assert (up.quantity, up.value) == ("device.up", 1.0)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_absent_with_a_reason(value: float | None) -> None:
    sample = next(poll(Reading("voltage.l1", value, "V")).samples())
    assert sample.value is None
    assert sample.quality is Quality.INVALID
    assert sample.reason


@pytest.mark.parametrize(("value", "unit"), [(1e301, "V"), (1e299, "kV"), (-1.7e308, "MV")])
def test_what_overflows_on_its_way_to_the_canonical_unit_is_no_value(
    value: float, unit: str
) -> None:
    sample = next(poll(Reading("voltage.l1", value, unit)).samples())
    assert (sample.value, sample.quality) == (None, Quality.INVALID)
    assert sample.reason.endswith("V is no number that can be measured")


def test_the_devices_own_reason_is_kept() -> None:
    sample = next(poll(Reading("voltage.l1", None, "V", "not available")).samples())
    assert sample.reason == "not available"


@pytest.mark.parametrize(
    ("quantity", "value", "unit"),
    [
        ("voltage.l1", 2.3e9, "V"),
        ("frequency", 2.3e-41, "Hz"),  # 50.0 with its words swapped
        ("frequency", 5000.0, "Hz"),
        ("power_factor", 980.0, "1"),
    ],
)
def test_the_implausible_is_suspect(quantity: str, value: float, unit: str) -> None:
    sample = next(poll(Reading(quantity, value, unit)).samples())
    assert sample.quality is Quality.SUSPECT
    assert "plausible" in sample.reason


def test_a_meter_mounted_the_other_way_round() -> None:
    found = poll(
        Reading("active_power", 500.0, "W"),
        Reading("active_energy.import", 3.0, "kWh"),
        Reading("active_energy.export.l1", 7.0, "kWh"),
        Reading("voltage.l1", 230.0, "V"),
        swapped=True,
    )
    values = {sample.quantity: sample.value for sample in found.samples()}
    assert values == {
        "active_power": -500.0,
        "active_energy.export": 3000.0,
        "active_energy.import.l1": 7000.0,
        "voltage.l1": 230.0,
        "device.up": 1.0,
    }


def test_texts_belong_to_the_device_and_strangers_to_nobody() -> None:
    found = poll(
        Reading("info.model", "SDM630", ""),
        Reading("info.firmware", None, ""),
        Reading("no.such.thing", 1.0, "V"),
        Reading("voltage.l1", 1.0, "kg"),
        Reading("voltage.l2", 231.0, "V"),
    )
    assert found.info == {"info.model": "SDM630"}
    assert found.layout.quantities == ("voltage.l2", "device.up")


def test_polls_of_one_shape_share_their_layout() -> None:
    normaliser = Normaliser("m")
    one = normaliser.poll([Reading("voltage.l1", 1.0, "V")], 1, 0.0)
    two = normaliser.poll([Reading("voltage.l1", None, "V")], 2, 0.0)
    three = normaliser.poll([Reading("voltage.l2", 1.0, "V")], 3, 0.0)
    assert one.layout is two.layout
    assert three.layout is not two.layout


def test_devices_that_say_the_same_share_their_layout() -> None:
    said = [Reading("voltage.l1", 1.0, "V")]
    one, other = (Normaliser(name).poll(said, 1, 0.0) for name in ("a", "b"))
    assert one.layout is other.layout
    turned = Normaliser("c", swapped=True).poll([Reading("active_power", 1.0, "W")], 1, 0.0)
    straight = Normaliser("d").poll([Reading("active_power", 1.0, "W")], 1, 0.0)
    assert (turned.values[0], straight.values[0]) == (-1.0, 1.0)


def test_values_that_are_all_there_take_little_room() -> None:
    normaliser = Normaliser("m")
    whole = normaliser.poll([Reading("active_power", 0.29, "kW")], 1, 0.0)
    assert (type(whole.values), list(whole.values)) == (array, [290.0, 1.0])
    lacking = normaliser.poll([Reading("active_power", None, "kW")], 1, 0.0)
    assert list(lacking.values) == [None, 1.0]


def test_an_estimate_stays_an_estimate() -> None:
    reading = Reading("battery.charge", 69.0, "%", "from the voltage", Quality.ESTIMATED)
    sample = next(poll(reading).samples())
    assert (sample.value, sample.quality) == (69.0, Quality.ESTIMATED)


@pytest.mark.parametrize(
    ("reading", "told"),
    [
        (Reading("gas_volume", 3.5, "m³"), "no quantity of that name is known"),
        (Reading("active_power", 1.2, "kw"), "did you mean kW?"),
        (Reading("active_power", 1.2, "V"), "'V' does not convert to W"),
        (Reading("temperature", 20.0, "C"), "did you mean °C?"),
        (Reading("thd.voltage.l1", 5.0), "'' does not convert to %"),
        (Reading("Voltage.L1", 230.0, "V"), "did you mean voltage.l1"),
        (Reading("device.up", 0.0, "1"), "it is meterd's own"),
        (Reading("guarded.active_energy.import", 1.0, "Wh"), "it is meterd's own"),
        (Reading("x.heat", 1.0, None), "a quantity and its unit are texts"),  # type: ignore[arg-type]
        (Reading(7, 1.0, "V"), "a quantity and its unit are texts"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_kept_is_told_once_and_the_rest_is_kept(reading: Reading, told: str) -> None:
    normaliser = Normaliser("m")
    for _ in range(3):
        found = normaliser.poll([Reading("voltage.l2", 230.0, "V"), reading], 1000, 0.1)
        assert found.layout.quantities == ("voltage.l2", "device.up")
        assert found.values[-1] == 1.0
    (notice,) = normaliser.notices
    assert notice.kind == "driver_mistake"
    assert told in notice.text
    assert notice.data == {"quantity": str(reading.quantity)}


def test_of_two_values_of_one_name_the_first_is_kept() -> None:
    normaliser = Normaliser("m")
    twice = [Reading("voltage.l1", 230.0, "V"), Reading("voltage.l1", 1.0, "V")]
    found = normaliser.poll(twice, 1000, 0.1)
    assert list(found.values) == [230.0, 1.0]
    assert found.layout.quantities == ("voltage.l1", "device.up")
    assert "comes twice" in normaliser.notices[0].text


@pytest.mark.parametrize("value", [Decimal("230.5"), np.float32(230.5), np.float64(230.5)])
def test_numbers_of_other_libraries_are_numbers(value: float) -> None:
    assert poll(Reading("voltage.l1", value, "V")).values[0] == 230.5


def test_fahrenheit_becomes_celsius_whichever_way_a_poll_goes() -> None:
    whole = poll(Reading("temperature", 68.0, "°F"))
    assert isinstance(whole.values, array)
    assert whole.values[0] == 20.0
    mixed = poll(Reading("temperature", 68.0, "°F"), Reading("voltage.l1", None, "V"))
    assert mixed.values[0] == 20.0


@pytest.mark.parametrize(
    "quantity",
    [
        "active_power",
        "active_power.l2",
        "active_power.export",
        "reactive_power",
        "apparent_power",
        "demand.active_power",
        "active_power.max",
        "active_power.ch3",
    ],
)
@pytest.mark.parametrize("value", [-2147483648.0, 4294967295.0, 82_801.0, -82_801.0])
def test_more_than_can_flow_is_no_value(quantity: str, value: float) -> None:
    normaliser = Normaliser("m", terms=Terms(max_power=82_800.0))
    unit = CATALOGUE[quantity].unit
    poll = normaliser.poll(
        [Reading(quantity, value, unit), Reading("voltage.l1", 230.0, "V")], 1, 0
    )
    assert poll.value(quantity) is None
    assert poll.doubts[0].quality is Quality.INVALID
    assert "max_power is 82800 W" in poll.doubts[0].reason
    assert poll.value("voltage.l1") == 230.0
    at_the_limit = normaliser.poll([Reading(quantity, math.copysign(82_800.0, value), unit)], 2, 0)
    assert at_the_limit.doubts == {}


def test_where_nobody_says_what_can_flow_more_than_ten_megawatts_is_suspect() -> None:
    poll = Normaliser("m").poll([Reading("active_power", -10_000_001.0, "W")], 1, 0.0)
    assert (poll.value("active_power"), poll.doubts[0].quality) == (-10_000_001.0, Quality.SUSPECT)
    assert "set max_power, or ct" in poll.doubts[0].reason
    assert Normaliser("m").poll([Reading("active_power", -1e7, "W")], 1, 0.0).doubts == {}


@pytest.mark.parametrize("value", [-0.001, -2147483.648, 1.0001e10, 3.4e38])
def test_what_no_counter_shows_is_no_value(value: float) -> None:
    poll = Normaliser("m").poll([Reading("active_energy.export.l1", value, "kWh")], 1, 0.0)
    assert (poll.values[0], poll.doubts[0].quality) == (None, Quality.INVALID)
    assert "count" in poll.doubts[0].reason


def test_a_net_may_be_negative_and_a_large_counter_is_one_where_much_can_flow() -> None:
    normaliser = Normaliser("m", terms=Terms(max_power=1e9))
    readings = [
        Reading("active_energy.net", -5.0, "kWh"),
        Reading("active_energy.import", 5e10, "kWh"),
    ]
    poll = normaliser.poll(readings, 1, 0.0)
    assert (poll.doubts, list(poll.values)) == ({}, [-5000.0, 5e13, 1.0])


def test_factors_and_offsets_come_before_the_direction() -> None:
    calibration = Calibration((("current", 40.0), ("power", 40.0)), (("active_power", 5.0),))
    terms = Terms(swapped=True, calibration=calibration)
    readings = [
        Reading("active_power", 0.5, "kW"),
        Reading("current.l1", 2.0, "A"),
        Reading("temperature", 20.0, "°C"),
    ]
    fast = Normaliser("m", terms=terms).poll(readings, 1, 0.0)
    assert list(fast.values) == [-20_005.0, 80.0, 20.0, 1.0]
    slow = Normaliser("m", terms=terms).poll([*readings, Reading("frequency", None, "Hz")], 1, 0.0)
    assert list(slow.values) == [-20_005.0, 80.0, 20.0, None, 1.0]


def test_a_power_factor_without_a_sign_keeps_it() -> None:
    terms = Terms(swapped=True, sizes=frozenset({"power_factor"}))
    readings = [Reading("power_factor", 0.9, "1"), Reading("power_factor.l1", 0.8, "1")]
    assert list(Normaliser("m", terms=terms).poll(readings, 1, 0.0).values) == [0.9, -0.8, 1.0]
