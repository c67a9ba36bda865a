import pytest

from meterd.sim.household import DAY, HOUR, Household, SolarRoof


def test_the_house_begins_with_the_measured_minute() -> None:
    # The extract's first row: 1374 W, 0 var, 241.55 V.
    first = Household().at(0.0)
    assert (first.active, first.reactive, first.voltage) == pytest.approx((1374.0, 0.0, 241.55))
    assert first.current == pytest.approx(1374.0 / 241.55)


def test_two_days_take_what_the_house_took() -> None:
    # The sum of the extract's p_w over 60; straight lines between minutes leave it as it is.
    assert Household().energy(2 * DAY).active_import == pytest.approx(109_016.567, abs=0.01)


@pytest.mark.parametrize("source", [Household(), Household(7.5 * HOUR), SolarRoof(10 * HOUR)])
def test_energy_never_falls_over_two_days(source: Household | SolarRoof) -> None:
    before = source.energy(0.0)
    for t in range(0, int(2 * DAY) + 60, 13):
        now = source.energy(float(t))
        assert now.active_import >= before.active_import
        assert now.active_export >= before.active_export
        assert now.reactive_import >= before.reactive_import
        before = now


def test_power_is_what_energy_grows_by() -> None:
    house = Household(3 * HOUR)
    grown = house.energy(1000.05).active_import - house.energy(999.95).active_import
    assert grown * 3600 / 0.1 == pytest.approx(house.at(1000.0).active, rel=1e-4)


def test_another_offset_is_another_time_of_the_same_house() -> None:
    assert Household(500.0).at(20.0) == Household().at(520.0)
    assert Household(500.0).energy(0.0).active_import == 0.0


def test_the_same_second_is_always_the_same() -> None:
    assert Household().at(1234.567) == Household().at(1234.567)


def test_the_roof_gives_by_day_and_draws_by_night() -> None:
    roof = SolarRoof()
    assert roof.at(12 * HOUR).active < -500
    assert roof.at(2 * HOUR).active == pytest.approx(4.0, rel=0.02)
    night, day = roof.energy(6 * HOUR), roof.energy(DAY)
    assert night.active_export == 0.0
    assert 8_000 < day.active_export < 30_000
    assert day.active_import == pytest.approx(4.0 * 14.5, rel=0.02)
