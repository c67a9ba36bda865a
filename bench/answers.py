"""One question to several stores: what it costs each of them, and whether they say the same."""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

_ROUNDS = 7
_ENOUGH = 2.0  # s of CPU; what takes longer is not asked again
_ALIKE = 1e-6  # of the mean; the stores add up in different order

Means: TypeAlias = Mapping[str, Sequence[tuple[int, float]]]
"""For each series, the starts of buckets (Unix ms) and the mean of each."""


class Window(NamedTuple):
    """Buckets of `step` from start to before end, all Unix ms and multiples of `step`."""

    start: int
    end: int
    step: int


class Side(Protocol):
    """One store that is asked."""

    def ask(self, names: Sequence[str], window: Window) -> object:
        """The answer as it comes out of that store."""

    def means(self, answer: object) -> Means:
        """What such an answer says."""

    def cpu(self) -> float:
        """Seconds that it has worked so far."""


class Cost(NamedTuple):
    """Medians of some rounds, in ms: CPU of the side, and the time until it had answered."""

    cpu: float
    wall: float


def cost(side: Side, names: Sequence[str], window: Window) -> tuple[Cost, object]:
    """And the answer. The first round warms up, unless it took long enough to count."""
    first, answer = _round(side, names, window)
    if first.cpu > 1e3 * _ENOUGH:
        return first, answer
    found: list[Cost] = []
    while len(found) < _ROUNDS and sum(one.cpu for one in found) < 1e3 * _ENOUGH:
        found.append(_round(side, names, window)[0])
    cpu, wall = (statistics.median(column) for column in zip(*found, strict=True))
    return Cost(cpu, wall), answer


def _round(side: Side, names: Sequence[str], window: Window) -> tuple[Cost, object]:
    before, began = side.cpu(), time.perf_counter()
    answer = side.ask(names, window)
    wall = time.perf_counter() - began
    return Cost(1e3 * (side.cpu() - before), 1e3 * wall), answer


def differ(ours: Means, theirs: Means) -> str | None:
    """Where two answers to one question part, in words."""
    if ours.keys() != theirs.keys():
        return f"series {sorted(ours.keys() ^ theirs.keys())}"
    for name, points in ours.items():
        if [at for at, _ in points] != [at for at, _ in theirs[name]]:
            return f"the buckets of {name}: {len(points)} and {len(theirs[name])}"
        for (at, one), (_, other) in zip(points, theirs[name], strict=True):
            if not math.isclose(one, other, rel_tol=_ALIKE, abs_tol=_ALIKE):
                return f"{name} at {at}: {one!r} and {other!r}"
    return None
