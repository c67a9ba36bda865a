from array import array
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.store.blocks import block
from meterd.store.blocks.chunk import Chunk, ChunkColumn, as_range, check, merge, run_lengths
from tests.store.blocks import chunks
from tests.store.blocks.chunks import T0, plain, same


def _cut(chunk: Chunk, at: int) -> tuple[Chunk, Chunk]:
    """The polls before row `at`, and the others."""
    return _part(chunk, range(at)), _part(chunk, range(at, len(chunk.times)))


def _part(chunk: Chunk, rows: range) -> Chunk:
    columns = []
    for column in chunk.columns:
        mine = [n for n, row in enumerate(column.rows) if row in rows]
        each = [state[1:] for state in column.states for _ in range(state[0])]
        values = array("d", [column.values[n] for n in mine])
        states = run_lengths(((1, *each[n]) for n in mine) if each else (), values)
        if mine:
            at = as_range([column.rows[n] - rows.start for n in mine])
            columns.append(ChunkColumn(column.series, at, values, states))
    return Chunk(chunk.device, chunk.times[rows.start : rows.stop], tuple(columns))


@given(chunks.chunks(), st.integers(0, 40), st.booleans())
def test_merged_pieces_encode_to_the_same_bytes_as_sealing_once(
    chunk: Chunk, at: int, turned: bool
) -> None:
    pieces = list(_cut(chunk, at))
    if turned:
        pieces.reverse()
    whole = merge([chunk])
    assert same(merge(pieces), whole)
    assert block.encode(merge(pieces)) == block.encode(whole)
    check(whole)


@given(chunks.chunks(), chunks.chunks())
def test_merging_the_same_again_changes_nothing(one: Chunk, other: Chunk) -> None:
    merged = merge([one, other])
    assert same(merge([merged, other]), merged)
    assert same(merge([merged]), merged)
    assert same(merge([one, one, other]), merged)


def test_the_later_span_wins_where_both_have_a_value() -> None:
    old = plain(1, [T0, T0 + 10, T0 + 20], {5: [1.0, 2.0, 3.0], 6: [7.0, 8.0, 9.0]})
    late = plain(1, [T0 + 10, T0 + 15], {5: [2.5, 2.75]})
    merged = merge([old, late])
    assert list(merged.times) == [T0, T0 + 10, T0 + 15, T0 + 20]
    assert list(merged.columns[0].values) == [1.0, 2.5, 2.75, 3.0]
    assert list(merged.columns[1].values) == [7.0, 8.0, 9.0]
    assert list(merged.columns[1].rows) == [0, 1, 3]
    assert list(merge([late, old]).columns[0].values) == [1.0, 2.0, 2.75, 3.0]


def test_a_later_good_value_replaces_a_null_and_its_reason() -> None:
    null = ChunkColumn(5, range(2), array("d", [nan, nan]), ((2, 4, "no number"),))
    merged = merge([Chunk(1, array("q", [T0, T0 + 10]), (null,)), plain(1, [T0 + 10], {5: [3.0]})])
    assert merged.columns[0].states == ((1, 4, "no number"), (1, 0, ""))
    assert merged.columns[0].values[1] == 3.0


def test_states_of_neighbours_become_one_run_and_good_ones_none() -> None:
    doubted = ChunkColumn(5, range(1), array("d", [1.0]), ((1, 2, "odd"),))
    parts = [Chunk(1, array("q", [T0 + n]), (doubted,)) for n in range(3)]
    assert merge(parts).columns[0].states == ((3, 2, "odd"),)
    good = [plain(1, [T0 + n], {5: [1.0]}) for n in range(3)]
    assert merge(good).columns[0].states == ()


def test_columns_in_every_other_poll_are_an_even_range() -> None:
    parts = [plain(1, [T0 + n], {5: [1.0]} if n % 2 else {6: [2.0]}) for n in range(8)]
    assert [column.rows for column in merge(parts).columns] == [range(1, 8, 2), range(0, 7, 2)]


def test_times_of_a_column_are_those_of_its_rows() -> None:
    column = ChunkColumn(5, array("I", [0, 2, 3]), array("d", [1.0, 2.0, 3.0]))
    chunk = Chunk(1, array("q", [T0, T0 + 1, T0 + 2, T0 + 3]), (column,))
    assert list(chunk.times_of(column)) == [T0, T0 + 2, T0 + 3]
    assert chunk.samples == 3


def test_spans_of_several_devices_do_not_merge() -> None:
    with pytest.raises(ValueError, match="one device"):
        merge([plain(1, [T0], {}), plain(2, [T0], {})])
    with pytest.raises(ValueError, match="one or more"):
        merge([])


_ONE = array("d", [1.0])


@pytest.mark.parametrize(
    ("times", "columns", "text"),
    [
        ([T0, T0], [], "times have to ascend"),
        (
            [T0],
            [ChunkColumn(2, range(1), _ONE), ChunkColumn(1, range(1), _ONE)],
            "ascend by series",
        ),
        ([T0], [ChunkColumn(1, range(2), _ONE)], "2 rows and 1 values"),
        ([T0], [ChunkColumn(1, range(1, 2), _ONE)], "not among the 1"),
        ([T0], [ChunkColumn(1, range(0), array("d"))], "not among the 1"),
        ([T0], [ChunkColumn(1, range(1), _ONE, ((2, 0, ""),))], "do not cover"),
        ([T0, T0 + 1, T0 + 2], [ChunkColumn(1, array("I", [0, 2, 1]), _ONE * 3)], "do not ascend"),
    ],
)
def test_a_span_that_breaks_its_rules_is_refused(
    times: list[int], columns: list[ChunkColumn], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        check(Chunk(1, array("q", times), tuple(columns)))
