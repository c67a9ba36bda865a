"""The battery by its voltage: packs, charge and runtime, after NUT's method."""

import math
from dataclasses import dataclass

from meterd.drivers.megatec.lines import number, unknown
from meterd.drivers.megatec.options import BatteryOptions, RuntimeCal
from meterd.model.sample import Quality, Reading

# What a unit may measure instead of the whole battery, in V. NUT tries other shares, too, and
# then takes the 9.9 V of an empty 24 V battery for a third of a full one.
_BLOCKS = (6.0, 12.0, 24.0, 36.0, 48.0)
_GUESS_LOW, _GUESS_HIGH = 0.8, 1.25
# Lead cells have 2 V, and these when empty and when charged; a battery has several.
_CELL, _CELL_LEAST, _CELL_MOST, _CELLS_FROM = 2.0, 1.4, 3.2, 11.0
# Empty and full by the nominal voltage: 10.4 V and 13.0 V of 12 V.
_EMPTY, _FULL = 104 / 120, 130 / 120
_NO_NOMINAL = (
    "the unit does not say its battery's nominal voltage: set battery.nominal (such as 24V)"
)
# Outside this share of the nominal voltage the packs are wrong, not the charge 0 or 100 %.
_REAL_LOW, _REAL_HIGH = 0.6, 1.5
# A UPS without load uses this share of full load itself.
_IDLE_LOAD = 0.10


@dataclass(frozen=True, slots=True)
class State:
    """The battery as the unit tells of it: `voltage` as it came, the load in %.

    `fine`: in hundredths of a volt. `drains`: the load, or a test, runs from it. `time` is
    monotonic, in seconds.
    """

    voltage: Reading
    fine: bool
    load: float | None
    drains: bool
    time: float


class Battery:
    """Scales the unit's reading to the whole battery; the factor is found once and kept."""

    def __init__(self, options: BatteryOptions, runtimecal: RuntimeCal | None) -> None:
        self._options = options
        self._runtimecal = runtimecal
        self._charger = Charger(options.chargetime)
        self._nominal: float | None = None
        self._packs: float | None = None

    def quantities(self, *, rated: bool) -> list[str]:
        """What `read()` may tell of; `rated`: whether the unit may say its nominal voltage."""
        options = self._options
        told = ["battery.voltage", "battery.packs"]
        nominal = rated or options.nominal is not None
        if nominal:
            told.append("battery.voltage.nominal")
        if nominal or (options.low is not None and options.high is not None):
            told += ["battery.voltage.low", "battery.voltage.high", "battery.charge"]
            told += ["battery.runtime"] if self._runtimecal is not None else []
        return told

    def read(self, state: State, rated: float | None) -> list[Reading]:
        """From the unit's state and the battery voltage that it is rated for."""
        said = state.voltage
        voltage = number(said)
        nominal = self._options.nominal or rated
        packs = self._find_packs(voltage, nominal, fine=state.fine)
        readings = []
        if voltage is None or packs is None:
            readings.append(said)
        else:
            voltage = round(voltage * packs, 2)
            readings += [self._whole(said, voltage, packs), Reading("battery.packs", float(packs))]
        if self._options.nominal:
            readings.append(Reading("battery.voltage.nominal", nominal, "V"))
        return readings + self._estimates(state, voltage, nominal)

    def _whole(self, said: Reading, voltage: float, packs: float) -> Reading:
        whole = said._replace(value=voltage)
        if packs == 1 or self._options.packs is not None:
            return whole
        reason = f"{packs:g} times what the unit says, by its nominal voltage: set battery.packs"
        return whole._replace(reason=reason, quality=Quality.ESTIMATED)

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
            # Only one was set, on the wrong side of the other's default.
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
            low, high = low or nominal * _EMPTY, high or nominal * _FULL
        return low, high


class Charger:
    """Bounds the charge while a battery is charged: its voltage then is the charger's.

    Only what was discharged while somebody looked is known of.
    """

    def __init__(self, seconds: float) -> None:
        """`seconds` from empty to full."""
        self._seconds = seconds
        self._most: float | None = None
        self._since: float | None = None

    def bound(self, charge: Reading, state: State) -> Reading:
        """At most what it had when the mains came back, and what came in since then."""
        value = number(charge)
        if state.drains:
            self._most, self._since = (self._most if value is None else value), None
            return charge
        if self._most is None or value is None:
            return charge
        if self._since is not None:
            self._most += 100 * (state.time - self._since) / self._seconds
        self._since = state.time
        if self._most >= value:
            self._most = self._since = None
            return charge
        reason = "from the battery voltage before it was charged, and the time since then"
        return charge._replace(value=float(round(self._most)), reason=reason)


def guess_packs(voltage: float, nominal: float, *, fine: bool = False) -> float | None:
    """What to multiply a reading by to get the battery's voltage; None if nothing fits.

    Readings of one cell (in hundredths: `fine`) are counted exactly, whatever the charge; else
    the largest multiplier that stays within 125 % of the nominal voltage.
    """
    if fine and _CELL_LEAST <= voltage < _CELL_MOST and nominal >= _CELLS_FROM:
        return round(nominal / _CELL)
    shares = {round(nominal / block) for block in _BLOCKS} - {0} | {1, 0.5}
    fitting = (p for p in sorted(shares, reverse=True) if p * voltage <= _GUESS_HIGH * nominal)
    packs = next(fitting, None)
    return packs if packs and packs * voltage >= _GUESS_LOW * nominal else None


def _charge(voltage: float | None, low: float, high: float, nominal: float | None) -> Reading:
    """In whole %, by a straight line between empty and full."""
    if voltage is None:
        return unknown("battery.charge", "%", "the battery voltage is not known")
    base = nominal or high
    if not _REAL_LOW * base <= voltage <= _REAL_HIGH * base:
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
    effective = max((load / 100) ** exponent, _IDLE_LOAD)
    seconds = float(round(at_full_load * charge / 100 / effective))
    reason = "from charge, load and runtimecal"
    return Reading("battery.runtime", seconds, "s", reason, Quality.ESTIMATED)
