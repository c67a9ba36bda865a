from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.errors import StoreError
from meterd.store.blocks import array_decoder, block
from meterd.store.blocks.chunk import Chunk, ChunkColumn
from tests.store.blocks import chunks
from tests.store.blocks.chunks import T0
from tests.store.blocks.test_block import BODIES, outcome, resealed


@given(chunks.chunks())
def test_arrays_equal_what_the_standard_library_decodes(chunk: Chunk) -> None:
    body = block.encode(chunk)
    lines = array_decoder.decode(body)
    assert [line.series for line in lines] == [column.series for column in chunk.columns]
    for line, column in zip(lines, block.decode(body).columns, strict=True):
        assert line.values.dtype == np.float64
        assert line.times.dtype == np.int64
        assert line.values.tobytes() == column.values.tobytes()
        assert line.times.tolist() == list(chunk.times_of(column))
        assert line.states == column.states


@given(st.one_of(chunks.series, chunks.holey()).filter(bool))
def test_any_series_decodes_to_the_same_bits(listed: list[float]) -> None:
    count = len(listed)
    column = ChunkColumn(1, range(count), array("d", listed))
    chunk = Chunk(1, array("q", range(T0, T0 + count)), (column,))
    assert array_decoder.decode(block.encode(chunk))[0].values.tobytes() == column.values.tobytes()


def test_only_wanted_series_are_there() -> None:
    body = BODIES["block"][0]
    assert [line.series for line in array_decoder.decode(body, {4, 9, 77})] == [4, 9]
    assert array_decoder.decode(body, ()) == ()


def test_damage_is_a_store_error() -> None:
    body = BODIES["block"][0]
    for place in range(len(body)):
        damaged = bytearray(body)
        damaged[place] ^= 0x10
        with pytest.raises(StoreError, match="damaged"):
            array_decoder.decode(bytes(damaged))


@pytest.mark.parametrize("other", [0x00, 0x01, 0x7F, 0x80, 0xFF])
def test_damage_under_a_right_checksum_is_nothing_else(other: int) -> None:
    body = BODIES["block"][0]
    outcomes: list[str] = []
    for place in range(1, len(body) - 4):
        damaged = bytearray(body)
        damaged[place] = other
        outcomes.append(outcome(array_decoder.decode, resealed(bytes(damaged))))
    assert set(outcomes) <= {"corrupt", ""}
    assert "corrupt" in outcomes
