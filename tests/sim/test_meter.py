import pytest

from meterd.drivers.map_library import load_map, shipped
from meterd.model.quantity import CATALOGUE, INFO
from meterd.sim.household import DAY
from meterd.sim.meter import house_meter, phases_of, solar_meter
from meterd.sim.registers import encode


def number(values: dict[str, float | str | None], name: str) -> float:
    value = values[name]
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_map_can_be_simulated(name: str) -> None:
    register_map = load_map(name)
    values = house_meter(register_map).values(4321.0)
    image = encode(register_map, values)
    for row in register_map.rows:
        places = range(row.address, row.address + row.words)
        assert row.alone or all(place in image.words[row.function] for place in places)


@pytest.mark.parametrize("name", shipped())
def test_values_are_plausible_and_known(name: str) -> None:
    values = house_meter(load_map(name)).values(4321.0)
    for quantity, value in values.items():
        if quantity in CATALOGUE:
            assert CATALOGUE[quantity].plausible(number(values, quantity)), (quantity, value)
        else:
            assert quantity in INFO or quantity.startswith("thd.")


def test_three_phases_add_up() -> None:
    values = house_meter(load_map("eastron_sdm630")).values(100.0)
    phases = ("l1", "l2", "l3")
    for family in ("active_power", "reactive_power", "active_energy.import"):
        parts = sum(number(values, f"{family}.{phase}") for phase in phases)
        assert parts == pytest.approx(number(values, family))
    assert number(values, "power_factor") == pytest.approx(
        number(values, "active_power") / number(values, "apparent_power")
    )
    assert 380 < number(values, "voltage.l12") < 430


def test_one_phase_is_the_whole_meter() -> None:
    register_map = load_map("eastron_sdm120")
    values = house_meter(register_map).values(100.0)
    assert phases_of(register_map) == 1
    assert values["active_power"] == values["active_power.l1"]


def test_the_solar_meter_gives_by_day() -> None:
    values = solar_meter(load_map("eastron_sdm120"), 12 * 3600.0).values(60.0)
    assert number(values, "active_power") < 0
    assert number(values, "active_power.export") > 0
    assert number(values, "power_factor") < 0
    assert number(values, "demand.active_power") < 0


def test_counters_never_fall_over_two_days() -> None:
    meter = house_meter(load_map("eastron_sdm630"))
    counters = [name for name in meter.values(0.0) if "energy" in name and ".net" not in name]
    assert len(counters) > 30
    before = meter.values(0.0)
    for t in range(0, int(2 * DAY), 607):
        now = meter.values(float(t))
        assert all(number(now, name) >= number(before, name) for name in counters)
        before = now


def test_the_largest_demand_is_never_below_the_demand() -> None:
    meter = house_meter(load_map("eastron_sdm630"))
    for t in range(0, int(DAY), 1009):
        values = meter.values(float(t))
        assert number(values, "demand.active_power.max") >= number(values, "demand.active_power")
