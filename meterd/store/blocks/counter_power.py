"""What a device's power came to, to tell whether its counter stood still or was frozen."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise

from meterd.model.quantity import GUARDED, PHASES
from meterd.store.blocks.counter_increase import HOLE_MS, Power

_POWER = "active_power"
_SIGNS = {"active_energy.import": 1, "active_energy.export": -1}
_MS_OF_MWH = 3600  # W times ms in a mWh
_COVERED = 0.9
POWERS = (_POWER, *(f"{_POWER}.{phase}" for phase in PHASES))

Samples = tuple[Sequence[int], Sequence[float]]
"""Times (Unix ms, ascending) and watts, without nulls."""

Load = Callable[[str], Samples | None]
"""A quantity of the device -> its samples of the day; None where there are none."""


def power_of(quantity: str, load: Load) -> Power | None:
    """What a counter's power came to; None where no power belongs to it."""
    energy, _, last = quantity.removeprefix(GUARDED).rpartition(".")
    phase = f".{last}" if last in PHASES else ""
    sign = _SIGNS.get(energy if phase else quantity.removeprefix(GUARDED))
    if sign is None:
        return None
    cache: list[list[Samples]] = []

    def came_to(start: int, end: int) -> int | None:
        if not cache:
            cache.append(list(_lines(phase, load)))
        parts = [_integral(line, start, end, sign) for line in cache[0]]
        known = [part for part in parts if part is not None]
        return sum(known) if known and len(known) == len(parts) else None

    return came_to


def _lines(phase: str, load: Load) -> Sequence[Samples]:
    """The power of the phase, or of the device: its own, or that of its phases."""
    whole = load(_POWER + phase)
    if whole is not None or phase:
        return [whole] if whole is not None else []
    return [line for one in PHASES if (line := load(f"{_POWER}.{one}")) is not None]


def _integral(line: Samples, start: int, end: int, sign: int) -> int | None:
    """The energy in mWh of the power of one sign; None where a part of the time has no samples."""
    times, watts = line
    low, high = max(0, bisect_right(times, start) - 1), bisect_left(times, end) + 1
    points = list(zip(times[low:high], watts[low:high], strict=True))
    area, covered = 0.0, 0
    for (t0, w0), (t1, w1) in pairwise(points):
        width = min(t1, end) - max(t0, start)
        if t1 - t0 <= HOLE_MS and width > 0:
            area += (max(0.0, sign * w0) + max(0.0, sign * w1)) / 2 * width
            covered += width
    return round(area / _MS_OF_MWH) if covered >= _COVERED * (end - start) else None
