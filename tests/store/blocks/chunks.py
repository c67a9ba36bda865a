"""Spans as devices give them, and as nobody expects them, for tests of what encodes them."""

import struct
from array import array
from collections.abc import Sequence
from math import nan

from hypothesis import strategies as st

from meterd.model.sample import LARGEST
from meterd.store.blocks.chunk import Chunk, ChunkColumn, Rows, State, as_range, run_lengths

T0 = 1_790_000_000_000


def _shortened(digits: int) -> st.SearchStrategy[float]:
    whole = st.integers(-(10**7), 10**7)
    return whole.map(lambda number: number / 10**digits)


def _widened(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _counter(start: int) -> st.SearchStrategy[list[float]]:
    steps = st.lists(st.integers(0, 50), max_size=60)
    return steps.map(lambda rises: [float(start + sum(rises[:n])) for n in range(len(rises))])


_TINY = [0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1e-9, 1e-10]
_WHOLE = [2.0**51, -(2.0**51), 2.0**53 - 1, 2.0**53, 4503599627370495.5]
_FAR = [1e22, -1e300, LARGEST, 0.1 + 0.2, 230.10000610351562]
odd = st.sampled_from([*_TINY, *_WHOLE, *_FAR])
finite = st.floats(-LARGEST, LARGEST)
decimals = st.integers(0, 9).flatmap(lambda digits: st.lists(_shortened(digits), max_size=60))
series = st.one_of(
    decimals,
    decimals.map(lambda values: [_widened(value) for value in values]),
    _counter(1_000_000_000),
    st.tuples(st.one_of(finite, odd), st.integers(0, 60)).map(lambda one: [one[0]] * one[1]),
    st.lists(st.one_of(odd, _shortened(1)), max_size=30),
    st.lists(finite, max_size=30),
)


@st.composite
def holey(draw: st.DrawFn) -> list[float]:
    """Values of which some are null."""
    values = draw(series)
    nulls = draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    return [nan if null else value for value, null in zip(values, nulls, strict=True)]


@st.composite
def times(draw: st.DrawFn, least: int = 0) -> "array[int]":
    step = draw(st.sampled_from([1, 200, 1000, 10_000, 60_000, 900_000]))
    count = draw(st.integers(least, 40))
    jitter = draw(st.sampled_from([0, 0, 5, 120]))
    at = T0 + draw(st.integers(0, 10**9))
    found: list[int] = []
    for n in range(count):
        late = draw(st.integers(0, jitter)) if jitter else 0
        gap = draw(st.sampled_from([0, 0, 0, 0, 0, 3, 1000]))
        at += step * (1 + gap)
        found.append(max(at + late, found[n - 1] + 1 if n else at))
    return array("q", found)


@st.composite
def _rows(draw: st.DrawFn, count: int) -> Rows:
    if draw(st.booleans()):
        return range(count)
    if draw(st.booleans()):
        return as_range(range(draw(st.integers(0, count - 1)), count, draw(st.integers(1, 6))))
    return as_range(sorted(draw(st.sets(st.integers(0, count - 1), min_size=1))))


@st.composite
def _states(draw: st.DrawFn, values: "array[float]") -> tuple[State, ...]:
    quality = st.sampled_from([(0, ""), (0, ""), (1, "waits"), (4, "the device gives no number")])
    good = [(1, 0, "")] * len(values)
    if draw(st.booleans()):
        return run_lengths(good, values)
    return run_lengths([(1, *draw(quality)) for _ in values], values)


@st.composite
def _column(draw: st.DrawFn, number: int, count: int) -> ChunkColumn:
    rows = draw(_rows(count))
    pool = draw(st.one_of(series, holey())) or [230.1]
    values = array("d", [pool[n % len(pool)] for n in range(len(rows))])
    return ChunkColumn(number, rows, values, draw(_states(values)))


@st.composite
def chunks(draw: st.DrawFn, device: int = 7, at: "array[int] | None" = None) -> Chunk:
    chosen = draw(times()) if at is None else at
    ids = sorted(draw(st.sets(st.integers(1, 3000), max_size=5))) if chosen else []
    columns = tuple(draw(_column(number, len(chosen))) for number in ids)
    return Chunk(device, chosen, columns)


def same(one: Chunk, other: Chunk) -> bool:
    """Equal bit for bit: NaN equals NaN here, and 0.0 is not -0.0."""
    return _exact(one) == _exact(other)


def _exact(chunk: Chunk) -> tuple[object, ...]:
    return (
        chunk.device,
        list(chunk.times),
        [(one.series, list(one.rows), one.values.tobytes(), one.states) for one in chunk.columns],
    )


def plain(device: int, at: Sequence[int], columns: dict[int, Sequence[float]]) -> Chunk:
    """All columns have all rows, and all values are good."""
    made = (
        ChunkColumn(number, range(len(at)), array("d", values))
        for number, values in columns.items()
    )
    return Chunk(device, array("q", at), tuple(made))
