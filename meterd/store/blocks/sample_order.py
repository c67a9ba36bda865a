"""Which samples of a running total do not stand in the order in which they were taken.

A total never falls. Where it falls in time, a clock was wrong: samples stand where they do not
belong. The fewest that explain it are strays, as long as the total leaps to them and leaps back;
one that falls and stays there, or climbs from there, began anew.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import gt

# Of the leaps to a stray and back, the smaller one has at least this share of the other.
_LIKE = 0.25


def misplaced(values: Sequence[float]) -> list[int]:
    """The places of the values, in time order and without nulls, that stand at a wrong time."""
    if not any(map(gt, values, values[1:])):
        return []
    odd = _disturbed(values)
    kept = set(_longest([values[place] for place in odd]))
    gone = [place for number, place in enumerate(odd) if number not in kept]
    return [place for run in _runs(gone) if _leaps(values, run) for place in run]


def _disturbed(values: Sequence[float]) -> list[int]:
    """Where something before is greater, or something after is less: all else is in line."""
    most = list(accumulate(values, max))
    least = list(accumulate(reversed(values), min))[::-1]
    return [
        place for place, value in enumerate(values) if value < most[place] or value > least[place]
    ]


def _longest(values: Sequence[float]) -> list[int]:
    """The places of a longest series of values, among these, that never falls."""
    tails: list[float] = []
    at: list[int] = []
    before: list[int] = []
    for place, value in enumerate(values):
        length = bisect_right(tails, value)
        before.append(at[length - 1] if length else -1)
        if length == len(tails):
            tails.append(value)
            at.append(place)
        tails[length], at[length] = value, place
    found: list[int] = []
    place = at[-1] if at else -1
    while place >= 0:
        found.append(place)
        place = before[place]
    return found


def _runs(places: Sequence[int]) -> list[range]:
    """Places that follow one another."""
    breaks = [at for at, (a, b) in enumerate(pairwise(places), 1) if b != a + 1]
    edges = pairwise([0, *breaks, len(places)])
    return [range(places[a], places[b - 1] + 1) for a, b in edges if b > a]


def _leaps(values: Sequence[float], run: range) -> bool:
    if run.start == 0 or run.stop == len(values):
        return False
    there = values[run.start] - values[run.start - 1]
    back = values[run.stop] - values[run.stop - 1]
    few, much = sorted((abs(there), abs(back)))
    return there * back < 0 and few >= _LIKE * much
