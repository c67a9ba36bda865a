"""Quarter hours, the resolution of energy: every zone's UTC offset today is a multiple of it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeAlias

QUARTER = 900_000
"""The length of a quarter hour in ms."""


class Quarter(NamedTuple):
    """The increase of a counter in the quarter hour from `start` (Unix ms, a multiple of QUARTER).

    `increase` is in thousandths of the unit. `estimated`: interpolated over a gap, or integrated
    from power. `covered` are the ms of it that lie between two readings: only their increase is
    known. A quarter hour without any has no Quarter.
    """

    start: int
    increase: int
    estimated: bool = False
    covered: int = QUARTER


QuarterSeries: TypeAlias = tuple[Sequence[Quarter], str]
"""Quarters in time order, and how they were determined: one of METHODS."""

Fetch: TypeAlias = Callable[[str, str, int, int], Awaitable[QuarterSeries]]
"""(device, quantity, start, end: Unix ms, multiples of QUARTER) -> the quarters in between."""

COUNTER = "counter"
INTEGRATED = "integrated"
MIXED = "mixed"
METHODS = (COUNTER, INTEGRATED, MIXED)


def quarter_floor(ms: int) -> int:
    """The start of the quarter hour that contains the moment (Unix ms)."""
    return ms - ms % QUARTER


def quarter_ceil(ms: int) -> int:
    """The moment (Unix ms) if a quarter hour begins at it, else the start of the next."""
    return -(-ms // QUARTER) * QUARTER
