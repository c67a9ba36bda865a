"""Everything that a meter shows, worked out from what flows through its one or three phases."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from meterd.drivers.registers import RegisterMap
from meterd.model.quantity import LINES, PHASES
from meterd.poll.direction import mirrored
from meterd.sim.household import DAY, HOUR, EnergyTotals, Household, Instant, PowerSource, SolarRoof
from meterd.sim.registers import Value

# Demand is the mean over this time, as meters are delivered.
_WINDOW = 900.0
# What the counters stood at when the simulation began, Wh and varh.
_BASE_IMPORT = 4_217_350.0
_BASE_EXPORT = 1_203_480.0
_BASE_REACTIVE = 318_260.0
# Two thirds of what is taken counts on tariff 1.
_TARIFFS = {"t1": 2 / 3, "t2": 1 / 3, "t3": 0.0, "t4": 0.0}
# Phases see the same house at other times of its two days.
_SPREAD = 11 * HOUR
_NOMINAL = 230.0


class _Demand(NamedTuple):
    """Means over one window: W, var, and A in each phase."""

    net: float
    taken: float
    given: float
    reactive: float
    current: float


def phases_of(register_map: RegisterMap) -> int:
    """3 where the map speaks of a second phase or of voltages between lines, else 1."""
    several = (row.quantity.endswith((".l2", ".l12", ".ll.avg")) for row in register_map.rows)
    return 3 if any(several) else 1


def house_meter(register_map: RegisterMap, offset: float = 0.0) -> "SimulatedMeter":
    """A meter of this model in the measured house, `offset` seconds into its two days."""
    phases = range(phases_of(register_map))
    sources = [Household(offset + i * _SPREAD) for i in phases]
    # Meters of one site were not installed on one day.
    return SimulatedMeter(register_map, sources, age=1 + offset % DAY / DAY)


def solar_meter(register_map: RegisterMap, offset: float = 0.0) -> "SimulatedMeter":
    """A meter of this model behind solar cells; negative by day."""
    sources = [SolarRoof(offset)] * phases_of(register_map)
    return SimulatedMeter(register_map, sources, age=1 + offset % DAY / DAY, gives=True)


class SimulatedMeter:
    """The values of one meter over time. One source is a single-phase meter, three are three.

    `age` multiplies what the counters stand at in the beginning; one that `gives` has exported
    as much as the others have imported.
    """

    def __init__(
        self,
        register_map: RegisterMap,
        sources: Sequence[PowerSource],
        *,
        age: float = 1.0,
        gives: bool = False,
    ) -> None:
        taken, given = _BASE_IMPORT * age, _BASE_EXPORT * age
        self._base = EnergyTotals(
            *((given, taken) if gives else (taken, given)), _BASE_REACTIVE * age
        )
        self._map = register_map
        self._sources = tuple(sources)
        self._count = len(self._sources)

    def values(self, t: float) -> dict[str, Value]:
        """Every quantity that a meter may have, in canonical units, at second `t`.

        A model that counts positive what the house gives shows them the other way round.
        """
        found = self._seen_by_the_house(t)
        return _turned(found) if self._map.turned else found

    def _seen_by_the_house(self, t: float) -> dict[str, Value]:
        now = [source.at(t) for source in self._sources]
        found: dict[str, Value] = {}
        found.update(_electricity(now))
        found.update(_grid(t))
        found.update(self._energies(t))
        found.update(self._demands(t))
        found.update(self._info())
        return found

    def _info(self) -> dict[str, str]:
        return {
            "info.manufacturer": self._map.maker,
            "info.model": self._map.model,
            "info.serial_number": "20070120",
            "info.firmware": "1.0",
            "info.hardware": "1.0",
        }

    def _energies(self, t: float) -> dict[str, Value]:
        each = [source.energy(t) for source in self._sources]
        found = _registers("", each, self._base, 1.0)
        for phase, energy in zip(PHASES, each, strict=False):
            found.update(_registers(f".{phase}", [energy], self._base, 1 / self._count))
        for name in _ENERGIES:
            whole = found[name]
            found.update({f"{name}.{tariff}": whole * part for tariff, part in _TARIFFS.items()})
        partial = _registers("", each, self._base, 0.0)
        found.update({f"{name}.partial": value for name, value in partial.items()})
        return dict(found)

    def _demand(self, t: float) -> _Demand:
        """The means over the window that ends now."""
        now, before = _sum(self._sources, t), _sum(self._sources, t - _WINDOW)
        hours = _WINDOW / HOUR
        taken = (now.active_import - before.active_import) / hours
        given = (now.active_export - before.active_export) / hours
        reactive = (now.reactive_import - before.reactive_import) / hours
        current = math.hypot(taken - given, reactive) / _NOMINAL / len(self._sources)
        return _Demand(taken - given, taken, given, reactive, current)

    @cached_property
    def _peak(self) -> _Demand:
        """The largest demands of the two days, each by itself."""
        seen = [self._demand(step * _WINDOW) for step in range(int(2 * DAY / _WINDOW))]
        return _Demand(*map(max, zip(*seen, strict=True)))

    def _demands(self, t: float) -> dict[str, Value]:
        now = self._demand(t)
        peak = _Demand(*map(max, now, self._peak))
        return {**_demanded(now, "", self._count), **_demanded(peak, ".max", self._count)}


_ENERGIES = tuple(
    f"{kind}_energy.{way}"
    for kind in ("active", "reactive", "apparent")
    for way in ("import", "export", "total")
)


def _turned(values: Mapping[str, Value]) -> dict[str, Value]:
    """What a meter shows of the same house that is mounted the other way round."""
    found: dict[str, Value] = {}
    for name, value in values.items():
        there = mirrored(name)
        turns = there.sign < 0 and isinstance(value, int | float)
        found[there.name] = -value if turns else value  # type: ignore[operator]
    return found


def _sum(sources: Sequence[PowerSource], t: float) -> EnergyTotals:
    each = [source.energy(t) for source in sources]
    return EnergyTotals(
        sum(energy.active_import for energy in each),
        sum(energy.active_export for energy in each),
        sum(energy.reactive_import for energy in each),
    )


def _registers(
    suffix: str, each: Sequence[EnergyTotals], base: EnergyTotals, share: float
) -> dict[str, float]:
    """The energy registers of these phases together; `share` of the base is theirs."""
    taken = share * base.active_import + sum(energy.active_import for energy in each)
    given = share * base.active_export + sum(energy.active_export for energy in each)
    reactive = share * base.reactive_import + sum(energy.reactive_import for energy in each)
    apparent = math.hypot(taken, reactive)
    found = {
        "active_energy.import": taken,
        "active_energy.export": given,
        "active_energy.total": taken + given,
        "active_energy.net": taken - given,
        "reactive_energy.import": reactive,
        "reactive_energy.export": 0.0,
        "reactive_energy.total": reactive,
        "reactive_energy.net": reactive,
        "reactive_energy.inductive": reactive,
        "reactive_energy.capacitive": 0.0,
        "apparent_energy.import": apparent,
        "apparent_energy.export": given,
        "apparent_energy.total": apparent + given,
        "apparent_energy.net": apparent - given,
    }
    return {name + suffix: value for name, value in found.items()}


def _electricity(now: Sequence[Instant]) -> dict[str, Value]:
    """Powers, voltages and currents, by phase and together."""
    found: dict[str, Value] = {}
    for phase, instant in zip(PHASES, now, strict=False):
        found.update(_phase(f".{phase}", instant))
    active = sum(instant.active for instant in now)
    reactive = sum(instant.reactive for instant in now)
    voltage = sum(instant.voltage for instant in now) / len(now)
    together = Instant(voltage, active, reactive)
    found.update(_phase("", together))
    current = sum(instant.current for instant in now)
    found["current"] = current
    found["current.avg"] = current / len(now)
    found["voltage.avg"] = voltage
    found["voltage.n"] = 0.4 + 0.02 * current
    found["current.n"] = _neutral(now)
    found.update(_lines(now))
    return found


def _phase(suffix: str, instant: Instant) -> dict[str, Value]:
    return {
        f"voltage{suffix}": instant.voltage,
        f"current{suffix}": instant.current,
        f"active_power{suffix}": instant.active,
        f"active_power.import{suffix}": max(instant.active, 0.0),
        f"active_power.export{suffix}": max(-instant.active, 0.0),
        f"reactive_power{suffix}": instant.reactive,
        f"reactive_power.inductive{suffix}": max(instant.reactive, 0.0),
        f"reactive_power.capacitive{suffix}": max(-instant.reactive, 0.0),
        f"apparent_power{suffix}": instant.apparent,
        f"power_factor{suffix}": instant.power_factor,
        f"power_factor.displacement{suffix}": instant.power_factor,
        f"phase_angle{suffix}": instant.angle,
    }


def _neutral(now: Sequence[Instant]) -> float:
    """The phases' currents added as arrows, 120 degrees apart: what returns in the neutral."""
    arrows = [
        instant.current * complex(math.cos(angle), -math.sin(angle))
        for instant, angle in zip(now, (0.0, 2 * math.pi / 3, 4 * math.pi / 3), strict=False)
    ]
    return abs(sum(arrows))


def _lines(now: Sequence[Instant]) -> dict[str, Value]:
    """Voltages between lines, from phases 120 degrees apart."""
    if len(now) < len(PHASES):
        return {}
    pairs = zip(LINES, ((0, 1), (1, 2), (2, 0)), strict=True)
    volts = {line: _between(now[a].voltage, now[b].voltage) for line, (a, b) in pairs}
    found: dict[str, Value] = {f"voltage.{line}": value for line, value in volts.items()}
    return found | {"voltage.ll.avg": sum(volts.values()) / len(volts)}


def _between(one: float, other: float) -> float:
    return math.sqrt(one * one + other * other + one * other)


def _grid(t: float) -> dict[str, Value]:
    """What wanders by itself: frequency, distortion, temperature; and flags that are quiet."""
    slow, fast = math.sin(2 * math.pi * t / 41), math.sin(2 * math.pi * t / 7.3)
    found: dict[str, Value] = {
        "frequency": 50 + 0.018 * slow + 0.011 * fast,
        "temperature": 31 + 1.5 * math.sin(2 * math.pi * t / 1800),
        "tariff": 1.0,
        "phase_sequence": 1.0,
        "phase_sequence.fault": 0.0,
        "power_interruptions": 0.0,
        "alarm": 0.0,
    }
    for order, place in enumerate((*PHASES, *LINES, "n", "avg", "ll.avg")):
        found[f"thd.voltage.{place}"] = 1.8 + 0.1 * order + 0.05 * slow
        found[f"thd.current.{place}"] = 9.0 + 0.7 * order + 0.9 * slow
    return found


def _demanded(mean: _Demand, suffix: str, phases: int) -> dict[str, Value]:
    found: dict[str, Value] = {
        f"demand.active_power{suffix}": mean.net,
        f"demand.active_power.import{suffix}": mean.taken,
        f"demand.active_power.export{suffix}": mean.given,
        f"demand.reactive_power{suffix}": mean.reactive,
        f"demand.apparent_power{suffix}": mean.current * _NOMINAL * phases,
        f"demand.current{suffix}.n": mean.current / 10,
    }
    for place in (*PHASES, "avg"):
        found[f"demand.current{suffix}.{place}"] = mean.current
    return found
