"""Power sources of the simulated meters: a measured house over two winter days, a solar roof."""

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

# Amplitudes of the ripple on loads and on the grid's voltage, as parts of the value.
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
        """The phase angle between voltage and current, in degrees."""
        return math.degrees(math.atan2(self.reactive, self.active))


@dataclass(frozen=True, slots=True)
class EnergyTotals:
    """Energies since the start: Wh and varh."""

    active_import: float
    active_export: float
    reactive_import: float


class PowerSource(Protocol):
    """One phase of a load or a generator. `t`: seconds since the start."""

    def at(self, t: float) -> Instant:
        """Voltage and powers at `t`."""

    def energy(self, t: float) -> EnergyTotals:
        """The energies from second 0 to `t`, as the exact integral, so that they never decrease."""


@dataclass(frozen=True, slots=True)
class _House:
    active: Trace
    reactive: Trace
    voltage: Trace


@cache
def _house() -> _House:
    """The traces of the shipped extract, read once."""
    packed = (resources.files("meterd.sim") / "data" / EXTRACT).read_bytes()
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode())))
    return _House(
        Trace([float(row["p_w"]) for row in rows], ripple=_LOAD_RIPPLE, cycles=7),
        Trace([float(row["q_var"]) for row in rows], ripple=_LOAD_RIPPLE, cycles=11),
        Trace([float(row["u_cv"]) / 100 for row in rows], ripple=_GRID_RIPPLE, cycles=13),
    )


class Household:
    """The measured house. `offset`: where in its two days it starts, in seconds."""

    def __init__(self, offset: float = 0.0) -> None:
        self._offset = offset

    def at(self, t: float) -> Instant:
        house, t = _house(), t + self._offset
        return Instant(house.voltage.at(t), house.active.at(t), house.reactive.at(t))

    def energy(self, t: float) -> EnergyTotals:
        house = _house()
        return EnergyTotals(
            _energy(house.active, self._offset, t), 0.0, _energy(house.reactive, self._offset, t)
        )


# The roof's inverter: peak power, consumption at night, reactive power; minutes of its day.
_PEAK_W = 3600.0
_STANDBY_W = 4.0
_REACTIVE_VAR = 35.0
_SUNRISE_MIN = 7 * 60 + 30
_SUNSET_MIN = 17 * 60


@dataclass(frozen=True, slots=True)
class _Roof:
    generation: Trace
    consumption: Trace
    reactive: Trace


@cache
def _roof() -> _Roof:
    """One day of sun and clouds. Consumption and generation are separated by a minute of 0 W."""
    clouds = random.Random(20070120)
    clear = 1.0
    generation: list[float] = []
    for minute in range(24 * 60):
        clear += 0.2 * (clouds.uniform(0.45, 1.0) - clear)
        height = (minute - _SUNRISE_MIN) / (_SUNSET_MIN - _SUNRISE_MIN)
        sun = math.sin(math.pi * height) ** 1.3 if 0 < height < 1 else 0.0
        generation.append(_PEAK_W * sun * clear)
    night = [_STANDBY_W if not _SUNRISE_MIN <= m <= _SUNSET_MIN else 0.0 for m in range(24 * 60)]
    return _Roof(
        Trace(generation, ripple=_LOAD_RIPPLE, cycles=5),
        Trace(night, ripple=_LOAD_RIPPLE, cycles=3),
        Trace([_REACTIVE_VAR], ripple=_LOAD_RIPPLE, cycles=3),
    )


class SolarRoof:
    """A solar inverter: exports by day (negative power), imports its standby power at night."""

    def __init__(self, offset: float = 0.0) -> None:
        self._offset = offset

    def at(self, t: float) -> Instant:
        roof, t = _roof(), t + self._offset
        active = roof.consumption.at(t) - roof.generation.at(t)
        return Instant(_house().voltage.at(t), active, roof.reactive.at(t))

    def energy(self, t: float) -> EnergyTotals:
        roof = _roof()
        consumption, generation = (
            _energy(roof.consumption, self._offset, t),
            _energy(roof.generation, self._offset, t),
        )
        return EnergyTotals(consumption, generation, _energy(roof.reactive, self._offset, t))


def _energy(trace: Trace, offset: float, t: float) -> float:
    return (trace.integral(offset + t) - trace.integral(offset)) / HOUR
