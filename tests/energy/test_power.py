from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.energy.power import integrate, sum_phases
from meterd.energy.quarter import QUARTER
from meterd.energy.tally import EnergyDirection

MINUTE = 60_000
Samples = list[tuple[int, float | None]]


def steady(watts: float, start: int, end: int, every: int = MINUTE) -> Samples:
    return [(time, watts) for time in range(start, end + 1, every)]


def rises(samples: Samples, way: EnergyDirection = EnergyDirection.IMPORT) -> dict[int, int]:
    found = integrate(samples, MINUTE, way)
    assert all(one.estimated for one in found)
    return {one.start // QUARTER: one.increase for one in found}


def test_a_kilowatt_for_an_hour_is_a_kilowatt_hour() -> None:
    assert sum(rises(steady(1000, 0, 4 * QUARTER)).values()) == 1_000_000


def test_a_slope_is_its_mean() -> None:
    samples: Samples = [(t, t / QUARTER * 1000) for t in range(0, QUARTER + 1, MINUTE)]
    assert rises(samples) == {0: 125_000}


def test_only_quarter_hours_that_are_covered_from_end_to_end_are_known() -> None:
    assert set(rises(steady(1000, 5 * MINUTE, 50 * MINUTE))) == {1, 2}
    assert rises(steady(1000, MINUTE, 14 * MINUTE)) == {}
    assert rises([]) == {}


def test_three_intervals_are_bridged_and_a_longer_hole_is_not() -> None:
    whole = steady(1000, 0, 3 * QUARTER)
    bridged = [one for one in whole if not 20 * MINUTE < one[0] < 23 * MINUTE]
    assert rises(bridged) == rises(whole)
    hole = [one for one in whole if not 20 * MINUTE < one[0] < 24 * MINUTE]
    assert set(rises(hole)) == {0, 2}


@pytest.mark.parametrize("interval", [1000, MINUTE, 24 * QUARTER])
@pytest.mark.parametrize("every", [10_000, MINUTE, 5 * MINUTE, QUARTER, 4 * QUARTER])
def test_samples_tell_their_own_pace_whatever_the_device_is_asked_at_now(
    every: int, interval: int
) -> None:
    found = integrate(steady(1000, 0, 48 * QUARTER, every), interval)
    assert [one.increase for one in found] == [250_000] * 48
    after = steady(1000, 48 * QUARTER + 4 * every, 96 * QUARTER, every)
    holed = integrate([*steady(1000, 0, 48 * QUARTER, every), *after], interval)
    assert {48} <= set(range(96)) - {one.start // QUARTER for one in holed}


def test_a_history_of_two_paces_is_known_on_both_sides_of_the_change() -> None:
    slow, fast = (
        steady(1000, 0, 4 * QUARTER, 5 * MINUTE),
        steady(1000, 4 * QUARTER, 8 * QUARTER, 10_000),
    )
    for samples in (
        [*slow, *fast[1:]],
        [
            *steady(1000, 0, 4 * QUARTER, 10_000),
            *steady(1000, 4 * QUARTER + 5 * MINUTE, 8 * QUARTER, 5 * MINUTE),
        ],
    ):
        assert set(rises(samples)) == set(range(8))
    # A minute without samples is a hole where they come each ten seconds.
    assert 5 not in rises([one for one in [*slow, *fast[1:]] if not 80 < one[0] // MINUTE <= 81])


def test_samples_too_far_apart_to_tell_the_power_are_not_joined() -> None:
    assert integrate(steady(1000, 0, 48 * QUARTER, 16 * QUARTER), MINUTE) == []
    assert integrate([(0, 1000.0), (16 * QUARTER, 1000.0)], 16 * QUARTER) == []
    assert len(integrate([(0, 1000.0), (2 * QUARTER, 1000.0)], QUARTER)) == 2


def test_a_hole_over_an_edge_takes_both_sides_with_it() -> None:
    samples = [one for one in steady(1000, 0, 4 * QUARTER) if not 28 <= one[0] // MINUTE <= 32]
    assert set(rises(samples)) == {0, 3}


def test_values_that_are_not_there_are_holes() -> None:
    samples: Samples = [
        (time, None if 20 <= time // MINUTE <= 24 else value)
        for time, value in steady(1000, 0, 3 * QUARTER)
    ]
    assert set(rises(samples)) == {0, 2}


def test_export_is_the_negative_part_and_net_the_difference() -> None:
    samples: Samples = [(0, -1000.0), (QUARTER, 1000.0)]
    found = {way: integrate(samples, QUARTER, way)[0].increase for way in EnergyDirection}
    # Two triangles of half a quarter hour: 1000 W * 450 s / 2 = 62.5 Wh.
    assert found == {
        EnergyDirection.IMPORT: 62_500,
        EnergyDirection.EXPORT: 62_500,
        EnergyDirection.NET: 0,
    }


def test_late_and_repeated_samples_count_once() -> None:
    samples = steady(1000, 0, QUARTER)
    assert rises([*samples[:9], samples[3], *samples[8:]]) == rises(samples)


_watts = st.floats(-20_000, 20_000)
_steps = st.lists(st.tuples(st.integers(MINUTE, 3 * MINUTE), _watts), min_size=2, max_size=200)


def walk(steps: Sequence[tuple[int, float]]) -> Samples:
    found: Samples = []
    time = 0
    for step, watts in steps:
        found.append((time, watts))
        time += step
    return found


@given(_steps)
def test_import_less_export_is_net_in_every_quarter_hour(steps: list[tuple[int, float]]) -> None:
    samples = walk(steps)
    found = {way: rises(samples, way) for way in EnergyDirection}
    assert (
        set(found[EnergyDirection.IMPORT])
        == set(found[EnergyDirection.EXPORT])
        == set(found[EnergyDirection.NET])
    )
    for quarter, net in found[EnergyDirection.NET].items():
        assert (
            net == found[EnergyDirection.IMPORT][quarter] - found[EnergyDirection.EXPORT][quarter]
        )
        assert found[EnergyDirection.IMPORT][quarter] >= 0 <= found[EnergyDirection.EXPORT][quarter]


@given(_steps)
def test_the_sum_is_the_area_under_the_line(steps: list[tuple[int, float]]) -> None:
    samples = walk(steps)
    found = rises(samples, EnergyDirection.NET)
    end = QUARTER * len(found)
    area = 0.0
    for (before, a), (after, b) in pairwise(samples):
        assert a is not None
        assert b is not None
        last = min(after, end)
        if before < last:
            c = a + (b - a) * (last - before) / (after - before)
            area += (a + c) / 2 * (last - before)
    assert sum(found.values()) == pytest.approx(area / 3600, abs=2 * len(found) + 1)


def test_phases_are_added_where_all_are_known() -> None:
    one: Samples = [(0, 1.0), (1, 2.0), (2, None), (3, 4.0)]
    two: Samples = [(0, 10.0), (1, 20.0), (2, 30.0)]
    assert sum_phases([one, two]) == [(0, 11.0), (1, 22.0), (2, None), (3, None)]
    assert sum_phases([]) == []
