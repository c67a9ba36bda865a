"""What a running total rose by in each quarter hour, from its samples.

E(t)      ____/·     straight lines between samples, read off at quarter hours and rounded
     ____/           there to thousandths: so that increases add up exactly
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from meterd.energy.power import HOLE_INTERVALS, Samples
from meterd.energy.quarter import QUARTER, Quarter, ceil


def rises(samples: Samples, interval: int) -> list[Quarter]:
    """The quarter hours between the first and the last sample, in thousandths of the unit.

    `interval` is the usual time between two samples in ms. Over holes, longer than three
    intervals and than a quarter hour, the line is an estimate. A total that falls began anew:
    the quarter hour in which it did is not known.
    """
    found: list[Quarter] = []
    for run in _runs(samples):
        found += _quarters(run, max(HOLE_INTERVALS * interval, QUARTER))
    return found


def _runs(samples: Samples) -> Iterator[list[tuple[int, int]]]:
    """(Unix ms, thousandths) in time order, anew where the total falls."""
    run: list[tuple[int, int]] = []
    for time, value in samples:
        if value is None or (run and time <= run[-1][0]):
            continue
        total = round(value * 1000)
        if run and total < run[-1][1]:
            yield run
            run = []
        run.append((time, total))
    yield run


def _quarters(run: Sequence[tuple[int, int]], hole: int) -> Iterator[Quarter]:
    begun: tuple[int, int] | None = None
    doubt = False
    for (before, low), (after, high) in pairwise(run):
        is_hole = after - before > hole
        doubt = doubt or is_hole
        for time in range(ceil(before), after + 1, QUARTER):
            if begun is not None and time == begun[0]:
                continue
            total = low + (2 * (high - low) * (time - before) + after - before) // (
                2 * (after - before)
            )
            if begun is not None:
                yield Quarter(begun[0], total - begun[1], doubt)
            begun = (time, total)
            doubt = is_hole and time < after
