from hypothesis import given
from hypothesis import strategies as st

from meterd.energy.quarter import QUARTER, Quarter
from meterd.energy.rise import rises

MINUTE = 60_000


def test_a_line_is_read_off_at_quarter_hours() -> None:
    samples = [(0, 5.0), (QUARTER // 3, 6.0), (2 * QUARTER, 11.0)]
    assert rises(samples, MINUTE) == [Quarter(0, 3000, True), Quarter(QUARTER, 3000, True)]


def test_a_hole_is_longer_than_a_quarter_hour_and_three_intervals() -> None:
    samples = [(0, 0.0), (QUARTER, 1.0), (3 * QUARTER, 3.0), (4 * QUARTER, 4.0)]
    assert [one.estimated for one in rises(samples, MINUTE)] == [False, True, True, False]
    assert [one.estimated for one in rises(samples, QUARTER)] == [False] * 4


def test_every_quarter_hour_that_a_hole_touches_is_an_estimate() -> None:
    samples = [(n * MINUTE, float(n)) for n in range(91) if not 20 < n < 50]
    assert [one.estimated for one in rises(samples, MINUTE)] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]


def test_ends_that_are_cut_off_are_not_known() -> None:
    samples = [(5 * MINUTE, 1.0), (40 * MINUTE, 2.0)]
    assert [one.start for one in rises(samples, MINUTE)] == [QUARTER]


def test_a_total_that_falls_begins_anew() -> None:
    samples = [(n * MINUTE, float(n if n < 20 else n - 20)) for n in range(61)]
    found = {one.start // QUARTER: one.increase for one in rises(samples, MINUTE)}
    assert found == {0: 15_000, 2: 15_000, 3: 15_000}


def test_nulls_are_no_samples() -> None:
    assert rises([(0, None)], MINUTE) == []
    assert rises([(0, 1.0), (MINUTE, None), (QUARTER, 2.0)], MINUTE) == [Quarter(0, 1000, False)]


@given(
    st.lists(st.tuples(st.integers(1, 5_000_000), st.floats(0, 1e5)), min_size=2, max_size=80),
    st.data(),
)
def test_parts_of_a_history_rise_as_the_whole_does(
    steps: list[tuple[int, float]], data: st.DataObject
) -> None:
    samples, time, total = [], 0, 0.0
    for step, rise in steps:
        samples.append((time, total))
        time, total = time + step, total + rise
    whole = rises(samples, MINUTE)
    if len(whole) < 2:
        return
    first, last = samples[0][1], samples[-1][1]
    assert sum(one.increase for one in whole) <= round(last * 1000) - round(first * 1000)
    # Asked for from an edge on, with its neighbour before: the same quarter hours.
    edge = data.draw(st.integers(1, len(whole) - 1))
    near = max(n for n, (at, _) in enumerate(samples) if at <= whole[edge].start)
    assert rises(samples[near:], MINUTE)[-(len(whole) - edge) :] == whole[edge:]
