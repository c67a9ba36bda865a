"""A quarter hour: the smallest step that every time zone's clock is a multiple of."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeAlias

QUARTER = 900_000
"""Milliseconds."""


class Quarter(NamedTuple):
    """What a counter rose by from `start` (Unix ms, a multiple of QUARTER) on.

    `increase` is in thousandths of the unit. `estimated`: it was interpolated over a hole, or
    integrated from power. `covered` of its ms lie between two readings, so that only this part
    is known. A quarter hour of which nothing is known has no Quarter.
    """

    start: int
    increase: int
    estimated: bool = False
    covered: int = QUARTER


Found: TypeAlias = tuple[Sequence[Quarter], str]
"""Quarters in time order, and how they came about: METHODS."""

Fetch: TypeAlias = Callable[[str, str, int, int], Awaitable[Found]]
"""Device, quantity, start and end (Unix ms, multiples of QUARTER) -> what is known there."""

COUNTER = "counter"
INTEGRATED = "integrated"
MIXED = "mixed"
METHODS = (COUNTER, INTEGRATED, MIXED)


def floor(ms: int) -> int:
    """The start of the quarter hour that this moment is in."""
    return ms - ms % QUARTER


def ceil(ms: int) -> int:
    """This moment, or the first quarter hour after it."""
    return -(-ms // QUARTER) * QUARTER
