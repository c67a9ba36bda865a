"""A WAL row read by rows says what it says by columns."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from meterd.store.blocks import commit_record
from meterd.store.blocks.chunk import Chunk, ChunkColumn, RowBatch

_values = st.sampled_from([0.0, -0.0, 230.1, 1 / 3, 1e300, -5.25, 2.0**60])


@st.composite
def _row_batches(draw: st.DrawFn) -> list[Chunk]:
    chunks: list[Chunk] = []
    for device in range(1, draw(st.integers(1, 5)) + 1):
        count, width = draw(st.integers(1, 4)), draw(st.integers(1, 5))
        times = array("q", range(1000 * device, 1000 * device + 10 * count, 10))
        ids = tuple(range(device * 10, device * 10 + width))
        values = draw(st.lists(_values, min_size=count * width, max_size=count * width))
        chunks.append(RowBatch(device, times, ids, array("d", values)))
    return chunks


def _columns(chunks: list[Chunk]) -> list[Chunk]:
    return [Chunk(chunk.device, chunk.times, chunk.columns) for chunk in chunks]


def _texts(chunks: list[Chunk]) -> list[str]:
    # As texts: -0.0 equals 0.0, and NaN nothing.
    return [repr((chunk.device, chunk.times, chunk.columns)) for chunk in chunks]


@given(_row_batches())
def test_full_chunks_come_as_row_batches(chunks: list[Chunk]) -> None:
    for body in (commit_record.encode(chunks), commit_record.encode(_columns(chunks))):
        found = commit_record.decode_rows(body)
        assert _texts(found) == _texts(commit_record.decode(body)) == _texts(chunks)
        assert all(isinstance(chunk, RowBatch) for chunk in found)


@given(_row_batches(), st.data())
def test_others_come_as_columns(chunks: list[Chunk], data: st.DataObject) -> None:
    holed = _columns(chunks)
    place = data.draw(st.integers(0, len(holed) - 1))
    chunk = holed[place]
    first, *rest = chunk.columns
    flaw = data.draw(st.sampled_from(["null", "doubt", "missing", "infinity"]))
    values = first.values[:]
    if flaw == "null":
        values[0] = float("nan")
        first = ChunkColumn(first.series, first.rows, values, ((len(values), 3, "lost"),))
    elif flaw == "doubt":
        first = first._replace(states=((len(values), 2, "odd"),))
    elif flaw == "missing":
        times = array("q", [*chunk.times, chunk.times[-1] + 5])
        chunk = Chunk(chunk.device, times, chunk.columns)
    else:
        values[0] = float("inf")
        first = first._replace(values=values)
    holed[place] = Chunk(chunk.device, chunk.times, (first, *rest))
    body = commit_record.encode(holed)
    found = commit_record.decode_rows(body)
    assert _texts(found) == _texts(commit_record.decode(body))
    assert not any(isinstance(chunk, RowBatch) for chunk in found)
