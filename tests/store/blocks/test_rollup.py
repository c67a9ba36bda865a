import random
from array import array
from dataclasses import replace
from itertools import pairwise
from math import fsum, inf, isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.model.sample import LARGEST
from meterd.store.blocks.rollup import (
    QUARTER_MS,
    QUARTERS,
    Point,
    QuarterRollup,
    fold,
    total,
)
from meterd.store.blocks.rollup_codec import pack, sections, unpack

from . import old_rollup

DAY = 20_000
MIDNIGHT = DAY * QUARTERS * QUARTER_MS
FIRST = DAY * QUARTERS
STEP = 10_000


def _counted(
    times: list[int],
    values: list[float],
    before: Point | None = None,
    after: Point | None = None,
    within: range | None = None,
) -> dict[int, QuarterRollup]:
    return fold(times, values, counter=True, before=before, after=after, within=within)


def _rises(quarters: dict[int, QuarterRollup]) -> list[int | None]:
    return [one.increase for one in quarters.values()]


@st.composite
def _readings(draw: st.DrawFn) -> tuple[list[int], list[float]]:
    """A counter over some hours, with holes; now and then it falls."""
    steps = draw(st.lists(st.sampled_from([STEP, STEP, 60_000, 7 * 10**6]), max_size=60))
    rises = st.one_of(st.integers(0, 400), st.sampled_from([-5000, 0]))
    times, values = [], []
    at, reading = MIDNIGHT + draw(st.integers(0, 10**6)), 1_000_000
    for step in steps:
        times.append(at)
        values.append(reading / 10)
        at += step
        reading = max(0, reading + draw(rises))
    return times, values


def test_a_quarter_has_count_least_most_and_sum_of_its_values() -> None:
    times = [MIDNIGHT + STEP * n for n in range(100)]
    values = [230.0 + n / 10 for n in range(100)]
    found = fold(times, values, counter=False)
    assert found == {
        FIRST: QuarterRollup(90, 230.0, 238.9, 21100.5),
        FIRST + 1: QuarterRollup(10, 239.0, 239.9, 2394.5),
    }


def test_the_first_millisecond_of_a_quarter_belongs_to_it_and_the_last_too() -> None:
    times = [MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + QUARTER_MS - 1, MIDNIGHT + QUARTER_MS]
    found = fold(times, [1.0] * 4, counter=False)
    assert {number: one.n for number, one in found.items()} == {
        FIRST - 1: 1,
        FIRST: 2,
        FIRST + 1: 1,
    }


def test_nulls_do_not_count() -> None:
    times = [MIDNIGHT, MIDNIGHT + STEP, MIDNIGHT + QUARTER_MS]
    found = fold(times, array("d", [nan, 2.0, nan]), counter=False)
    assert found == {FIRST: QuarterRollup(1, 2.0, 2.0, 2.0)}


def test_a_sum_of_decimals_is_the_decimal_it_is_and_one_of_others_is_exact() -> None:
    times = [MIDNIGHT + n for n in range(90)]
    decimal = fold(times, [230.1] * 90, counter=False)[FIRST]
    assert decimal.sum == 20709.0
    assert fsum([0.1] * 3) != 0.3
    assert fold(times[:3], [0.1] * 3, counter=False)[FIRST].sum == 0.3
    small = fold(times[:2], [1e-9, 1e-9], counter=False)[FIRST]
    assert small.sum == 2e-9


def test_a_reading_at_the_edge_is_interpolated_between_its_neighbours() -> None:
    edge = MIDNIGHT + QUARTER_MS
    times = [MIDNIGHT, edge - 4000, edge + 6000, edge + QUARTER_MS]
    found = _counted(times, [100.0, 200.0, 210.0, 300.0])
    assert _rises(found) == [104_000, 96_000, 0]


def test_samples_outside_count_up_to_the_edge_of_the_stretch() -> None:
    before, after = (MIDNIGHT - 5000, 100.0), (MIDNIGHT + QUARTER_MS + 5000, 200.0)
    times = [MIDNIGHT + 5000, MIDNIGHT + QUARTER_MS - 5000]
    assert _rises(_counted(times, [110.0, 190.0], before, after)) == [90_000]
    assert _rises(_counted(times, [110.0, 190.0])) == [80_000]


def test_both_days_give_a_step_over_midnight_its_share_and_nothing_is_lost() -> None:
    eve, morning = (MIDNIGHT - 3000, 100.0), (MIDNIGHT + 7000, 100.007)
    today = _counted([morning[0]], [morning[1]], before=eve)
    yesterday = _counted([eve[0]], [eve[1]], after=morning)
    assert _rises(yesterday) == [2]
    assert _rises(today) == [5]


def test_quarters_in_a_hole_get_their_share_and_say_so() -> None:
    hour = 4 * QUARTER_MS
    times = [MIDNIGHT, MIDNIGHT + STEP, MIDNIGHT + hour + STEP, MIDNIGHT + hour + 2 * STEP]
    found = _counted(times, [0.0, 0.0, 360.0, 360.0])
    assert [one.n for one in found.values()] == [2, 0, 0, 0, 2]
    assert [one.estimated for one in found.values()] == [True] * 5
    assert _rises(found) == [89_000, 90_000, 90_000, 90_000, 1000]
    assert isnan(found[FIRST + 1].min)
    assert found[FIRST + 1].sum == 0.0


def test_a_hole_in_which_nothing_rose_is_no_guess() -> None:
    hour = 4 * QUARTER_MS
    found = _counted([MIDNIGHT, MIDNIGHT + hour], [5.0, 5.0])
    assert not any(one.estimated for one in found.values())


def test_three_usual_steps_are_no_hole() -> None:
    half = 2 * QUARTER_MS
    times = [MIDNIGHT + half * n for n in range(3)]
    assert not any(one.estimated for one in _counted(times, [1.0, 2.0, 3.0]).values())
    times = [MIDNIGHT, MIDNIGHT + STEP, MIDNIGHT + 2 * STEP, MIDNIGHT + 2 * STEP + half]
    assert all(one.estimated for one in _counted(times, [1.0, 2.0, 3.0, 4.0]).values())


def test_who_reads_more_rarely_than_each_hour_tells_sums_and_no_quarter_hours() -> None:
    hour = 4 * QUARTER_MS
    for step, guessed in ((hour, False), (3 * hour, False), (4 * hour, True)):
        times = [MIDNIGHT + step * n for n in range(4)]
        found = _counted(times, [1.0, 2.0, 3.0, 4.0])
        assert {one.estimated for one in list(found.values())[:-1]} == {guessed}
        # Two samples do not tell how often it is read.
        two = _counted(times[:2], [1.0, 2.0])
        assert all(one.estimated for one in list(two.values())[:-1])


def test_a_fall_is_no_rise_and_counting_goes_on_from_there() -> None:
    times = [MIDNIGHT + STEP * n for n in range(5)]
    found = _counted(times, [100.0, 105.0, 3.0, 7.0, 8.0])
    assert _rises(found) == [10_000]


def test_a_fall_is_found_at_the_samples_outside_as_well() -> None:
    before, after = (MIDNIGHT - STEP, 500.0), (MIDNIGHT + QUARTER_MS, 1.0)
    found = _counted([MIDNIGHT, MIDNIGHT + STEP], [3.0, 5.0], before, after)
    assert _rises(found) == [2000]


def test_a_stretch_without_samples_has_the_quarters_of_its_hole() -> None:
    before, after = (MIDNIGHT - 1, 0.0), (MIDNIGHT + 4 * QUARTER_MS + 1, 4.0)
    found = _counted([], [], before, after)
    assert list(found) == list(range(FIRST, FIRST + 4))
    assert {one.n for one in found.values()} == {0}
    assert _counted([], [], before) == {}
    assert fold([], [], counter=False) == {}


def test_within_cuts_a_long_hole_to_the_day() -> None:
    year = 365 * QUARTERS * QUARTER_MS
    before, after = (MIDNIGHT - year, 0.0), (MIDNIGHT + year, 2 * 365 * 96.0)
    day = range(FIRST, FIRST + QUARTERS)
    found = _counted([], [], before, after, within=day)
    assert list(found) == list(day)
    assert _rises(found) == [1000] * QUARTERS


@given(_readings())
def test_increases_add_up_to_the_whole_rise(readings: tuple[list[int], list[float]]) -> None:
    times, values = readings
    thousandths = [round(1000 * value) for value in values]
    rises = [max(0, other - one) for one, other in pairwise(thousandths)]
    found = _counted(times, values)
    assert sum(rise or 0 for rise in _rises(found)) == sum(rises)
    assert all(rise is not None and rise >= 0 for rise in _rises(found))


@given(_readings(), st.integers(0, 60))
def test_stretches_folded_apart_add_up_to_the_same(
    readings: tuple[list[int], list[float]], hour: int
) -> None:
    times, values = readings
    edge = (FIRST + hour) * QUARTER_MS
    at = sum(time < edge for time in times)
    points = list(zip(times, values, strict=True))
    left = range(edge // QUARTER_MS)
    right = range(edge // QUARTER_MS, 2**40)
    after = points[at] if at < len(points) else None
    before = points[at - 1] if at else None
    apart = {
        **_counted(times[:at], values[:at], after=after, within=left),
        **_counted(times[at:], values[at:], before=before, within=right),
    }
    whole = _counted(times, values)
    assert list(apart) == list(whole)
    assert sum(rise or 0 for rise in _rises(apart)) == sum(rise or 0 for rise in _rises(whole))
    if all(one != other for one, other in pairwise(values)):
        # A counter that stands may look frozen to who sees more of it.
        assert _rises(apart) == _rises(whole)


def _exact(quarters: dict[int, QuarterRollup]) -> list[tuple[object, ...]]:
    """NaN equals NaN here, and 0.0 is not -0.0."""
    return [
        (number, one.n, one.increase, one.estimated, array("d", [one.min, one.max, one.sum]))
        if one.n
        else (number, one.increase, one.estimated)
        for number, one in quarters.items()
    ]


_numbers = st.floats(-LARGEST, LARGEST)
_full = st.builds(
    QuarterRollup,
    st.integers(1, 900_000),
    _numbers,
    _numbers,
    _numbers,
    st.none() | st.integers(0, 2**62),
    st.booleans(),
)
_hollow = st.builds(
    lambda rise, guess: QuarterRollup(0, nan, nan, 0.0, rise, guess),
    st.integers(0, 2**40),
    st.booleans(),
)


@given(st.integers(-1000, 40_000), st.dictionaries(st.integers(0, 95), _full | _hollow))
def test_a_packed_day_comes_back_bit_for_bit(day: int, places: dict[int, QuarterRollup]) -> None:
    quarters = {day * QUARTERS + place: places[place] for place in sorted(places)}
    back_day, back = unpack(pack(day, quarters))
    assert back_day == day
    assert list(back) == list(quarters)
    assert _exact(back) == _exact(quarters)


def test_a_day_at_ten_seconds_packs_into_600_bytes() -> None:
    rng = random.Random(5)
    times = [MIDNIGHT + STEP * n for n in range(8640)]
    for spread, digits in ((0.6, 1), (0.01, 3), (25.0, 1)):
        values = [round(230 + rng.gauss(0, spread), digits) for _ in times]
        body = pack(DAY, fold(times, values, counter=False))
        assert len(body) <= 600


def test_quarters_of_another_day_are_refused() -> None:
    with pytest.raises(ValueError, match="not all of day 20001"):
        pack(DAY + 1, {FIRST: QuarterRollup(1, 1.0, 1.0, 1.0)})


def test_a_total_leaves_out_quarters_without_values() -> None:
    parts = [
        QuarterRollup(2, 1.0, 3.0, 4.0, 500),
        QuarterRollup(0, nan, nan, 0.0, 70, True),
        QuarterRollup(1, 0.5, 0.5, 0.5, 5),
    ]
    assert total(parts) == QuarterRollup(3, 0.5, 3.0, 4.5, 575, True)
    nothing = total([])
    assert (nothing.n, nothing.sum, nothing.increase) == (0, 0.0, None)
    assert isnan(nothing.min)


def test_a_sum_beyond_all_doubles_is_infinite_and_raises_nothing() -> None:
    found = fold([MIDNIGHT, MIDNIGHT + 1], [1.7e308, 1.7e308], counter=False)
    assert found[FIRST] == QuarterRollup(2, 1.7e308, 1.7e308, inf)
    assert total([*found.values(), QuarterRollup(1, 1.0, 1.0, 1.0)]).sum == inf
    # No such value is kept today; of what an older meterd kept nothing is told.
    _, back = unpack(pack(DAY, found))
    assert (back[FIRST].n, isnan(back[FIRST].max), isnan(back[FIRST].sum)) == (2, True, True)


def test_a_counter_does_not_count_by_a_reading_that_no_counter_has() -> None:
    times = [MIDNIGHT, MIDNIGHT + 1, MIDNIGHT + 2]
    found = _counted(times, [5.0, 1e300, 6.0])
    assert found == {FIRST: QuarterRollup(3, 5.0, 1e300, 1e300, 1000)}
    assert unpack(pack(DAY, found)) == (DAY, found)


def test_a_total_does_not_rise_twice_because_of_samples_at_a_wrong_time() -> None:
    """Six polls of 30 s, taken two hours before the time at which they stand."""
    times = [start * 60_000 for start in range(240)]
    values = [1000.0 + 50 * place for place in range(240)]
    strays = [(120 * 60_000 + 1 + 5000 * n, 1000.0 + n) for n in range(6)]
    both = sorted([*zip(times, values, strict=True), *strays])
    plain = fold(times, values, counter=True, total=True)
    found = fold([t for t, _ in both], [v for _, v in both], counter=True, total=True)
    assert _rises(found) == _rises(plain)
    assert [number for number, one in found.items() if one.estimated] == [8]
    assert not any(one.estimated for one in plain.values())
    # A register that falls has been reset, and what follows is energy.
    register = fold([t for t, _ in both], [v for _, v in both], counter=True)
    assert sum(one.increase or 0 for one in register.values()) > 17_000_000


_tenths = st.integers(-(10**6), 10**6).map(lambda whole: whole / 10)


@given(st.lists(st.tuples(st.integers(0, 96 * 15 - 1), _tenths), max_size=60), st.booleans())
def test_a_sample_at_a_half_hour_comes_back_apart_from_the_others(
    polls: list[tuple[int, float]], minutes: bool
) -> None:
    samples = dict(polls)
    unit = 60_000 if minutes else 59_999
    times = [MIDNIGHT + minute * unit for minute in sorted(samples)]
    values = [samples[minute] for minute in sorted(samples)]
    quarters = fold(times, values, counter=False)
    found = unpack(pack(DAY, quarters))[1]
    assert found == quarters
    by_time = dict(zip(times, values, strict=True))
    for number, quarter in found.items():
        start = number * QUARTER_MS
        others = [v for t, v in by_time.items() if start < t < start + QUARTER_MS]
        if start not in by_time or number % 2:
            assert quarter.aligned is None
            continue
        assert quarter.aligned is not None
        assert quarter.aligned.value == by_time[start]
        assert quarter.aligned.sum == pytest.approx(fsum(others), abs=1e-6)
        if others:
            assert quarter.aligned[1:3] == (min(others), max(others))


def test_edges_of_doubles_that_are_no_decimals_are_not_known() -> None:
    times = [MIDNIGHT, MIDNIGHT + STEP]
    body = pack(DAY, fold(times, [1 / 3, 2 / 3], counter=False))
    assert not sections(body).aligned_known
    assert unpack(body)[1][FIRST].aligned is None
    later = pack(DAY, fold([MIDNIGHT + 1, MIDNIGHT + STEP], [1 / 3, 2 / 3], counter=False))
    assert sections(later).aligned_known


def test_a_day_of_a_meter_at_a_minute_takes_less_than_before() -> None:
    chance = random.Random(4)
    watts, values = 3000, []
    for _ in range(1440):
        watts = max(0, watts + chance.randrange(-400, 401))
        values.append(watts / 10)
    aligned = [MIDNIGHT + 60_000 * n for n in range(1440)]
    apart = [time + 7 for time in aligned]
    before = len(old_rollup.pack(DAY, fold(apart, values, counter=False)))
    assert len(pack(DAY, fold(apart, values, counter=False))) < 0.8 * before
    assert len(pack(DAY, fold(aligned, values, counter=False))) < before


@given(_readings())
def test_what_an_older_meterd_packed_is_read(readings: tuple[list[int], list[float]]) -> None:
    quarters = {
        number: one
        for number, one in fold(*readings, counter=True).items()
        if number // QUARTERS == DAY
    }
    body = old_rollup.pack(DAY, quarters)
    # As texts: NaN is not equal to itself.
    without = {number: replace(one, aligned=None) for number, one in sorted(quarters.items())}
    assert repr(unpack(body)) == repr((DAY, without))
    assert not sections(body).aligned_known
