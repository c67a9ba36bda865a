import pytest

from meterd.sim.trace import Trace


def test_whole_minutes_are_the_values_themselves() -> None:
    trace = Trace([10.0, 40.0, 20.0], ripple=0.1, cycles=4)
    assert [trace.at(t) for t in (0, 60, 120, 180)] == pytest.approx([10, 40, 20, 10])


def test_between_minutes_lies_a_straight_line() -> None:
    assert Trace([10.0, 40.0]).at(20.0) == pytest.approx(20.0)


def test_the_integral_is_the_area_under_the_line() -> None:
    # Two trapezoids: 60 s * (10 + 40) / 2, twice.
    trace = Trace([10.0, 40.0])
    assert trace.integral(120.0) == pytest.approx(3000.0)
    assert trace.integral(20.0) == pytest.approx(20 * (10 + 20) / 2)
    assert trace.integral(-60.0) == pytest.approx(-1500.0)


def test_the_integral_of_the_ripple_agrees_with_small_steps() -> None:
    trace = Trace([300.0, 900.0, 200.0], ripple=0.05, cycles=7)
    step = 0.01
    summed = sum(trace.at((i + 0.5) * step) * step for i in range(int(200 / step)))
    assert trace.integral(200.0) == pytest.approx(summed, rel=1e-6)


def test_it_repeats_after_its_period() -> None:
    trace = Trace([10.0, 40.0, 20.0], ripple=0.1, cycles=4)
    assert trace.at(trace.period * 5 + 33.0) == pytest.approx(trace.at(33.0))
    once = trace.integral(trace.period)
    assert trace.integral(trace.period * 5 + 33.0) == pytest.approx(5 * once + trace.integral(33.0))
