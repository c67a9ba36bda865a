"""The head of a block: which series it has, in which rows, how long each is, in which states.

    how many series | by how much each id is above the one before
    how many kinds of rows there are besides all | kinds | the kind of each series, 0 is all
    bytes of each series | runs of states of each series | runs: rows, quality, reason

All of it whole numbers. A kind of rows is 0, start, length, step; or 1, how many, and runs:
rows left out, rows taken, rows left out, …
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final

from meterd.store.blocks.chunk import ChunkColumn, Rows, State
from meterd.store.blocks.varint import Damage, Numbers

_EVEN: Final = 0
_UNEVEN: Final = 1

Entry = tuple[int, Rows, int, tuple[State, ...]]


def write(
    columns: Sequence[ChunkColumn], count: int, sizes: Sequence[int], reasons: Mapping[str, int]
) -> list[int]:
    """For a chunk of so many times; `sizes` in bytes; `reasons` are numbered."""
    ids = [column.series for column in columns]
    kinds: dict[bytes | range, int] = {range(count): 0}
    listed: list[int] = []
    of_series: list[int] = []
    for column in columns:
        rows = column.rows
        key = rows if isinstance(rows, range) else rows.tobytes()
        if key not in kinds:
            kinds[key] = len(kinds)
            listed += _kind(rows)
        of_series.append(kinds[key])
    numbers = [len(ids), *[b - a for a, b in pairwise([0, *ids])]]
    numbers += [len(kinds) - 1, *listed, *of_series, *sizes]
    numbers += [len(column.states) for column in columns]
    for column in columns:
        for rows_of_run, quality, reason in column.states:
            numbers += (rows_of_run, quality, reasons[reason])
    return numbers


def read(numbers: Numbers, count: int, reasons: Sequence[str]) -> list[Entry]:
    """Of each series: its id, rows, bytes and states. Raises Damage or LookupError."""
    many = numbers.one()
    ids = list(accumulate(numbers.take(many)))
    kinds: list[Rows] = [range(count)]
    kinds += [_rows(numbers, count) for _ in range(numbers.one())]
    rows = [kinds[kind] for kind in numbers.take(many)]
    sizes = numbers.take(many)
    runs = numbers.take(many)
    states: list[tuple[State, ...]] = [()] * many
    if any(runs):
        states = [_states(numbers, each, reasons) for each in runs]
    numbers.end()
    for of_series, mine in zip(rows, states, strict=True):
        if mine and sum(state[0] for state in mine) != len(of_series):
            raise Damage("states do not cover the rows")
    return list(zip(ids, rows, sizes, states, strict=True))


def _states(numbers: Numbers, runs: int, reasons: Sequence[str]) -> tuple[State, ...]:
    if not runs:
        return ()
    flat = numbers.take(3 * runs)
    texts = [reasons[reason] for reason in flat[2::3]]
    return tuple(zip(flat[::3], flat[1::3], texts, strict=True))


def _kind(rows: Rows) -> list[int]:
    if isinstance(rows, range):
        return [_EVEN, rows.start, len(rows), rows.step]
    runs = list(_runs(rows))
    return [_UNEVEN, len(runs), *runs]


def _runs(rows: "array[int]") -> Iterator[int]:
    """Rows left out, rows taken, and so on."""
    after, taken = 0, 0
    for row in rows:
        if row != after:
            if after:
                yield taken
            yield row - after
            taken = 0
        elif not after:
            yield 0
        taken += 1
        after = row + 1
    yield taken


def _rows(numbers: Numbers, count: int) -> Rows:
    rows = _even(numbers) if numbers.one() == _EVEN else _uneven(numbers, count)
    if not rows or rows[-1] >= count:
        raise Damage(f"rows beyond the {count} that there are")
    return rows


def _even(numbers: Numbers) -> range:
    start, length, step = numbers.take(3)
    if step == 0:
        raise Damage("rows without a step")
    return range(start, start + length * step, step)


def _uneven(numbers: Numbers, count: int) -> "array[int]":
    runs = numbers.take(numbers.one())
    if sum(runs) > count:
        raise Damage(f"{sum(runs)} rows where there are {count}")
    rows, at = array("I"), 0
    for out, taken in zip(runs[::2], runs[1::2], strict=True):
        rows.extend(range(at + out, at + out + taken))
        at += out + taken
    return rows
