"""A chunk's times as bytes: nothing but start and step where the polls came regularly.

    | 0 regular: start | step |
    | 1 grid:      start | step | sized: rows, ticks left out, … | planes of ms off the grid |
    | 2 steps:     start | step | planes of what each step is longer |

Polls have a grid on which they are due, and some latency that does not add up.
"""

from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from operator import sub
from typing import Final

from meterd.store.blocks import byte_planes, varint
from meterd.store.blocks.codec import packed_numbers, unpacked_numbers
from meterd.store.blocks.varint import Cursor, Damage

REGULAR: Final = 0
GRID: Final = 1
STEPS: Final = 2
_TRIED = 400  # times by which a grid is chosen


def encode(times: "array[int]") -> bytes:
    """Ascending Unix ms. How many there are has to be kept elsewhere."""
    if not times:
        return b""
    steps = list(map(sub, times[1:], times))
    step = steps[0] if steps else 0
    if steps.count(step) == len(steps):
        return bytes((REGULAR,)) + varint.signed(times[0]) + varint.signed(step)
    step = sorted(steps)[len(steps) // 2]
    plain = byte_planes.pack([length - step for length in steps])
    packed = bytes((STEPS,)) + varint.signed(times[0]) + varint.signed(step) + plain
    wider = [round(step, -digits) for digits in range(4)]
    grids = {grid for grid in wider if grid > 0}
    if not grids:
        return packed
    cheapest = min(sorted(grids), key=lambda grid: _cost(times[:_TRIED], grid))
    return min(packed, _grid(times, cheapest), key=len)


def _ticks(times: "array[int]", step: int) -> list[int]:
    """On which tick of the grid each time is: the nearest."""
    edge = times[0] - step // 2
    return [(time - edge) // step for time in times]


def _cost(times: "array[int]", step: int) -> int:
    """Ms off the grid, and a second for each tick that is not one after the last."""
    ticks = _ticks(times, step)
    off = sum([abs(time - times[0] - tick * step) for time, tick in zip(times, ticks, strict=True)])
    return off + 1000 * sum([later - earlier != 1 for earlier, later in pairwise(ticks)])


def _grid(times: "array[int]", step: int) -> bytes:
    start, ticks = times[0], _ticks(times, step)
    off = [time - start - tick * step for time, tick in zip(times, ticks, strict=True)]
    jumps: list[int] = []
    last = 0
    for row, (earlier, later) in enumerate(pairwise(ticks), 1):
        if later - earlier != 1:
            jumps += (row - last, varint.zigzag(later - earlier - 1))
            last = row
    head = bytes((GRID,)) + varint.signed(start) + varint.signed(step)
    return head + varint.sized(packed_numbers(jumps)) + byte_planes.pack(off)


def decode(body: bytes, count: int) -> "array[int]":
    """So many times. Raises Damage, OverflowError or zlib.error."""
    if count == 0:
        return array("q")
    cursor = Cursor(body)
    form, start, step = read_header(cursor)
    if form == REGULAR:
        cursor.end()
        return array("q", (start + step * tick for tick in range(count)))
    if form == STEPS:
        longer = byte_planes.unpack(cursor.rest(), count - 1)
        return array("q", accumulate((step + more for more in longer), initial=start))
    grid = accumulate(advances(cursor.sized(), count))
    off = byte_planes.unpack(cursor.rest(), count)
    return array("q", [start + step * tick + more for tick, more in zip(grid, off, strict=True)])


def read_header(cursor: Cursor) -> tuple[int, int, int]:
    """Form, start and step."""
    form = cursor.byte()
    if form not in (REGULAR, GRID, STEPS):
        raise Damage(f"form {form} of times is not known")
    return form, cursor.signed(), cursor.signed()


def advances(body: bytes, count: int) -> list[int]:
    """By how many ticks each row is after the one before; of the first row, 0."""
    steps = [0] + [1] * (count - 1)
    for row, more in jumps(body, count):
        steps[row] += more
    return steps


def jumps(body: bytes, count: int) -> Iterator[tuple[int, int]]:
    """Rows that are not one tick after the one before, and by how much more."""
    row = 0
    for gap, more in _pairs(unpacked_numbers(body)):
        row += gap
        if not 0 < row < count:
            raise Damage(f"row {row} of {count} jumps")
        yield row, varint.zagzig(more)


def _pairs(numbers: list[int]) -> Iterable[tuple[int, int]]:
    return zip(numbers[::2], numbers[1::2], strict=True)
