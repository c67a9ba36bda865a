"""Samples of a running total at wrong times: found as the fewest that explain why it falls."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterd.store.blocks.sample_order import misplaced


@pytest.mark.parametrize(
    ("values", "gone"),
    [
        ([], []),
        ([1, 2, 2, 3], []),
        # Taken before all others, under a clock that was ahead.
        ([10, 11, 12, 0, 1, 13, 14], [3, 4]),
        # Taken late, under a clock that was behind.
        ([10, 11, 12, 90, 91, 13, 14, 92], [3, 4]),
        # Two passes over the same time.
        ([0, 10, 1, 11, 2, 12, 3, 13, 14, 15], [1, 3, 5]),
        # It began anew, at the end, at once or on the way.
        ([10, 11, 12, 0, 1], []),
        ([10, 0, 1, 2, 3, 4], []),
        ([10, 11, 12, 0, 2, 4, 6, 8, 10, 12, 14], []),
    ],
)
def test_what_is_left_out(values: list[float], gone: list[int]) -> None:
    assert misplaced(values) == gone


def _rises(values: list[int], without: tuple[int, ...] | list[int]) -> bool:
    left = [value for place, value in enumerate(values) if place not in without]
    return left == sorted(left)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 4), max_size=9))
def test_no_more_than_the_fewest_that_explain_it(values: list[int]) -> None:
    places = range(len(values))
    fewest = next(
        n for n in range(len(values) + 1) if any(_rises(values, c) for c in combinations(places, n))
    )
    gone = misplaced(values)
    assert len(gone) <= fewest
    assert gone == sorted(set(gone))
    assert not {0, len(values) - 1} & set(gone)
