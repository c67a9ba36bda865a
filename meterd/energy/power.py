"""Integrates power to energy by the trapezoidal rule, for devices without energy counters.

       ____/|                 |\\____
      /|    |      gap        | |    \\      a quarter hour that overlaps a gap
─────┴─┴────┴─────────────────┴─┴─────┴──   is left out
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple, TypeAlias

from meterd.energy.quarter import QUARTER, Quarter, quarter_ceil
from meterd.energy.tally import EnergyDirection

GAP_STEPS = 3
"""A step between samples longer than this many usual steps is a gap."""

NEIGHBOUR_STEPS = 5
"""Steps on either side of a step whose median is the usual step there."""

_MIN_NEIGHBOURS = 2  # steps on one side that are needed for its median
_SLOWEST_STEP_MS = 3_600_000  # the longest usual step: sparser samples give no energy

Samples: TypeAlias = Iterable[tuple[int, float | None]]
"""(Unix ms, W) in time order; None counts as no sample."""

# Twice the mW ms of a mWh: areas are kept doubled, so that half sums stay integers.
_MW_MS_PER_MWH_TWICE = 2 * 3_600_000


class _Point(NamedTuple):
    time: int
    power: int  # mW


def integrate(
    samples: Samples, interval: int, direction: EnergyDirection = EnergyDirection.IMPORT
) -> list[Quarter]:
    """The increases (mWh, estimated) of the quarter hours that samples cover completely.

    The usual step is the median of neighbouring steps; `interval` in ms is the default where
    there are too few. Positive power is import, negative power export, net is import less export.
    Samples on both sides of a gap are not connected.
    """
    quarters: list[Quarter] = []
    for segment in _segments(samples, interval):
        quarters += _quarters(segment, direction)
    return quarters


def sum_phases(phases: Sequence[Samples]) -> list[tuple[int, float | None]]:
    """The sum of the phases at times at which all have a value, None at all other times."""
    columns = [dict(phase) for phase in phases]
    times = sorted({time for column in columns for time in column})
    return [(time, _sum([column.get(time) for column in columns])) for time in times]


def _sum(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) if len(present) == len(values) else None


def _segments(samples: Samples, interval: int) -> Iterator[list[_Point]]:
    """Points without gaps, with interpolated points at the boundaries of quarter hours."""
    points = list(_points(samples))
    steps = [after.time - before.time for before, after in pairwise(points)]
    segment = points[:1]
    for index, (step, point) in enumerate(zip(steps, points[1:], strict=True)):
        if _is_gap(steps, index, step, interval):
            yield segment
            segment = []
        else:
            segment += _boundary_points(segment[-1], point)
        segment.append(point)
    if segment:
        yield segment


def _points(samples: Samples) -> Iterator[_Point]:
    """Samples as points in mW; the first of samples with the same time."""
    last_time = None
    for time, value in samples:
        if value is not None and (last_time is None or time > last_time):
            yield _Point(time, round(value * 1000))
            last_time = time


def _is_gap(steps: Sequence[int], index: int, step: int, interval: int) -> bool:
    """Whether a step is longer than GAP_STEPS usual steps before it and after it."""
    if index >= _MIN_NEIGHBOURS and step <= GAP_STEPS * min(steps[index - 1], steps[index - 2]):
        return step > GAP_STEPS * _SLOWEST_STEP_MS
    sides = (
        steps[max(0, index - NEIGHBOUR_STEPS) : index],
        steps[index + 1 : index + 1 + NEIGHBOUR_STEPS],
    )
    medians = [median_low(side) for side in sides if len(side) >= _MIN_NEIGHBOURS]
    return step > GAP_STEPS * min(max(medians, default=interval), _SLOWEST_STEP_MS)


def _boundary_points(before: _Point, after: _Point) -> Iterator[_Point]:
    """Linearly interpolated points at the quarter hour boundaries between two points."""
    width, rise = after.time - before.time, after.power - before.power
    for time in range(quarter_ceil(before.time + 1), after.time, QUARTER):
        yield _Point(time, before.power + rise * (time - before.time) // width)


def _quarters(points: Sequence[_Point], direction: EnergyDirection) -> Iterator[Quarter]:
    """The whole quarter hours of a segment.

    The running totals are rounded, not the increases, so that increases add up to the total.
    """
    imported = exported = 0
    previous_boundary: tuple[int, int, int] | None = None
    before: _Point | None = None
    for point in points:
        if before is not None:
            import_area, export_area = _areas(before, point)
            imported, exported = imported + import_area, exported + export_area
        if point.time % QUARTER == 0:
            boundary = (point.time, _mwh(imported), _mwh(exported))
            if previous_boundary is not None:
                yield Quarter(
                    previous_boundary[0],
                    _in_direction(
                        direction,
                        boundary[1] - previous_boundary[1],
                        boundary[2] - previous_boundary[2],
                    ),
                    True,
                )
            previous_boundary = boundary
        before = point


def _in_direction(direction: EnergyDirection, imported: int, exported: int) -> int:
    if direction is EnergyDirection.NET:
        return imported - exported
    return exported if direction is EnergyDirection.EXPORT else imported


def _mwh(area: int) -> int:
    """A doubled area (mW ms) in mWh, rounded."""
    return (area + _MW_MS_PER_MWH_TWICE // 2) // _MW_MS_PER_MWH_TWICE


def _areas(before: _Point, after: _Point) -> tuple[int, int]:
    """Doubled areas (mW ms) of a trapezoid above and below zero, both as positive numbers."""
    width = after.time - before.time
    a, b = before.power, after.power
    whole = (a + b) * width
    if a >= 0 and b >= 0:
        return whole, 0
    if a <= 0 and b <= 0:
        return 0, -whole
    # The line crosses zero: a triangle on the first point's side, the rest on the other.
    triangle = a * a * width // abs(a - b)
    return (triangle, triangle - whole) if a > 0 else (whole + triangle, triangle)
