"""Sheets are spans that are quicker to write: nothing else about them may differ."""

from array import array
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.store.blocks import block, commit_record
from meterd.store.blocks.chunk import Chunk, ChunkColumn, RowBatch, merge
from tests.store.blocks import chunks
from tests.store.blocks.chunks import T0

_values = st.one_of(chunks.odd, st.integers(-(10**6), 10**6).map(lambda whole: whole / 10))


@st.composite
def _fleets(draw: st.DrawFn, even: bool = True) -> list[RowBatch]:
    """Some devices, each with series of its own, one after another."""
    found: list[RowBatch] = []
    first = draw(st.integers(1, 1000))
    length, width = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    for device in range(draw(st.integers(1, 4))):
        if not even:
            length, width = draw(st.integers(1, 4)), draw(st.integers(1, 5))
        times = array("q", [T0 + device + 10_000 * n for n in range(length)])
        count = length * width
        values = draw(st.lists(_values, min_size=count, max_size=count))
        ids = tuple(range(first, first + width))
        found.append(RowBatch(device, times, ids, array("d", values)))
        first += width
    return found


def _as_span(sheet: RowBatch) -> Chunk:
    return Chunk(sheet.device, sheet.times, sheet.columns)


@given(_fleets())
def test_an_even_fleet_becomes_the_same_bytes_as_its_spans(sheets: list[RowBatch]) -> None:
    assert commit_record.encode(sheets) == commit_record.encode(
        [_as_span(sheet) for sheet in sheets]
    )


@given(_fleets(even=False))
def test_sheets_of_many_sizes_become_the_same_bytes_too(sheets: list[RowBatch]) -> None:
    assert commit_record.encode(sheets) == commit_record.encode(
        [_as_span(sheet) for sheet in sheets]
    )


@given(_fleets(), _fleets())
def test_digits_that_sheets_teach_are_those_that_spans_teach(
    first: list[RowBatch], second: list[RowBatch]
) -> None:
    ours: dict[int, int] = {}
    theirs: dict[int, int] = {}
    for sheets in (first, second):
        told = [_as_span(sheet) for sheet in sheets]
        assert commit_record.encode(sheets, ours) == commit_record.encode(told, theirs)
    assert ours == theirs


@given(_fleets())
def test_merging_a_sheet_gives_a_plain_span(sheets: list[RowBatch]) -> None:
    for sheet in sheets:
        assert merge([sheet]) == _as_span(sheet)
        assert block.encode(merge([sheet])) == block.encode(_as_span(sheet))


def test_columns_are_what_stands_below_one_another() -> None:
    sheet = RowBatch(7, array("q", [T0, T0 + 5]), (3, 9), array("d", chain((1.0, 2.0), (3.0, 4.0))))
    assert sheet.columns == (
        ChunkColumn(3, range(2), array("d", [1.0, 3.0])),
        ChunkColumn(9, range(2), array("d", [2.0, 4.0])),
    )
    assert sheet.samples == 4


@pytest.mark.parametrize(
    ("times", "ids", "what"), [([T0, T0], (1, 2), "times"), ([T0, T0 + 1], (2, 2), "series")]
)
def test_a_sheet_that_breaks_the_rules_is_refused(
    times: list[int], ids: tuple[int, ...], what: str
) -> None:
    sheet = RowBatch(1, array("q", times), ids, array("d", [1.0] * 4))
    with pytest.raises(ValueError, match=what):
        commit_record.encode([sheet])
