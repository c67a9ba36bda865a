"""Series that share their times are cut and joined as each would be alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from meterd.store.query.series_array import SeriesArray, SharedTimes, concatenate

_times = st.lists(st.integers(0, 60), max_size=8, unique=True).map(sorted)


def tracks(times: list[int], count: int) -> list[SeriesArray]:
    shared = np.array(times, np.int64)
    return [SeriesArray(shared, np.random.default_rng(n).random(len(times))) for n in range(count)]


@given(st.lists(_times, max_size=4), st.integers(0, 60), st.integers(0, 60))
def test_the_same_as_alone(blocks: list[list[int]], start: int, end: int) -> None:
    parts = [tracks(times, 3) for times in blocks]
    shared = SharedTimes()
    for row in range(3):
        mine = [part[row] for part in parts]
        cut = [shared.within(part, start, max(start, end)) for part in mine]
        for part, whole in zip(cut, mine, strict=True):
            wanted = whole.within(start, max(start, end))
            assert part.times.tolist() == wanted.times.tolist()
            assert part.values.tolist() == wanted.values.tolist()
        joined, wanted = shared.concatenate(cut), concatenate(cut)
        assert joined.times.tolist() == wanted.times.tolist()
        assert joined.values.tolist() == wanted.values.tolist()


def test_what_comes_out_shares_its_times_again() -> None:
    shared = SharedTimes()
    early, late = tracks([1, 2, 3], 2), tracks([4, 5, 6], 2)
    joined = [
        shared.concatenate([shared.within(part, 2, 6) for part in pair])
        for pair in zip(early, late, strict=True)
    ]
    assert joined[0].times.tolist() == [2, 3, 4, 5]
    assert joined[0].times is joined[1].times
