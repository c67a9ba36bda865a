"""What flows through a meter: a real house over two winter days, and a roof with solar cells."""

import csv
import gzip
import io
import math
import random
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Protocol

from meterd.sim.trace import Trace

EXTRACT = "household_2007-01-20.csv.gz"
HOUR = 3600.0
DAY = 24 * HOUR

# Ripples: of a load that hums along, and of a grid that hardly moves.
_LOAD_RIPPLE = 0.01
_GRID_RIPPLE = 0.0005


@dataclass(frozen=True, slots=True)
class Instant:
    """One phase at one time: V, W and var; power is positive when taken from the grid."""

    voltage: float
    active: float
    reactive: float

    @property
    def apparent(self) -> float:
        return math.hypot(self.active, self.reactive)

    @property
    def current(self) -> float:
        return self.apparent / self.voltage

    @property
    def power_factor(self) -> float:
        return self.active / self.apparent if self.apparent else 1.0

    @property
    def angle(self) -> float:
        """Between voltage and current, in degrees."""
        return math.degrees(math.atan2(self.reactive, self.active))


@dataclass(frozen=True, slots=True)
class EnergyTotals:
    """What has flowed since the start: Wh and varh."""

    active_import: float
    active_export: float
    reactive_import: float


class PowerSource(Protocol):
    """One phase of something that a meter can measure. `t`: seconds since the start."""

    def at(self, t: float) -> Instant:
        """What flows now."""

    def energy(self, t: float) -> EnergyTotals:
        """What has flowed from second 0 to `t`: the exact integral, so it never falls."""


@dataclass(frozen=True, slots=True)
class _House:
    active: Trace
    reactive: Trace
    voltage: Trace


@cache
def _house() -> _House:
    """The shipped extract, read once."""
    packed = (resources.files("meterd.sim") / "data" / EXTRACT).read_bytes()
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode())))
    return _House(
        Trace([float(row["p_w"]) for row in rows], ripple=_LOAD_RIPPLE, cycles=7),
        Trace([float(row["q_var"]) for row in rows], ripple=_LOAD_RIPPLE, cycles=11),
        Trace([float(row["u_cv"]) / 100 for row in rows], ripple=_GRID_RIPPLE, cycles=13),
    )


class Household:
    """The measured house. `offset` starts it later in its two days, in seconds."""

    def __init__(self, offset: float = 0.0) -> None:
        self._offset = offset

    def at(self, t: float) -> Instant:
        house, t = _house(), t + self._offset
        return Instant(house.voltage.at(t), house.active.at(t), house.reactive.at(t))

    def energy(self, t: float) -> EnergyTotals:
        house = _house()
        return EnergyTotals(
            _hours(house.active, self._offset, t), 0.0, _hours(house.reactive, self._offset, t)
        )


# The roof: power that its inverter can give and what it draws at night, W; its day, minutes.
_PEAK = 3600.0
_STANDBY = 4.0
_REACTIVE = 35.0
_SUNRISE = 7 * 60 + 30
_SUNSET = 17 * 60


@dataclass(frozen=True, slots=True)
class _Roof:
    given: Trace
    drawn: Trace
    reactive: Trace


@cache
def _roof() -> _Roof:
    """One day of a sun with clouds. A minute of 0 W lies between drawing and giving."""
    clouds = random.Random(20070120)
    clear = 1.0
    given: list[float] = []
    for minute in range(24 * 60):
        clear += 0.2 * (clouds.uniform(0.45, 1.0) - clear)
        height = (minute - _SUNRISE) / (_SUNSET - _SUNRISE)
        sun = math.sin(math.pi * height) ** 1.3 if 0 < height < 1 else 0.0
        given.append(_PEAK * sun * clear)
    night = [_STANDBY if not _SUNRISE <= m <= _SUNSET else 0.0 for m in range(24 * 60)]
    return _Roof(
        Trace(given, ripple=_LOAD_RIPPLE, cycles=5),
        Trace(night, ripple=_LOAD_RIPPLE, cycles=3),
        Trace([_REACTIVE], ripple=_LOAD_RIPPLE, cycles=3),
    )


class SolarRoof:
    """A solar inverter: gives power by day (negative), draws a little at night."""

    def __init__(self, offset: float = 0.0) -> None:
        self._offset = offset

    def at(self, t: float) -> Instant:
        roof, t = _roof(), t + self._offset
        active = roof.drawn.at(t) - roof.given.at(t)
        return Instant(_house().voltage.at(t), active, roof.reactive.at(t))

    def energy(self, t: float) -> EnergyTotals:
        roof = _roof()
        drawn, given = _hours(roof.drawn, self._offset, t), _hours(roof.given, self._offset, t)
        return EnergyTotals(drawn, given, _hours(roof.reactive, self._offset, t))


def _hours(trace: Trace, offset: float, t: float) -> float:
    return (trace.integral(offset + t) - trace.integral(offset)) / HOUR
