"""Blocks are decoded once as long as they are asked for, and anew once they are other ones."""

from array import array

import pytest

from meterd.errors import StoreError
from meterd.store.blocks import block
from meterd.store.blocks.chunk import Chunk, ChunkColumn
from meterd.store.query.block_cache import BlockCache
from meterd.store.query.series_array import of_block

TIMES = array("q", range(0, 100_000, 1000))


def body(*values: float) -> bytes:
    """A block of series 1, 2, …, each of which is constant."""
    columns = tuple(
        ChunkColumn(number, range(len(TIMES)), array("d", [value] * len(TIMES)))
        for number, value in enumerate(values, 1)
    )
    return block.encode(Chunk(7, TIMES, columns))


def told(cache: BlockCache, number: int, packed: bytes, *wanted: int) -> dict[int, float]:
    return {one: float(t.values[0]) for one, t in cache.arrays(number, packed, list(wanted))}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The series that were decoded, block by block."""
    found: list[list[int]] = []

    def counted(packed: bytes, wanted: list[int]) -> object:
        found.append(list(wanted))
        return of_block(packed, wanted)

    monkeypatch.setattr("meterd.store.query.block_cache.of_block", counted)
    return found


def test_only_what_is_new_is_decoded(asked: list[list[int]]) -> None:
    cache, packed = BlockCache(), body(1.5, 2.5)
    assert told(cache, 1, packed, 1) == {1: 1.5}
    assert told(cache, 1, packed, 1) == {1: 1.5}
    assert told(cache, 1, packed, 1, 2, 3) == {1: 1.5, 2: 2.5}
    assert told(cache, 1, packed, 3) == {}
    assert asked == [[1], [2, 3]]


def test_a_block_that_was_written_anew_is_another_one(asked: list[list[int]]) -> None:
    cache = BlockCache()
    assert told(cache, 1, body(1.5), 1) == {1: 1.5}
    assert told(cache, 1, body(9.5), 1) == {1: 9.5}
    assert told(cache, 2, body(9.5), 1) == {1: 9.5}
    assert len(asked) == 3


def test_what_is_oldest_in_use_goes_first(asked: list[list[int]]) -> None:
    # Times and values of one series are 1,600 bytes, and 500 more.
    cache, packed = BlockCache(5000), body(1.5)
    for number in (1, 2, 1, 3, 1, 2):
        told(cache, number, packed, 1)
    assert len(asked) == 4


def test_more_than_there_is_room_for_is_told_all_the_same() -> None:
    cache, packed = BlockCache(100), body(1.5, 2.5)
    assert told(cache, 1, packed, 1, 2) == {1: 1.5, 2: 2.5}


def test_what_is_damaged_is_not_kept() -> None:
    cache, packed = BlockCache(), bytearray(body(1.5))
    packed[len(packed) // 2] ^= 4
    for _ in range(2):
        with pytest.raises(StoreError):
            cache.arrays(1, bytes(packed), [1])


def test_blocks_without_the_series_take_room_too(asked: list[list[int]]) -> None:
    cache, packed = BlockCache(1200), body(1.5)
    for number in (1, 2, 3, 1):
        assert told(cache, number, packed, 9) == {}
    assert len(asked) == 4
