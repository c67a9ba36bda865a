import random
from array import array
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.store.blocks import commit_record
from meterd.store.blocks.chunk import Chunk, ChunkColumn, merge
from tests.store.blocks import chunks
from tests.store.blocks.chunks import T0, plain, same


def _same(found: list[Chunk], given_: list[Chunk]) -> bool:
    return len(found) == len(given_) and all(map(same, found, given_))


@given(st.lists(st.integers(0, 2**40).flatmap(chunks.chunks), max_size=4))
def test_all_spans_of_a_commit_come_back(given_: list[Chunk]) -> None:
    assert _same(commit_record.decode(commit_record.encode(given_)), given_)


def test_an_empty_commit_comes_back() -> None:
    assert commit_record.decode(commit_record.encode([])) == []


def test_one_device_may_have_several_spans_in_a_commit() -> None:
    given_ = [plain(1, [T0 + n], {2: [float(n)]}) for n in range(3)]
    back = commit_record.decode(commit_record.encode(given_))
    assert _same(back, given_)
    assert list(merge(back).columns[0].values) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("value", [-0.0, 2.0**51, 2.0**53, 0.1 + 0.2, 5e-324, 1e300, nan])
def test_an_odd_value_does_not_touch_its_neighbours(value: float) -> None:
    at = [T0, T0 + 10]
    chunk = plain(1, at, {1: [230.1, 230.2], 2: [value, 1.5], 3: [2.5, value], 4: [7.0, 7.25]})
    assert _same(commit_record.decode(commit_record.encode([chunk])), [chunk])


def _fleet(devices: int, polls: int) -> list[Chunk]:
    """Volts, watts and watt-hours by turns."""
    rng = random.Random(3)
    found: list[Chunk] = []
    for device in range(devices):
        at = array("q", [T0 + 10_000 * n + rng.randint(20, 120) for n in range(polls)])
        columns = []
        for n in range(12):
            base = [230.0, 800.0, 4_100_000.0][n % 3] + rng.randint(-9, 9)
            spread, digits = [(0.5, 1), (2.0, 1), (3.0, 0)][n % 3]
            values = [round(base + rng.gauss(0, spread), digits) for _ in range(polls)]
            columns.append(ChunkColumn(1 + device * 12 + n, range(polls), array("d", values)))
        found.append(Chunk(device, at, tuple(columns)))
    return found


def test_three_polls_of_a_fleet_take_little_more_than_a_byte_a_sample() -> None:
    fleet = _fleet(100, 3)
    assert len(commit_record.encode(fleet)) < 1.1 * 100 * 12 * 3


def test_nulls_of_a_device_that_gives_no_numbers_are_nearly_free() -> None:
    fleet = _fleet(100, 3)
    whole = len(commit_record.encode(fleet))
    state = ((3, 4, "the device gives no number"),)
    silent = [
        Chunk(
            chunk.device,
            chunk.times,
            tuple(
                ChunkColumn(c.series, c.rows, array("d", [nan]) * 3, state) for c in chunk.columns
            ),
        )
        for chunk in fleet[:20]
    ]
    mixed = [*silent, *fleet[20:]]
    body = commit_record.encode(mixed)
    assert len(body) <= whole
    assert _same(commit_record.decode(body), mixed)


def test_what_is_remembered_of_digits_changes_nothing_but_the_time() -> None:
    known: dict[int, int] = {}
    for value in (0.1 + 0.2, -0.0, 5.0, 230.12, 230.1):
        chunk = plain(1, [T0, T0 + 10], {1: [230.5, value], 2: [1.0, 2.0]})
        assert _same(commit_record.decode(commit_record.encode([chunk], known)), [chunk])
    assert known == {1: 2, 2: 0}


def test_a_span_that_breaks_its_rules_is_refused() -> None:
    with pytest.raises(ValueError, match="2 rows and 1 values"):
        commit_record.encode(
            [Chunk(1, array("q", [1, 2]), (ChunkColumn(1, range(2), array("d", [1.0])),))]
        )
