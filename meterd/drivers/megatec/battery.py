"""Estimation of a UPS battery from its voltage: packs, charge and runtime, by NUT's method."""

import math
from dataclasses import dataclass

from meterd.drivers.megatec.options import BatteryOptions, RuntimeCal
from meterd.drivers.megatec.reply_lines import number, unknown
from meterd.model.sample import Quality, Reading

# Nominal voltages that a unit may measure in place of the whole battery's. NUT tries other parts,
# too, and then takes the 9.9 V of an empty 24 V battery for a third of a full one.
_MEASURED_BLOCKS_V = (6.0, 12.0, 24.0, 36.0, 48.0)
_GUESS_LOW, _GUESS_HIGH = 0.8, 1.25
# Voltages of a lead cell: nominal, empty, charged; and the nominal voltage of the smallest battery.
_CELL_V, _CELL_MIN_V, _CELL_MAX_V, _CELL_BATTERY_MIN_V = 2.0, 1.4, 3.2, 11.0
# Empty and full by the nominal voltage: 10.4 V and 13.0 V of 12 V.
_EMPTY_PART, _FULL_PART = 104 / 120, 130 / 120
_NO_NOMINAL = (
    "the unit does not say its battery's nominal voltage: set battery.nominal (such as 24V)"
)
# Outside these parts of the nominal voltage `packs` is wrong, rather than the charge 0 or 100 %.
_REAL_MIN_PART, _REAL_MAX_PART = 0.6, 1.5
# A UPS without load consumes this part of full load.
_IDLE_LOAD_PART = 0.10


@dataclass(frozen=True, slots=True)
class State:
    """The battery's state in a status line: `voltage` as received, the load in %.

    `fine`: the voltage has two decimals. `drains`: the load, or a test, runs from the battery.
    `time` is in monotonic seconds.
    """

    voltage: Reading
    fine: bool
    load: float | None
    drains: bool
    time: float


class Battery:
    """Scales the unit's voltage to the whole battery, by a factor that is found once."""

    def __init__(self, options: BatteryOptions, runtimecal: RuntimeCal | None) -> None:
        self._options = options
        self._runtimecal = runtimecal
        self._charger = Charger(options.chargetime)
        self._nominal: float | None = None
        self._packs: float | None = None

    def quantities(self, *, rated: bool) -> list[str]:
        """Quantities of `read()`; `rated`: whether the unit may report its nominal voltage."""
        options = self._options
        names = ["battery.voltage", "battery.packs"]
        nominal = rated or options.nominal is not None
        if nominal:
            names.append("battery.voltage.nominal")
        if nominal or (options.low is not None and options.high is not None):
            names += ["battery.voltage.low", "battery.voltage.high", "battery.charge"]
            names += ["battery.runtime"] if self._runtimecal is not None else []
        return names

    def read(self, state: State, rated: float | None) -> list[Reading]:
        """The battery's readings; `rated` is the nominal voltage that the unit reports."""
        measured = state.voltage
        voltage = number(measured)
        nominal = self._options.nominal or rated
        packs = self._find_packs(voltage, nominal, fine=state.fine)
        readings = []
        if voltage is None or packs is None:
            readings.append(measured)
        else:
            voltage = round(voltage * packs, 2)
            readings += [
                self._scaled(measured, voltage, packs),
                Reading("battery.packs", float(packs)),
            ]
        if self._options.nominal:
            readings.append(Reading("battery.voltage.nominal", nominal, "V"))
        return readings + self._estimates(state, voltage, nominal)

    def _scaled(self, measured: Reading, voltage: float, packs: float) -> Reading:
        scaled = measured._replace(value=voltage)
        if packs == 1 or self._options.packs is not None:
            return scaled
        reason = f"{packs:g} times what the unit says, by its nominal voltage: set battery.packs"
        return scaled._replace(reason=reason, quality=Quality.ESTIMATED)

    def _find_packs(
        self, voltage: float | None, nominal: float | None, *, fine: bool
    ) -> float | None:
        if self._options.packs is not None:
            return self._options.packs
        if nominal != self._nominal:
            self._nominal, self._packs = nominal, None
        if self._packs is None and voltage and nominal:
            self._packs = guess_packs(voltage, nominal, fine=fine)
        return self._packs

    def _estimates(
        self, state: State, voltage: float | None, nominal: float | None
    ) -> list[Reading]:
        low, high = self._thresholds(nominal)
        if low is None or high is None:
            return [unknown("battery.charge", "%", _NO_NOMINAL)]
        readings = [
            Reading("battery.voltage.low", round(low, 2), "V"),
            Reading("battery.voltage.high", round(high, 2), "V"),
        ]
        if low >= high:
            # Only one of them is configured, beyond the other's default.
            reason = f"empty at {low:g} V and full at {high:g} V: set battery.low and battery.high"
            return [*readings, unknown("battery.charge", "%", reason)]
        charge = self._charger.bound(_charge(voltage, low, high, nominal), state)
        readings.append(charge)
        if self._runtimecal is not None:
            readings.append(_runtime(self._runtimecal, number(charge), state.load))
        return readings

    def _thresholds(self, nominal: float | None) -> tuple[float | None, float | None]:
        low, high = self._options.low, self._options.high
        if nominal:
            low, high = low or nominal * _EMPTY_PART, high or nominal * _FULL_PART
        return low, high


class Charger:
    """Limits the charge while a battery is being charged, when its voltage is the charger's.

    It applies after discharges that were polled; others are unknown.
    """

    def __init__(self, seconds: float) -> None:
        """`seconds` from empty to full."""
        self._full_charge_s = seconds
        self._charge_max: float | None = None
        self._since: float | None = None

    def bound(self, charge: Reading, state: State) -> Reading:
        """The charge, at most that at the end of the discharge plus what was charged since."""
        value = number(charge)
        if state.drains:
            self._charge_max, self._since = (self._charge_max if value is None else value), None
            return charge
        if self._charge_max is None or value is None:
            return charge
        if self._since is not None:
            self._charge_max += 100 * (state.time - self._since) / self._full_charge_s
        self._since = state.time
        if self._charge_max >= value:
            self._charge_max = self._since = None
            return charge
        reason = "from the battery voltage before it was charged, and the time since then"
        return charge._replace(value=float(round(self._charge_max)), reason=reason)


def guess_packs(voltage: float, nominal: float, *, fine: bool = False) -> float | None:
    """Factor from the unit's voltage to the whole battery's; None if none fits.

    The voltage of one cell (two decimals: `fine`) gives the exact number of cells, whatever the
    charge; others the largest factor that stays within 125 % of the nominal voltage.
    """
    if fine and _CELL_MIN_V <= voltage < _CELL_MAX_V and nominal >= _CELL_BATTERY_MIN_V:
        return round(nominal / _CELL_V)
    shares = {round(nominal / block) for block in _MEASURED_BLOCKS_V} - {0} | {1, 0.5}
    fitting = (p for p in sorted(shares, reverse=True) if p * voltage <= _GUESS_HIGH * nominal)
    packs = next(fitting, None)
    return packs if packs and packs * voltage >= _GUESS_LOW * nominal else None


def _charge(voltage: float | None, low: float, high: float, nominal: float | None) -> Reading:
    """Charge in whole %, linear between the voltages of empty and full."""
    if voltage is None:
        return unknown("battery.charge", "%", "the battery voltage is not known")
    base = nominal or high
    if not _REAL_MIN_PART * base <= voltage <= _REAL_MAX_PART * base:
        reason = f"{voltage:g} V is no voltage of a {base:g} V battery: set battery.packs"
        return unknown("battery.charge", "%", reason)
    charge = min(max(100 * (voltage - low) / (high - low), 0), 100)
    reason = "from the battery voltage"
    return Reading("battery.charge", float(round(charge)), "%", reason, Quality.ESTIMATED)


def _runtime(cal: RuntimeCal, charge: float | None, load: float | None) -> Reading:
    """Seconds left at this load, by Peukert's law through two measured points."""
    if charge is None or load is None:
        what = "charge" if charge is None else "load"
        return unknown("battery.runtime", "s", f"the {what} is not known")
    time1, load1, time2, load2 = cal
    exponent = math.log(time2 / time1) / math.log(load1 / load2)
    at_full_load = time1 * (load1 / 100) ** exponent
    effective = max((load / 100) ** exponent, _IDLE_LOAD_PART)
    seconds = float(round(at_full_load * charge / 100 / effective))
    reason = "from charge, load and runtimecal"
    return Reading("battery.runtime", seconds, "s", reason, Quality.ESTIMATED)
