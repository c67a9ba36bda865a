"""Parts of chunks: by row, by time, and by when they may be sealed."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from math import isnan

from meterd.store.blocks.chunk import Chunk, ChunkColumn, Rows, State, as_range
from meterd.store.blocks.quality_codes import GOOD, INVALID

HOUR = 3_600_000
DAY = 86_400_000
# Fewer polls than these make a block whose overhead shows: it then covers several hours.
FEW = 360

NOTHING = array("d")
NO_TIMES = array("q")


def part(chunk: Chunk, start: int, end: int) -> Chunk:
    """The polls `start` to `end` of a chunk."""
    if start == 0 and end >= len(chunk.times):
        return chunk
    columns = (_column(column, start, end) for column in chunk.columns)
    return Chunk(chunk.device, chunk.times[start:end], tuple(c for c in columns if c.values))


def until(chunk: Chunk, before: int) -> Chunk:
    """The polls that are older than `before` (Unix ms)."""
    return part(chunk, 0, bisect_left(chunk.times, before))


def since(chunk: Chunk, start: int) -> Chunk:
    """The polls from `start` (Unix ms) on."""
    return part(chunk, bisect_left(chunk.times, start), len(chunk.times))


def tail(column: ChunkColumn, start: int) -> ChunkColumn:
    """The values from the one numbered `start` on; rows stay those of the chunk."""
    states = _cut(column.states, start, len(column.values))
    return ChunkColumn(column.series, column.rows[start:], column.values[start:], states)


def _column(column: ChunkColumn, start: int, end: int) -> ChunkColumn:
    low, high = bisect_left(column.rows, start), bisect_left(column.rows, end)
    rows = _moved(column.rows[low:high], start)
    return ChunkColumn(column.series, rows, column.values[low:high], _cut(column.states, low, high))


def _moved(rows: Rows, start: int) -> Rows:
    if isinstance(rows, range) and len(rows) > 1:
        return range(rows[0] - start, rows[-1] + 1 - start, rows.step)
    return as_range([row - start for row in rows])


def _cut(states: tuple[State, ...], low: int, high: int) -> tuple[State, ...]:
    if not states:
        return ()
    starts = accumulate(chain((0,), (state[0] for state in states)))
    left = [
        (min(start + count, high) - max(start, low), quality, reason)
        for start, (count, quality, reason) in zip(starts, states, strict=False)
    ]
    kept = tuple(state for state in left if state[0] > 0)
    return () if all(state[1:] == (GOOD, "") for state in kept) else kept


def valid_samples(chunk: Chunk, column: ChunkColumn) -> tuple["array[int]", "array[float]"]:
    """Times and values that count: neither null nor of quality invalid."""
    times, values = chunk.times_of(column), column.values
    if not column.states:
        return times, values
    at = [i for i in _trusted(column.states) if not isnan(values[i])]
    return array("q", [times[i] for i in at]), array("d", [values[i] for i in at])


def _trusted(states: Sequence[State]) -> Iterator[int]:
    at = 0
    for count, quality, _ in states:
        if quality != INVALID:
            yield from range(at, at + count)
        at += count


def compactable_rows(times: "array[int]", edge: int) -> list[tuple[int, int]]:
    """Which rows make a block each, of those older than the full hour `edge` (Unix ms).

    A block covers whole hours of one UTC day and has at least FEW polls, unless its day is over.
    What is not ripe is the tail.
    """
    found: list[tuple[int, int]] = []
    start, last = 0, bisect_left(times, edge)
    while start < last:
        day_end = times[start] - times[start] % DAY + DAY
        end = _next_end(times, start, last, day_end)
        if end is None and day_end > edge:
            break
        end = end or bisect_left(times, day_end, start, last)
        found.append((start, end))
        start = end
    return found


def _next_end(times: "array[int]", start: int, last: int, day_end: int) -> int | None:
    """The first end of an hour with polls enough before it."""
    hour_end = times[start] - times[start] % HOUR + HOUR
    while hour_end <= day_end:
        end = bisect_left(times, hour_end, start, last)
        if end - start >= FEW:
            return end
        if end == last:
            return None
        hour_end = times[end] - times[end] % HOUR + HOUR
    return None
