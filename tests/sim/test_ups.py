import pytest

from meterd.errors import ConfigError
from meterd.sim.ups import Script, Ups, UpsState
from tests.sim.clock import StoppedClock


def ups(script: str = "", **settings: float) -> tuple[StoppedClock, Ups]:
    clock = StoppedClock()
    return clock, Ups(clock=clock, script=Script.parse(script), **settings)


def test_scripts_are_written_so() -> None:
    script = Script.parse("15s+20s/3m")
    assert script == Script(((15.0, 20.0),), 180.0)
    failed = [t for t in range(400) if not script.mains(float(t))]
    assert failed == [*range(15, 35), *range(195, 215), *range(375, 395)]
    assert Script.parse("1+2,10m+1h").outages == ((1.0, 2.0), (600.0, 3600.0))
    assert Script.parse("").mains(0.0)
    with pytest.raises(ConfigError, match="15s\\+20s"):
        Script.parse("tomorrow")


def test_on_mains_it_passes_the_voltage_through() -> None:
    _, model = ups()
    view = model.view()
    assert model.state() is UpsState.ONLINE
    assert view.input_voltage == view.output_voltage == view.fault_voltage
    assert view.battery_voltage == pytest.approx(13.65)
    assert not view.utility_failed


def test_an_outage_is_survived_and_the_battery_charged_again() -> None:
    clock, model = ups(load=50.0)
    model.outage(120.0)
    clock.now += 1
    failed = model.view()
    assert failed.utility_failed
    assert failed.input_voltage < 10
    assert failed.output_voltage == 230
    assert failed.battery_voltage < 13
    clock.now += 100
    assert model.state() is UpsState.ON_BATTERY
    used = model.charge
    assert used < 0.95
    clock.now += 30
    assert model.state() is UpsState.ONLINE
    lowest = model.charge
    clock.now += 3600
    assert model.state() is UpsState.ONLINE
    assert model.charge > lowest


def test_the_battery_sinks_until_it_is_low_and_then_empty() -> None:
    clock, model = ups(load=50.0)
    model.outage(3600.0)
    seen = []
    volts = []
    for _ in range(1200):
        clock.now += 1
        seen.append(model.state())
        volts.append(model.view().battery_voltage)
    turns = [state for state, before in zip(seen[1:], seen, strict=False) if state != before]
    assert turns == [UpsState.LOW_BATTERY, UpsState.OFF]
    # At half load a 600 VA UPS lasts about 12 minutes, and warns a minute before.
    assert 600 < seen.index(UpsState.OFF) < 800
    assert 30 < seen.count(UpsState.LOW_BATTERY) < 150
    assert volts[300] < volts[10]
    assert not model.has_power()


def test_it_returns_with_the_mains_still_low() -> None:
    clock, model = ups(load=80.0)
    model.outage(1000.0)
    clock.now += 999
    assert not model.has_power()
    clock.now += 2
    assert model.has_power()
    clock.now += 20
    view = model.view()
    assert model.state() is UpsState.ONLINE
    assert view.battery_low
    assert not view.utility_failed


def test_the_fault_voltage_is_held_until_it_was_read_once() -> None:
    clock, model = ups()
    model.outage(5.0)
    clock.now += 10
    assert model.view().fault_voltage == 158.0
    assert model.view().fault_voltage == model.view().input_voltage


def test_a_quick_test_takes_ten_seconds() -> None:
    clock, model = ups()
    model.test()
    clock.now += 5
    assert model.view().testing
    assert model.view().battery_voltage < 13
    clock.now += 6
    assert not model.view().testing


def test_a_deep_test_ends_when_the_battery_is_low_and_keeps_the_load() -> None:
    clock, model = ups(load=50.0)
    model.test(99 * 60.0)
    clock.now += 1500
    assert not model.view().testing
    assert model.state() is UpsState.ONLINE
    assert 0 < model.charge < 0.2


def test_a_test_can_be_cancelled_and_ends_with_the_mains() -> None:
    clock, model = ups()
    model.test(600.0)
    model.cancel_test()
    clock.now += 1
    assert not model.view().testing
    model.test(600.0)
    model.outage(5.0)
    clock.now += 20
    assert not model.view().testing


def test_a_shutdown_cuts_and_restores() -> None:
    clock, model = ups()
    model.shutdown(30.0, 180.0)
    clock.now += 20
    assert model.view().shutting_down
    assert model.state() is UpsState.ONLINE
    clock.now += 15
    view = model.view()
    assert model.state() is UpsState.OFF
    assert (view.output_voltage, view.load, view.frequency) == (0, 0, 0)
    clock.now += 180
    assert model.state() is UpsState.ONLINE


def test_a_shutdown_without_return_stays_off_until_it_is_cancelled() -> None:
    clock, model = ups()
    model.shutdown(1.0, None)
    clock.now += 5000
    assert model.state() is UpsState.OFF
    model.cancel_shutdown()
    clock.now += 11
    assert model.state() is UpsState.ONLINE


def test_a_shutdown_can_be_cancelled_in_time() -> None:
    clock, model = ups()
    model.shutdown(30.0)
    clock.now += 10
    model.cancel_shutdown()
    clock.now += 100
    assert model.state() is UpsState.ONLINE
    assert not model.view().shutting_down


def test_many_small_looks_and_one_large_step_see_the_same() -> None:
    clock_a, often = ups("10+100", load=60.0)
    clock_b, once = ups("10+100", load=60.0)
    for _ in range(200):
        clock_a.now += 1
        often.view()
    clock_b.now += 200
    assert once.charge == 1.0  # nothing has been looked at yet
    assert once.view().battery_voltage == pytest.approx(often.view().battery_voltage, rel=1e-3)
    assert once.charge == pytest.approx(often.charge, rel=1e-3)
