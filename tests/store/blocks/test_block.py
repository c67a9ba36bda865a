import random
import zlib
from array import array
from collections.abc import Callable
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.errors import StoreError
from meterd.store.blocks import block, commit_record, rollup, rollup_codec
from meterd.store.blocks.chunk import Chunk, ChunkColumn
from tests.store.blocks import chunks
from tests.store.blocks.chunks import T0, plain, same

_STATES = ((3, 0, ""), (1, 4, "the device gives no number"), (4, 0, ""))


def _sample() -> Chunk:
    """A bit of everything, small."""
    times = array("q", [T0 + 10_000 * n + n % 3 for n in range(8)])
    columns = (
        ChunkColumn(3, range(8), array("d", [230.1, 230.2, 0.0, nan, 1.0, 2.0, 3.0, 4.0]), _STATES),
        ChunkColumn(4, range(0, 8, 4), array("d", [1e9, 1e9 + 5])),
        ChunkColumn(9, array("I", [1, 2, 7]), array("d", [0.1 + 0.2, -0.0, 5e-324])),
    )
    return Chunk(7, times, columns)


def _journal_row(body: bytes) -> object:
    return commit_record.decode(body)


_QUARTERS = {
    n: rollup.QuarterRollup(90, 229.5, 231.0, 20709.3 + n, 40 * n, n == 96) for n in range(96, 100)
}
BODIES: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "block": (block.encode(_sample()), block.decode),
    "journal": (commit_record.encode([_sample(), plain(8, [T0], {1: [5.0]})]), _journal_row),
    "rollup": (rollup_codec.pack(1, _QUARTERS), rollup_codec.unpack),
}


def outcome(decode: Callable[[bytes], object], body: bytes) -> str:
    """The code of the error, or nothing; any other error passes through."""
    try:
        decode(body)
    except StoreError as error:
        return error.code
    return ""


def resealed(body: bytes) -> bytes:
    """With the checksum that the bytes should have."""
    inside = body[:-4]
    return inside + zlib.crc32(inside).to_bytes(4, "little")


@given(chunks.chunks())
def test_a_span_comes_back(chunk: Chunk) -> None:
    assert same(block.decode(block.encode(chunk)), chunk)


@given(chunks.chunks(), st.sets(st.integers(1, 3000)))
def test_only_wanted_series_are_decoded(chunk: Chunk, others: set[int]) -> None:
    wanted = others | {column.series for column in chunk.columns[::2]}
    found = block.decode(block.encode(chunk), wanted)
    mine = tuple(column for column in chunk.columns if column.series in wanted)
    assert same(found, Chunk(chunk.device, chunk.times, mine))


def test_equal_spans_give_equal_bytes() -> None:
    assert block.encode(_sample()) == block.encode(block.decode(block.encode(_sample())))


def test_a_span_of_one_poll_and_one_of_none_come_back() -> None:
    assert same(block.decode(block.encode(plain(1, [T0], {2: [1.5]}))), plain(1, [T0], {2: [1.5]}))
    assert same(block.decode(block.encode(plain(1, [], {}))), plain(1, [], {}))


def test_forty_constants_of_an_hour_take_a_few_bytes_each() -> None:
    times = [T0 + 10_000 * n for n in range(360)]
    chunk = plain(1, times, {n: [50.0] * 360 for n in range(1, 41)})
    assert len(block.encode(chunk)) < 40 * 6 + 60


def test_a_day_of_doubts_that_alternate_stays_small() -> None:
    count = 8640
    states = tuple((1, n % 2 * 2, "beyond what is plausible" * (n % 2)) for n in range(count))
    column = ChunkColumn(1, range(count), array("d", [230.0]) * count, states)
    chunk = Chunk(1, array("q", range(T0, T0 + count)), (column,))
    body = block.encode(chunk)
    assert len(body) < 500
    assert block.decode(body).columns[0].states == states


@pytest.mark.parametrize("text", ["zero \0 inside", "half a pair \ud800", "", "°C µ 电"])
def test_any_text_is_a_reason(text: str) -> None:
    column = ChunkColumn(1, range(1), array("d", [nan]), ((1, 4, text),))
    chunk = Chunk(1, array("q", [T0]), (column,))
    assert same(block.decode(block.encode(chunk)), chunk)
    assert same(commit_record.decode(commit_record.encode([chunk]))[0], chunk)


@pytest.mark.parametrize("kind", BODIES)
def test_a_flipped_bit_anywhere_is_found(kind: str) -> None:
    body, decode = BODIES[kind]
    for place in range(8 * len(body)):
        damaged = bytearray(body)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(StoreError, match="damaged") as caught:
            decode(bytes(damaged))
        assert caught.value.code == "corrupt"


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_cut_off_anywhere_is_found(kind: str) -> None:
    body, decode = BODIES[kind]
    for size in range(len(body)):
        with pytest.raises(StoreError, match="damaged") as caught:
            decode(body[:size])
        assert caught.value.code == "corrupt"


@pytest.mark.parametrize("kind", BODIES)
def test_other_bytes_under_a_right_checksum_raise_nothing_but_a_store_error(kind: str) -> None:
    body, decode = BODIES[kind]
    rng = random.Random(11)
    outcomes: list[str] = []
    for _ in range(1500):
        damaged = bytearray(body)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(body))] = rng.randrange(256)
        outcomes.append(outcome(decode, resealed(bytes(damaged))))
    assert set(outcomes) <= {"corrupt", ""}
    assert outcomes.count("corrupt") > 500


@pytest.mark.parametrize("kind", BODIES)
def test_a_format_that_is_not_known_is_named(kind: str) -> None:
    body, decode = BODIES[kind]
    with pytest.raises(StoreError, match="format 9 is not known"):
        decode(resealed(b"\x09" + body[1:]))


@pytest.mark.parametrize("kind", BODIES)
def test_bytes_that_follow_are_found(kind: str) -> None:
    body, decode = BODIES[kind]
    with pytest.raises(StoreError, match="damaged"):
        decode(resealed(body[:-4] + b"\0" + body[-4:]))
