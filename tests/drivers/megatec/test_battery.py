"""The battery by its voltage: packs, charge, runtime."""

import pytest

from meterd.drivers.megatec import MegatecUps
from meterd.drivers.megatec.battery import guess_packs
from meterd.model.sample import Quality
from tests.drivers.megatec.units import named, options, read, scripted, values


def at(volts: str, load: str = "050", bits: str = "00001000") -> str:
    return f"(230.0 230.0 230.0 {load} 50.0 {volts} 30.0 {bits}"


async def test_the_check_value_of_charge_and_runtime() -> None:
    readings = await read(scripted(at("12.2")), runtimecal="240,100,720,50")
    assert values(readings, "battery.voltage.low", "battery.voltage.high") == [10.4, 13.0]
    assert values(readings, "battery.charge", "battery.runtime") == [69.0, 497.0]
    for name in ("battery.charge", "battery.runtime"):
        assert readings[name].quality is Quality.ESTIMATED
        assert readings[name].reason


async def test_an_idle_ups_still_uses_a_tenth() -> None:
    readings = await read(scripted(at("13.5", "000")), runtimecal=[240, 100, 720, 50])
    assert readings["battery.runtime"].value == 2400.0


@pytest.mark.parametrize(("volts", "load"), [("12.2", "---"), ("--.-", "050")])
async def test_a_runtime_without_load_or_charge_is_not_known(volts: str, load: str) -> None:
    readings = await read(scripted(at(volts, load)), runtimecal="240,100,720,50")
    assert readings["battery.runtime"].value is None
    assert "not known" in readings["battery.runtime"].reason


async def test_without_a_calibration_there_is_no_runtime() -> None:
    assert "battery.runtime" not in await read(scripted(at("12.2")))


async def test_a_nominal_voltage_of_zero_gives_no_thresholds_and_no_charge() -> None:
    readings = await read(scripted(at("13.5"), f=b"#230.0 003 00.00 50.0\r"))
    assert readings["battery.voltage"].value == 13.5
    assert readings["battery.voltage.nominal"].value is None
    assert not {"battery.voltage.low", "battery.packs"} & set(readings)
    assert readings["battery.charge"].value is None
    assert "set battery.nominal" in readings["battery.charge"].reason


async def test_settings_override_what_the_unit_says() -> None:
    battery = {"nominal": "24V", "packs": 2, "low": "20V", "high": 28}
    readings = await read(scripted(at("12.0")), battery=battery)
    names = ("battery.voltage", "battery.voltage.nominal", "battery.packs", "battery.charge")
    assert values(readings, *names) == [24.0, 24.0, 2.0, 50.0]
    assert values(readings, "battery.voltage.low", "battery.voltage.high") == [20.0, 28.0]


async def test_packs_that_cannot_be_give_no_charge_instead_of_0() -> None:
    readings = await read(scripted(at("2.27")), battery={"nominal": "12V", "packs": 1})
    assert readings["battery.voltage"].value == 2.27
    assert readings["battery.charge"].value is None
    assert "battery.packs" in readings["battery.charge"].reason


async def test_one_threshold_on_the_wrong_side_of_the_other_gives_no_charge() -> None:
    readings = await read(scripted(at("12.2")), battery={"low": 14})
    assert readings["battery.charge"].value is None
    assert "battery.high" in readings["battery.charge"].reason


async def test_the_factor_is_found_once_and_kept() -> None:
    # 9.9 V of a 24 V battery alone would be taken for one of three.
    link = scripted(at("13.6"), at("09.9"), f=b"#230.0 003 24.00 50.0\r")
    ups = MegatecUps(link, options())
    polls = [named(await ups.read()) for _ in range(2)]
    assert [poll["battery.voltage"].value for poll in polls] == [27.2, 19.8]
    link.reopen()
    assert named(await ups.read())["battery.voltage"].value == 19.8


async def test_a_voltage_that_fits_nothing_is_given_as_it_came() -> None:
    link = scripted(at("00.0"), at("09.0"), at("13.0"))
    ups = MegatecUps(link, options())
    polls = [named(await ups.read()) for _ in range(3)]
    assert [poll["battery.voltage"].value for poll in polls] == [0.0, 9.0, 13.0]
    assert ["battery.packs" in poll for poll in polls] == [False, False, True]
    assert [poll["battery.charge"].value for poll in polls] == [None, 0.0, 100.0]


@pytest.mark.parametrize(
    ("volts", "nominal", "packs"),
    [
        (13.5, 12, 1),
        (27.2, 24, 1),
        (13.6, 24, 2),
        (27.0, 23.5, 1),
        (2.27, 12, 6),
        (1.64, 36, 18),
        (2.31, 36, 18),
        (1.74, 72, 36),
        (2.29, 96, 48),
        (54.6, 48, 1),
        (109, 96, 1),
        (15.0, 12, 1),
        (15.1, 12, None),
        (26.8, 12, 0.5),
        (8.0, 12, None),
        (27.2, 48, 2),
        (9.9, 24, 2),
        (1.25, 12, None),
        (0.9, 2, None),
    ],
)
def test_packs_by_cells_or_the_table(volts: float, nominal: float, packs: float | None) -> None:
    assert guess_packs(volts, nominal, fine=volts < 3) == packs


async def test_a_battery_of_12_volts_that_reads_2_is_dead_and_no_cell() -> None:
    readings = await read(scripted(at("02.1")))
    assert values(readings, "battery.voltage", "battery.charge") == [2.1, None]
    assert "battery.packs" not in readings


async def test_guessed_packs_make_the_voltage_an_estimate() -> None:
    half = scripted(at("13.6"), f=b"#230.0 003 24.00 50.0\r")
    voltage = (await read(half))["battery.voltage"]
    assert (voltage.value, voltage.quality) == (27.2, Quality.ESTIMATED)
    assert "battery.packs" in voltage.reason
    voltage = (await read(half, battery={"packs": 2}))["battery.voltage"]
    assert (voltage.value, voltage.quality) == (27.2, Quality.GOOD)


class Hours:
    """A clock to be set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now * 3600


@pytest.mark.parametrize("drain", ["10001000", "00001100"])
async def test_mains_voltage_does_not_make_an_empty_battery_full(drain: str) -> None:
    link = scripted(at("13.6"), at("11.7", bits=drain), at("13.2"))
    clock = Hours()
    ups = MegatecUps(link, options(runtimecal="240,100,720,50"), monotonic=clock)
    seen = []
    for hour in (0, 1, 2, 5, 8, 9, 10):
        clock.now = hour
        readings = named(await ups.read())
        charge, runtime = values(readings, "battery.charge", "battery.runtime")
        seen.append(charge)
        assert isinstance(charge, float)
        assert runtime == pytest.approx(7.2 * charge, abs=5)
        assert readings["battery.charge"].quality is Quality.ESTIMATED
    # It counts from the first look on mains: 100 % in 12 hours.
    assert seen == [100, 50, 50, 75, 100, 100, 100]


async def test_the_time_that_charging_takes_can_be_set() -> None:
    link = scripted(at("11.7", bits="10001000"), at("13.2"))
    clock = Hours()
    ups = MegatecUps(link, options(battery={"chargetime": "4h"}), monotonic=clock)
    seen = []
    for hour in (0, 1, 2, 3):
        clock.now = hour
        seen.append(named(await ups.read())["battery.charge"].value)
    assert seen == [50, 50, 75, 100]


async def test_a_second_outage_goes_on_from_what_is_left() -> None:
    volts = (("11.7", "10001000"), ("13.2", "00001000"), ("11.2", "10001000"))
    link = scripted(*(at(value, bits=bits) for value, bits in volts), at("13.2"))
    ups = MegatecUps(link, options(), monotonic=Hours())
    assert [named(await ups.read())["battery.charge"].value for _ in range(4)] == [50, 50, 31, 31]
