"""A chunk: one device's samples between two times as columns; blocks and WAL rows hold chunks."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, pairwise, repeat
from math import isnan, nan
from operator import ge
from typing import NamedTuple, TypeAlias

from meterd.model.sample import LARGEST

Rows: TypeAlias = "range | array[int]"
# (how many rows, quality code, reason)
State: TypeAlias = tuple[int, int, str]

GOOD = 0
_INVALID = 4
NOT_FINITE = "no number that can be measured"


class ChunkColumn(NamedTuple):
    """One series within a chunk. (A tuple, as every commit makes one for each series there is.)

    `rows` are ascending indices into the chunk's times, as a range or an array of type I.
    `values` has one double a row; NaN is a null, and no real value is NaN. `states` are runs
    that cover all rows; empty means that all are good and none is null.
    """

    series: int
    rows: Rows
    values: "array[float]"
    states: tuple[State, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """Polls of one device. `times` are Unix ms, ascending; `columns` ascend by series."""

    device: int
    times: "array[int]"
    columns: tuple[ChunkColumn, ...]

    @property
    def samples(self) -> int:
        return sum(len(column.values) for column in self.columns)

    def times_of(self, column: ChunkColumn) -> "array[int]":
        """The time of each of the column's values."""
        if isinstance(column.rows, range):
            return self.times[column.rows.start : column.rows.stop : column.rows.step]
        return array("q", map(self.times.__getitem__, column.rows))


class RowBatch(Chunk):
    """A chunk row by row, as polls come: every column has every row, none null or doubted.

    Its columns are made when somebody asks for them; a commit writes thousands without asking.
    """

    __slots__ = ("_made", "ids", "values")

    def __init__(
        self, device: int, times: "array[int]", ids: tuple[int, ...], values: "array[float]"
    ) -> None:
        """`ids` are the series, ascending; `values` has one of each for each time."""
        for name, value in (("device", device), ("times", times), ("ids", ids)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "_made", None)

    ids: tuple[int, ...]
    values: "array[float]"
    _made: "tuple[ChunkColumn, ...] | None"

    @property
    def columns(self) -> tuple[ChunkColumn, ...]:  # made late
        if self._made is None:
            rows, width = range(len(self.times)), len(self.ids)
            lanes = [self.values[place::width] for place in range(width)]
            parts = zip(self.ids, repeat(rows), lanes, repeat(()), strict=False)
            # ChunkColumn itself is called from Python, which takes three times as long.
            made = tuple(map(tuple.__new__, repeat(ChunkColumn), parts))
            object.__setattr__(self, "_made", made)
            return made
        return self._made

    @property
    def samples(self) -> int:
        return len(self.values)


def merge(chunks: Sequence[Chunk]) -> Chunk:
    """All polls of one device's chunks, by time; of equal time and series the later chunk's wins.

    The result is canonical: merging anything twice, or in pieces, gives an equal chunk.
    Raises ValueError where there is no chunk, or where they are of several devices.
    """
    if len({chunk.device for chunk in chunks}) != 1:
        raise ValueError("merge needs one or more spans, all of one device")
    parts = sorted((chunk for chunk in chunks if chunk.times), key=lambda chunk: chunk.times[0])
    if all(earlier.times[-1] < later.times[0] for earlier, later in pairwise(parts)):
        return _concatenated(chunks[0].device, parts)
    return _merge_overlapping(chunks)


def has_infinity(values: "array[float]") -> bool:
    """Whether one is an infinity, or beyond LARGEST. Quick for the usual values."""
    if not values:
        return False
    # A NaN at the beginning hides what follows from min and max, and does not pass this.
    if min(values) >= -LARGEST and max(values) <= LARGEST:
        return False
    return any(abs(value) > LARGEST for value in values)


def without_infinities(column: ChunkColumn) -> ChunkColumn:
    """With nulls, and why, where values are no numbers that can be measured.

    No door lets such a value in; a store that an older meterd wrote may hold some.
    """
    if not has_infinity(column.values):
        return column
    wild = [abs(value) > LARGEST for value in column.values]
    values = array(
        "d", [nan if odd else reading for odd, reading in zip(wild, column.values, strict=True)]
    )
    states = chain.from_iterable(repeat(state[1:], state[0]) for state in _states(column))
    per_row = (
        (1, _INVALID, NOT_FINITE) if odd else (1, *state)
        for odd, state in zip(wild, states, strict=True)
    )
    return column._replace(values=values, states=run_lengths(per_row, values))


def as_range(rows: Iterable[int]) -> Rows:
    """Ascending rows as a range where they are evenly spaced."""
    if isinstance(rows, range):
        return rows
    listed = array("I", rows)
    if len(listed) < 2:
        return range(listed[0], listed[0] + 1) if listed else range(0)
    spread = range(listed[0], listed[-1] + 1, listed[1] - listed[0])
    even = len(spread) == len(listed) and array("I", spread) == listed
    return spread if even else listed


def run_lengths(states: Iterable[State], values: "array[float]") -> tuple[State, ...]:
    """Runs of equal quality and reason; empty where every value is good and none is null."""
    joined: list[State] = []
    for state in states:
        if joined and joined[-1][1:] == state[1:]:
            joined[-1] = (joined[-1][0] + state[0], *state[1:])
        elif state[0]:
            joined.append(state)
    plain = not joined or (len(joined) == 1 and joined[0][1:] == (GOOD, ""))
    return () if plain and not isnan(sum(values)) else tuple(joined)


def _concatenated(device: int, parts: Sequence[Chunk]) -> Chunk:
    """Chunks that follow one another: columns are put end to end."""
    times = array("q")
    pieces: dict[int, list[tuple[int, ChunkColumn]]] = {}
    for chunk in parts:
        offset = len(times)
        times.extend(chunk.times)
        for column in chunk.columns:
            if column.values:
                pieces.setdefault(column.series, []).append((offset, column))
    columns = (_end_to_end(pieces[series], len(times)) for series in sorted(pieces))
    return Chunk(device, times, tuple(columns))


def _end_to_end(pieces: Sequence[tuple[int, ChunkColumn]], total: int) -> ChunkColumn:
    values = array("d", b"".join([column.values.tobytes() for _, column in pieces]))
    states: tuple[State, ...] = ()
    if any(column.states for _, column in pieces):
        states = run_lengths(chain.from_iterable(_states(column) for _, column in pieces), values)
    rows = range(total) if len(values) == total else as_range(_shifted(pieces))
    return ChunkColumn(pieces[0][1].series, rows, values, states)


def _shifted(pieces: Iterable[tuple[int, ChunkColumn]]) -> Iterator[int]:
    for offset, column in pieces:
        for row in column.rows:
            yield row + offset


def _states(column: ChunkColumn) -> tuple[State, ...]:
    return column.states or ((len(column.values), GOOD, ""),)


def select_values(column: ChunkColumn, at: Sequence[int]) -> ChunkColumn:
    """The values at these places, ascending; rows stay those of the chunk."""
    rows, values = column.rows, column.values
    picked = array("d", map(values.__getitem__, at))
    states: tuple[State, ...] = ()
    if column.states:
        table, numbers = _numbered([column])
        states = _grouped(table, map(numbers.__getitem__, at), picked)
    return ChunkColumn(column.series, as_range(map(rows.__getitem__, at)), picked, states)


def _merge_overlapping(chunks: Sequence[Chunk]) -> Chunk:
    """Chunks that overlap: series by series, and cell by cell where several chunks have one.

    No object is made for a cell: of some 100,000 the garbage collector would make long pauses.
    """
    # Ascending runs one after the other, which sorting merges in one pass.
    every = sorted(chain.from_iterable(chunk.times for chunk in chunks))
    times = array("q", [time for time, _ in groupby(every)])
    pieces: dict[int, list[tuple[Rows, ChunkColumn]]] = {}
    for chunk in chunks:
        places: Rows = range(len(times))
        if len(chunk.times) < len(times):
            places = array("I", [bisect_left(times, time) for time in chunk.times])
        for column in chunk.columns:
            if column.values:
                at = _through(places, column.rows)
                pieces.setdefault(column.series, []).append((at, column))
    columns = (_laid(series, pieces[series]) for series in sorted(pieces))
    return Chunk(chunks[0].device, times, tuple(columns))


def _through(places: Rows, rows: Rows) -> Rows:
    if isinstance(places, range):
        return rows
    if isinstance(rows, range):
        return places[rows.start : rows.stop : rows.step]
    return array("I", map(places.__getitem__, rows))


def _laid(series: int, pieces: Sequence[tuple[Rows, ChunkColumn]]) -> ChunkColumn:
    """The last piece of a row wins."""
    if len(pieces) == 1:
        rows, only = pieces[0]
        return only._replace(rows=as_range(rows))
    where: dict[int, int] = {}  # row -> place in all the pieces' values
    offset = 0
    for at, _ in pieces:
        where.update(zip(at, range(offset, offset + len(at)), strict=True))
        offset += len(at)
    ordered = sorted(where)
    order = array("Q", map(where.__getitem__, ordered))
    every = array("d", b"".join([column.values.tobytes() for _, column in pieces]))
    values = array("d", map(every.__getitem__, order))
    states: tuple[State, ...] = ()
    if any(column.states for _, column in pieces):
        table, numbers = _numbered([column for _, column in pieces])
        states = _grouped(table, map(numbers.__getitem__, order), values)
    return ChunkColumn(series, as_range(ordered), values, states)


def _numbered(columns: Iterable[ChunkColumn]) -> tuple[list[tuple[int, str]], "array[int]"]:
    """Qualities and reasons, and the number of that of each value."""
    table: dict[tuple[int, str], int] = {}
    numbers = array("I")
    for column in columns:
        for count, quality, reason in _states(column):
            number = table.setdefault((quality, reason), len(table))
            numbers.extend(array("I", (number,)) * count)
    return list(table), numbers


def _grouped(
    table: Sequence[tuple[int, str]], numbers: Iterable[int], values: "array[float]"
) -> tuple[State, ...]:
    return run_lengths(
        ((sum(1 for _ in run), *table[number]) for number, run in groupby(numbers)), values
    )


def check(chunk: Chunk) -> None:
    """Raises ValueError, with what is wrong, for a chunk that breaks its own rules."""
    check_order(chunk)
    for column in chunk.columns:
        if wrong := _column_error(column, len(chunk.times)):
            raise ValueError(f"series {column.series} has {wrong}")


def check_order(chunk: Chunk) -> None:
    """Raises ValueError where times or series do not ascend."""
    if any(map(ge, chunk.times, chunk.times[1:])):
        raise ValueError("a span's times have to ascend")
    ids = chunk.ids if isinstance(chunk, RowBatch) else [column.series for column in chunk.columns]
    if any(map(ge, ids, ids[1:])):
        raise ValueError("a span's columns have to ascend by series")


def _column_error(column: ChunkColumn, count: int) -> str:
    rows = column.rows
    if len(rows) != len(column.values):
        return f"{len(rows)} rows and {len(column.values)} values"
    if not rows or rows[0] < 0 or rows[-1] >= count:
        return f"rows that are not among the {count} of its span"
    if column.states and sum([state[0] for state in column.states]) != len(rows):
        return f"states that do not cover its {len(rows)} rows"
    if not isinstance(rows, range) and any(a >= b for a, b in pairwise(rows)):
        return "rows that do not ascend"
    return ""
