"""A sealed chunk as one body: shared times, and for each series bytes that decode on their own.

    | device | how many times | sized times | sized head | sized reasons | series | series | … |

Format byte and checksum are around it (checksum.py), its header is in header.py, times in
timestamps.py, each series in codec.py.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import accumulate

from meterd.store.blocks import codec, header, string_table, timestamps, varint
from meterd.store.blocks.checksum import seal, verified
from meterd.store.blocks.chunk import Chunk, ChunkColumn, Rows, State, check, without_infinities
from meterd.store.blocks.varint import Cursor, Damage, Numbers

FORMAT = 1
MOST_TIMES = 1 << 22  # 48 days at one a second; a damaged count must not eat the memory
WHAT = "a block"


@dataclass(frozen=True, slots=True)
class EncodedColumn:
    """One series of a block, not decoded yet."""

    series: int
    rows: Rows
    body: bytes
    states: tuple[State, ...]


@dataclass(frozen=True, slots=True)
class EncodedColumns:
    """A block cut into its parts, with the pieces of the series that are wanted."""

    device: int
    count: int
    times: bytes
    series: tuple[EncodedColumn, ...]


def encode(chunk: Chunk, encoded: Sequence[bytes] | None = None) -> bytes:
    """Equal chunks give equal bytes. Raises ValueError for a chunk that breaks its own rules.

    `encoded` is what codec.encode made of each column's values, where it was asked before.
    """
    check(chunk)
    if len(chunk.times) > MOST_TIMES:
        raise ValueError(f"a block holds {MOST_TIMES} times at most, not {len(chunk.times)}")
    if encoded is None:
        encoded = [codec.encode(column.values) for column in chunk.columns]
    bodies = list(encoded)
    reasons = string_table.numbered(chunk.columns)
    head = header.write(chunk.columns, len(chunk.times), list(map(len, bodies)), reasons)
    parts = [
        varint.number(chunk.device),
        varint.number(len(chunk.times)),
        varint.sized(timestamps.encode(chunk.times)),
        varint.sized(codec.packed_numbers(head)),
        varint.sized(string_table.encode(reasons)),
    ]
    return seal(FORMAT, b"".join(parts + bodies))


def decode(body: bytes, wanted: Container[int] | None = None) -> Chunk:
    """The chunk, or of its series only those that are wanted. Raises StoreError (corrupt)."""
    with verified(WHAT, FORMAT, body) as cursor:
        columns_cut = cut(cursor, wanted)
        columns = [
            without_infinities(
                ChunkColumn(
                    column.series,
                    column.rows,
                    codec.decode(column.body, len(column.rows)),
                    column.states,
                )
            )
            for column in columns_cut.series
        ]
        return Chunk(
            columns_cut.device,
            timestamps.decode(columns_cut.times, columns_cut.count),
            tuple(columns),
        )


def cut(cursor: Cursor, wanted: Container[int] | None) -> EncodedColumns:
    """Raises Damage, ValueError, LookupError or zlib.error: to be called within `unsealed`."""
    device, count = cursor.number(), cursor.number()
    if count > MOST_TIMES:
        raise Damage(f"{count} times")
    times, head = cursor.sized(), cursor.sized()
    reasons = string_table.decode(cursor.sized())
    entries = header.read(Numbers(codec.unpacked_numbers(head)), count, reasons)
    bodies = cursor.rest()
    ends = list(accumulate(size for _, _, size, _ in entries))
    if len(bodies) != (ends[-1] if ends else 0):
        raise Damage(f"{len(bodies)} bytes of series are not what the head says")
    selected = (
        EncodedColumn(series, rows, bodies[end - size : end], states)
        for (series, rows, size, states), end in zip(entries, ends, strict=True)
        if wanted is None or series in wanted
    )
    return EncodedColumns(device, count, times, tuple(selected))
