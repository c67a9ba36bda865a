"""A real house, metered for a year: forty series at 10 s, whose counters go on day by day."""

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

from bench import phases
from meterd.model.quantity import CATALOGUE
from meterd.model.sample import Layout, Poll

DEVICE = "house"
FIRST_DAY = 20_089  # 2025-01-01
DAY_MS = 86_400_000
STEP_MS = 1000 * phases.STEP
POLLS = DAY_MS // STEP_MS
_FILE = "household_power_1min.csv.gz"
_PHASED = (
    "voltage",
    "current",
    "active_power",
    "reactive_power",
    "apparent_power",
    "power_factor",
    "thd.current",
)
_WHOLE = (
    "voltage.l12",
    "voltage.l23",
    "voltage.l31",
    "active_power",
    "reactive_power",
    "apparent_power",
    "power_factor",
    "current.avg",
    "frequency",
    "temperature",
)
_COUNTED = (
    "active_energy.import.l1",
    "active_energy.import.l2",
    "active_energy.import.l3",
    "active_energy.export.l1",
    "active_energy.export.l2",
    "active_energy.export.l3",
    "active_energy.export",
    "active_energy.import",
    "reactive_energy.import",
)
NAMES = (*(f"{one}.l{n}" for one in _PHASED for n in (1, 2, 3)), *_WHOLE, *_COUNTED)
LAYOUT = Layout.of([(name, CATALOGUE[name].unit) for name in NAMES])

Lanes = list["array[float]"]


def data() -> Path | None:
    """The data set; it is not part of the repository, METERD_BENCH_DATA names its folder."""
    path = Path(os.environ.get("METERD_BENCH_DATA") or "../shared/data") / _FILE
    return path if path.exists() else None


class House:
    """Days by their number from 0 on. Each starts where the one before ended."""

    def __init__(self, path: Path, first: int, count: int) -> None:
        self._first = first
        # A minute more than the days: between it and the one before lie the last polls.
        wanted = count * 1440 + 1
        held = min(wanted, phases.YEAR - first * 1440)
        rows = phases.minutes(path, first * 1440, held)
        # A year ends with its last minute, which stands for the next one, too.
        self._rows = [[*phase, *phase[-1:] * (wanted - held)] for phase in rows]

    def day(self, number: int) -> Lanes:
        """Forty series; the counters begin with what the day before left."""
        start = (number - self._first) * 1440
        rows = [phase[start : start + 1441] for phase in self._rows]
        return phases.series(rows, number)


def rises(lanes: Lanes) -> list[float]:
    """What each counter of a day adds; the last poll's step stands for the one to the next day."""
    return [2 * lane[-1] - lane[-2] - lane[0] for lane in lanes[-phases.COUNTERS :]]


def raised(lanes: Lanes, bases: list[float]) -> Lanes:
    """The day's lanes, with its counters going on from `bases`."""
    gauges, counters = lanes[: -phases.COUNTERS], lanes[-phases.COUNTERS :]
    moved = (
        array("d", [value - lane[0] + base for value in lane])
        for lane, base in zip(counters, bases, strict=True)
    )
    return [*gauges, *moved]


def lanes(path: Path, first: int, count: int) -> Iterator[Lanes]:
    """So many days in turn."""
    house = House(path, first, count)
    bases = [4_100_000.0] * phases.COUNTERS
    for number in range(first, first + count):
        day = house.day(number)
        yield raised(day, bases)
        bases = [base + rise for base, rise in zip(bases, rises(day), strict=True)]


def times(number: int) -> range:
    """The due times of a day's polls, Unix ms."""
    start = (FIRST_DAY + number) * DAY_MS
    return range(start, start + DAY_MS, STEP_MS)


def polls(number: int, day: Lanes, device: str = DEVICE) -> Iterator[Poll]:
    """A day as the bus would give it."""
    for time, values in zip(times(number), zip(*day, strict=True), strict=True):
        yield Poll(device, time, LAYOUT, values)
