"""The quantities of a simulated meter, calculated from the power sources of its phases."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from meterd.drivers.registers import RegisterMap
from meterd.model.quantity import LINES, PHASES
from meterd.poll.direction import mirrored
from meterd.sim.household import DAY, HOUR, EnergyTotals, Household, Instant, PowerSource, SolarRoof
from meterd.sim.registers import Value

# Seconds over which demand is averaged, the usual default of meters.
_DEMAND_WINDOW_S = 900.0
# Counters at the start of the simulation, Wh and varh.
_BASE_IMPORT = 4_217_350.0
_BASE_EXPORT = 1_203_480.0
_BASE_REACTIVE = 318_260.0
# Tariff -> share of the energies in its registers.
_TARIFF_SHARES = {"t1": 2 / 3, "t2": 1 / 3, "t3": 0.0, "t4": 0.0}
# The other phases have the same house, later in its two days.
_PHASE_OFFSET_S = 11 * HOUR
_NOMINAL_V = 230.0


class _Demand(NamedTuple):
    """Means over one window: W, var, and A of each phase."""

    net: float
    imported: float
    exported: float
    reactive: float
    current: float


def phases_of(register_map: RegisterMap) -> int:
    """3 where the map has quantities of a second phase or between lines, else 1."""
    is_three_phase = (
        row.quantity.endswith((".l2", ".l12", ".ll.avg")) for row in register_map.rows
    )
    return 3 if any(is_three_phase) else 1


def house_meter(register_map: RegisterMap, offset: float = 0.0) -> "SimulatedMeter":
    """A meter of this model in the measured house, from `offset` seconds into its two days."""
    phases = range(phases_of(register_map))
    sources = [Household(offset + i * _PHASE_OFFSET_S) for i in phases]
    # Different counters, as of meters that were installed at different times.
    return SimulatedMeter(register_map, sources, age=1 + offset % DAY / DAY)


def solar_meter(register_map: RegisterMap, offset: float = 0.0) -> "SimulatedMeter":
    """A meter of this model at a solar inverter; its power is negative by day."""
    sources = [SolarRoof(offset)] * phases_of(register_map)
    return SimulatedMeter(register_map, sources, age=1 + offset % DAY / DAY, is_generator=True)


class SimulatedMeter:
    """The values of one meter over time, with one power source for each phase.

    `age` multiplies the counters at the start; with `is_generator` those of import and export
    are swapped.
    """

    def __init__(
        self,
        register_map: RegisterMap,
        sources: Sequence[PowerSource],
        *,
        age: float = 1.0,
        is_generator: bool = False,
    ) -> None:
        imported, exported = _BASE_IMPORT * age, _BASE_EXPORT * age
        self._base = EnergyTotals(
            *((exported, imported) if is_generator else (imported, exported)), _BASE_REACTIVE * age
        )
        self._register_map = register_map
        self._sources = tuple(sources)
        self._count = len(self._sources)

    def values(self, t: float) -> dict[str, Value]:
        """All quantities that a meter may have, in canonical units, at second `t`.

        A map with `turned` counts exported power as positive: its values are mirrored.
        """
        quantities = self._site_values(t)
        return _reversed_values(quantities) if self._register_map.turned else quantities

    def _site_values(self, t: float) -> dict[str, Value]:
        instants = [source.at(t) for source in self._sources]
        values: dict[str, Value] = {}
        values.update(_power_values(instants))
        values.update(_grid_values(t))
        values.update(self._energy_values(t))
        values.update(self._all_demand_values(t))
        values.update(self._info())
        return values

    def _info(self) -> dict[str, str]:
        return {
            "info.manufacturer": self._register_map.maker,
            "info.model": self._register_map.model,
            "info.serial_number": "20070120",
            "info.firmware": "1.0",
            "info.hardware": "1.0",
        }

    def _energy_values(self, t: float) -> dict[str, Value]:
        totals = [source.energy(t) for source in self._sources]
        registers = _energy_registers("", totals, self._base, 1.0)
        for phase, energy in zip(PHASES, totals, strict=False):
            registers.update(_energy_registers(f".{phase}", [energy], self._base, 1 / self._count))
        for name in _ENERGIES:
            total = registers[name]
            registers.update(
                {f"{name}.{tariff}": total * share for tariff, share in _TARIFF_SHARES.items()}
            )
        partial = _energy_registers("", totals, self._base, 0.0)
        registers.update({f"{name}.partial": value for name, value in partial.items()})
        return dict(registers)

    def _demand(self, t: float) -> _Demand:
        """The means over the window that ends at `t`."""
        now, earlier = (
            _total_energy(self._sources, t),
            _total_energy(self._sources, t - _DEMAND_WINDOW_S),
        )
        hours = _DEMAND_WINDOW_S / HOUR
        imported = (now.active_import - earlier.active_import) / hours
        exported = (now.active_export - earlier.active_export) / hours
        reactive = (now.reactive_import - earlier.reactive_import) / hours
        current = math.hypot(imported - exported, reactive) / _NOMINAL_V / len(self._sources)
        return _Demand(imported - exported, imported, exported, reactive, current)

    @cached_property
    def _peak(self) -> _Demand:
        """The maximum of each demand over the two days."""
        demands = [
            self._demand(step * _DEMAND_WINDOW_S) for step in range(int(2 * DAY / _DEMAND_WINDOW_S))
        ]
        return _Demand(*map(max, zip(*demands, strict=True)))

    def _all_demand_values(self, t: float) -> dict[str, Value]:
        present = self._demand(t)
        peak = _Demand(*map(max, present, self._peak))
        return {
            **_demand_values(present, "", self._count),
            **_demand_values(peak, ".max", self._count),
        }


_ENERGIES = tuple(
    f"{kind}_energy.{way}"
    for kind in ("active", "reactive", "apparent")
    for way in ("import", "export", "total")
)


def _reversed_values(values: Mapping[str, Value]) -> dict[str, Value]:
    """The values of a meter that is mounted in the opposite direction."""
    mirrored_values: dict[str, Value] = {}
    for name, value in values.items():
        target = mirrored(name)
        is_negated = target.sign < 0 and isinstance(value, int | float)
        mirrored_values[target.name] = -value if is_negated else value  # type: ignore[operator]
    return mirrored_values


def _total_energy(sources: Sequence[PowerSource], t: float) -> EnergyTotals:
    totals = [source.energy(t) for source in sources]
    return EnergyTotals(
        sum(energy.active_import for energy in totals),
        sum(energy.active_export for energy in totals),
        sum(energy.reactive_import for energy in totals),
    )


def _energy_registers(
    suffix: str, totals: Sequence[EnergyTotals], base: EnergyTotals, share: float
) -> dict[str, float]:
    """The energy registers of these phases together; they have `share` of the base counters."""
    imported = share * base.active_import + sum(energy.active_import for energy in totals)
    exported = share * base.active_export + sum(energy.active_export for energy in totals)
    reactive = share * base.reactive_import + sum(energy.reactive_import for energy in totals)
    apparent = math.hypot(imported, reactive)
    registers = {
        "active_energy.import": imported,
        "active_energy.export": exported,
        "active_energy.total": imported + exported,
        "active_energy.net": imported - exported,
        "reactive_energy.import": reactive,
        "reactive_energy.export": 0.0,
        "reactive_energy.total": reactive,
        "reactive_energy.net": reactive,
        "reactive_energy.inductive": reactive,
        "reactive_energy.capacitive": 0.0,
        "apparent_energy.import": apparent,
        "apparent_energy.export": exported,
        "apparent_energy.total": apparent + exported,
        "apparent_energy.net": apparent - exported,
    }
    return {name + suffix: value for name, value in registers.items()}


def _power_values(instants: Sequence[Instant]) -> dict[str, Value]:
    """Powers, voltages and currents, of each phase and in total."""
    values: dict[str, Value] = {}
    for phase, instant in zip(PHASES, instants, strict=False):
        values.update(_phase_values(f".{phase}", instant))
    active = sum(instant.active for instant in instants)
    reactive = sum(instant.reactive for instant in instants)
    voltage = sum(instant.voltage for instant in instants) / len(instants)
    total = Instant(voltage, active, reactive)
    values.update(_phase_values("", total))
    current = sum(instant.current for instant in instants)
    values["current"] = current
    values["current.avg"] = current / len(instants)
    values["voltage.avg"] = voltage
    values["voltage.n"] = 0.4 + 0.02 * current
    values["current.n"] = _neutral_current(instants)
    values.update(_line_voltages(instants))
    return values


def _phase_values(suffix: str, instant: Instant) -> dict[str, Value]:
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


def _neutral_current(instants: Sequence[Instant]) -> float:
    """The neutral current: the sum of the phases' currents as phasors, 120 degrees apart."""
    phasors = [
        instant.current * complex(math.cos(angle), -math.sin(angle))
        for instant, angle in zip(instants, (0.0, 2 * math.pi / 3, 4 * math.pi / 3), strict=False)
    ]
    return abs(sum(phasors))


def _line_voltages(instants: Sequence[Instant]) -> dict[str, Value]:
    """Line-to-line voltages, of phases 120 degrees apart."""
    if len(instants) < len(PHASES):
        return {}
    pairs = zip(LINES, ((0, 1), (1, 2), (2, 0)), strict=True)
    volts = {
        line: _line_voltage(instants[a].voltage, instants[b].voltage) for line, (a, b) in pairs
    }
    values: dict[str, Value] = {f"voltage.{line}": value for line, value in volts.items()}
    return values | {"voltage.ll.avg": sum(volts.values()) / len(volts)}


def _line_voltage(first: float, second: float) -> float:
    return math.sqrt(first * first + second * second + first * second)


def _grid_values(t: float) -> dict[str, Value]:
    """Quantities apart from the load: frequency, THD, temperature, and flags that are 0."""
    slow, fast = math.sin(2 * math.pi * t / 41), math.sin(2 * math.pi * t / 7.3)
    values: dict[str, Value] = {
        "frequency": 50 + 0.018 * slow + 0.011 * fast,
        "temperature": 31 + 1.5 * math.sin(2 * math.pi * t / 1800),
        "tariff": 1.0,
        "phase_sequence": 1.0,
        "phase_sequence.fault": 0.0,
        "power_interruptions": 0.0,
        "alarm": 0.0,
    }
    for order, position in enumerate((*PHASES, *LINES, "n", "avg", "ll.avg")):
        values[f"thd.voltage.{position}"] = 1.8 + 0.1 * order + 0.05 * slow
        values[f"thd.current.{position}"] = 9.0 + 0.7 * order + 0.9 * slow
    return values


def _demand_values(mean: _Demand, suffix: str, phases: int) -> dict[str, Value]:
    values: dict[str, Value] = {
        f"demand.active_power{suffix}": mean.net,
        f"demand.active_power.import{suffix}": mean.imported,
        f"demand.active_power.export{suffix}": mean.exported,
        f"demand.reactive_power{suffix}": mean.reactive,
        f"demand.apparent_power{suffix}": mean.current * _NOMINAL_V * phases,
        f"demand.current{suffix}.n": mean.current / 10,
    }
    for phase in (*PHASES, "avg"):
        values[f"demand.current{suffix}.{phase}"] = mean.current
    return values
