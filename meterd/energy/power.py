"""Energy from power, for devices that count none: trapezoids between samples.

       ____/|                 |\\____
      /|    |     hole        | |    \\      a quarter hour that a hole touches
─────┴─┴────┴─────────────────┴─┴─────┴──   is not known
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple, TypeAlias

from meterd.energy.quarter import QUARTER, Quarter, ceil
from meterd.energy.tally import EnergyDirection

HOLE_INTERVALS = 3
"""Samples further apart than so many usual steps are not joined."""

AROUND = 5
"""Steps on either side of one that tell what is usual there."""

_TELLING = 2  # steps on one side that tell something
_SLOWEST_STEP_MS = 3_600_000  # nobody knows the power of an hour from samples further apart

Samples: TypeAlias = Iterable[tuple[int, float | None]]
"""(Unix ms, W) in time order; None is as good as no sample."""

# mW times ms in a mWh, twice: a trapezoid's area is half of a sum times a width.
_TWICE = 2 * 3_600_000


class _Point(NamedTuple):
    time: int
    power: int  # mW


def integrate(
    samples: Samples, interval: int, way: EnergyDirection = EnergyDirection.IMPORT
) -> list[Quarter]:
    """The quarter hours that samples cover from end to end, all estimated, in mWh.

    What is usual between two samples they tell themselves, those near by; `interval` in ms is for
    so few that they tell nothing. Positive power is import, negative
    is export, and both are 0 where the power is of the other sign; net is the one less the
    other. What is known before and behind a hole is joined to neither.
    """
    found: list[Quarter] = []
    for run in _runs(samples, interval):
        found += _quarters(run, way)
    return found


def added_up(phases: Sequence[Samples]) -> list[tuple[int, float | None]]:
    """The sum of phases at the times at which all have a value; None at the other times."""
    columns = [dict(phase) for phase in phases]
    times = sorted({time for column in columns for time in column})
    return [(time, _sum([column.get(time) for column in columns])) for time in times]


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _runs(samples: Samples, interval: int) -> Iterator[list[_Point]]:
    """Points without holes between them; a point stands at the edge of each quarter hour."""
    points = list(_points(samples))
    steps = [after.time - before.time for before, after in pairwise(points)]
    run = points[:1]
    for place, (step, point) in enumerate(zip(steps, points[1:], strict=True)):
        if _is_hole(steps, place, step, interval):
            yield run
            run = []
        else:
            run += _edges(run[-1], point)
        run.append(point)
    if run:
        yield run


def _points(samples: Samples) -> Iterator[_Point]:
    """In time order; of one time the first."""
    last = None
    for time, value in samples:
        if value is not None and (last is None or time > last):
            yield _Point(time, round(value * 1000))
            last = time


def _is_hole(steps: Sequence[int], place: int, step: int, interval: int) -> bool:
    """Whether a step is longer than three of those before or behind it."""
    if place >= _TELLING and step <= HOLE_INTERVALS * min(steps[place - 1], steps[place - 2]):
        return step > HOLE_INTERVALS * _SLOWEST_STEP_MS
    sides = steps[max(0, place - AROUND) : place], steps[place + 1 : place + 1 + AROUND]
    usual = [median_low(side) for side in sides if len(side) >= _TELLING]
    return step > HOLE_INTERVALS * min(max(usual, default=interval), _SLOWEST_STEP_MS)


def _edges(before: _Point, after: _Point) -> Iterator[_Point]:
    """The points between two at which quarter hours begin, by a straight line."""
    width, rise = after.time - before.time, after.power - before.power
    for time in range(ceil(before.time + 1), after.time, QUARTER):
        yield _Point(time, before.power + rise * (time - before.time) // width)


def _quarters(run: Sequence[_Point], way: EnergyDirection) -> Iterator[Quarter]:
    """The whole quarter hours of a run. Totals are rounded, so that what they rise by adds up."""
    taken = given = 0
    begun: tuple[int, int, int] | None = None
    before: _Point | None = None
    for point in run:
        if before is not None:
            plus, minus = _areas(before, point)
            taken, given = taken + plus, given + minus
        if point.time % QUARTER == 0:
            here = (point.time, _whole(taken), _whole(given))
            if begun is not None:
                yield Quarter(begun[0], _counted(way, here[1] - begun[1], here[2] - begun[2]), True)
            begun = here
        before = point


def _counted(way: EnergyDirection, taken: int, given: int) -> int:
    if way is EnergyDirection.NET:
        return taken - given
    return given if way is EnergyDirection.EXPORT else taken


def _whole(area: int) -> int:
    """mWh, rounded."""
    return (area + _TWICE // 2) // _TWICE


def _areas(before: _Point, after: _Point) -> tuple[int, int]:
    """Twice the area above and twice the area below zero, in mW ms."""
    width = after.time - before.time
    a, b = before.power, after.power
    whole = (a + b) * width
    if a >= 0 and b >= 0:
        return whole, 0
    if a <= 0 and b <= 0:
        return 0, -whole
    # The line crosses zero: the triangle on the side where it began, the rest on the other.
    triangle = a * a * width // abs(a - b)
    return (triangle, triangle - whole) if a > 0 else (whole + triangle, triangle)
