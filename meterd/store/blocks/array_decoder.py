"""Blocks as numpy arrays, for readers: the same bytes as block.py reads, in a quarter of the time.

Loads numpy, which nothing that writes to a store imports.
"""

from array import array
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from meterd.model.sample import LARGEST
from meterd.store.blocks import block, byte_planes, codec, timestamps
from meterd.store.blocks.checksum import verified
from meterd.store.blocks.chunk import ChunkColumn, Rows, State, without_infinities
from meterd.store.blocks.varint import Cursor, Damage

Times: TypeAlias = NDArray[np.int64]
Values: TypeAlias = NDArray[np.float64]
_WORDS = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"}
_NUMBERS = {1: "i1", 2: "<i2", 4: "<i4", 8: "<i8"}


@dataclass(frozen=True, slots=True)
class DecodedColumn:
    """One series: its times (Unix ms), values (NaN: null) and runs of states (see ChunkColumn).

    Columns of one block may share their times: they are not to be written to.
    """

    series: int
    times: Times
    values: Values
    states: tuple[State, ...]


def decode(body: bytes, wanted: Container[int] | None = None) -> tuple[DecodedColumn, ...]:
    """All series of a block, or those that are wanted. Raises StoreError (corrupt)."""
    with verified(block.WHAT, block.FORMAT, body) as cursor:
        block_cut = block.cut(cursor, wanted)
        if not block_cut.series:
            return ()
        times = _times(block_cut.times, block_cut.count)
        return tuple(_line(column, times) for column in block_cut.series)


def _line(column: block.EncodedColumn, times: Times) -> DecodedColumn:
    decoded = values(column.body, len(column.rows))
    states = column.states
    if column.body[0] & ~codec.NULLS != codec.DECIMAL and (np.abs(decoded) > LARGEST).any():
        replaced = without_infinities(
            ChunkColumn(column.series, column.rows, array("d", decoded.tolist()), states)
        )
        decoded, states = np.array(replaced.values), replaced.states
    return DecodedColumn(column.series, _picked(times, column.rows), decoded, states)


def _picked(times: Times, rows: Rows) -> Times:
    if isinstance(rows, range):
        if rows == range(len(times)):
            return times  # the same object: series are known by it to share their times
        return times[rows.start : rows.stop : rows.step]
    return times[np.frombuffer(rows, dtype=np.uint32)]


def _times(body: bytes, count: int) -> Times:
    cursor = Cursor(body)
    form, start, step = timestamps.read_header(cursor)
    if form == timestamps.STEPS:
        longer = _signed(cursor.rest(), count - 1).astype(np.int64)
        return _summed(start, longer + step)
    if form == timestamps.GRID:
        advances = np.ones(count, dtype=np.int64)
        advances[0] = 0
        for row, more in timestamps.jumps(cursor.sized(), count):
            advances[row] += more
        return start + step * np.cumsum(advances) + _signed(cursor.rest(), count)
    cursor.end()
    return start + step * np.arange(count, dtype=np.int64)


def values(body: bytes, count: int) -> Values:
    """What `codec.encode` wrote. Raises Damage or zlib.error."""
    cursor = Cursor(body)
    form = cursor.byte()
    if not form & codec.NULLS:
        return _known(form, cursor, count)
    runs = codec.null_runs(cursor.sized(), count)
    runs.append(count - sum(runs))
    is_value = np.repeat(np.arange(len(runs)) % 2 == 0, runs)
    decoded = np.full(count, np.nan)
    decoded[is_value] = _known(form & ~codec.NULLS, cursor, int(is_value.sum()))
    return decoded


def _known(form: int, cursor: Cursor, count: int) -> Values:
    codec.known_form(form)
    if count == 0:
        cursor.end()
        return np.empty(0)
    if form == codec.RAW:
        width, planes = byte_planes.gathered(cursor.rest(), count)
        if width != 8:
            raise Damage(f"doubles of {width} bytes")
        return _joined(planes, width).view("<f8").astype(np.float64, copy=False)
    digits, first = codec.decimal_header(cursor)
    if form == codec.STEEP:
        start = cursor.signed()
        line = _summed(start, _signed(cursor.rest(), count - 2))
        return _summed(first, line) / codec.POWERS[digits]
    steps, power = cursor.rest(), codec.POWERS[digits]
    numbers = _summed(first, _signed(steps, count - 1)) / power
    if form == codec.WIDENED:
        with np.errstate(over="ignore"):
            return numbers.astype(np.float32).astype(np.float64)
    return numbers


def _summed(first: int, steps: "NDArray[np.signedinteger]") -> Times:
    """Cumulative sums: the first number, then each plus its step."""
    numbers = np.empty(len(steps) + 1, dtype=np.int64)
    numbers[0] = first
    numbers[1:] = steps
    return np.cumsum(numbers, out=numbers)


def _signed(body: bytes, count: int) -> "NDArray[np.signedinteger]":
    """Numbers that `byte_planes.pack` wrote, as narrow as they were written."""
    width, planes = byte_planes.gathered(body, count)
    if not width:
        return np.zeros(count, dtype=np.int8)
    return _unmixed(_joined(planes, width), width)


def signed_rows(bodies: Sequence[bytes], width: int, count: int) -> "NDArray[np.signedinteger]":
    """A row for each of many planes that `byte_planes.gathered` gave, of so many numbers each."""
    if not width:
        return np.zeros((len(bodies), count), dtype=np.int8)
    lanes = np.frombuffer(b"".join(bodies), dtype=np.uint8).reshape(-1, width, count)
    words = np.ascontiguousarray(lanes.transpose(0, 2, 1)).view(_WORDS[width])
    return _unmixed(words.reshape(-1, count), width)


def _unmixed(mixed: "NDArray[np.unsignedinteger]", width: int) -> "NDArray[np.signedinteger]":
    return (mixed >> 1 ^ -(mixed & 1)).view(_NUMBERS[width])


def _joined(packed: bytes, width: int) -> "NDArray[np.unsignedinteger]":
    """Planes as words."""
    lanes = np.frombuffer(packed, dtype=np.uint8)
    if width == 1:
        return lanes
    return np.ascontiguousarray(lanes.reshape(width, -1).T).view(_WORDS[width]).ravel()
