"""The model of a line-interactive UPS of 600 VA: mains, battery, output, tests, shutdowns.

online --mains fail--> on battery --discharge------> low battery --empty--> off
   ^------------------- mains return, charging ------------------------------'
"""

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from meterd.errors import ConfigError
from meterd.model.clock import Clock, SystemClock
from meterd.sim.household import Household

# The battery: runtime at full load, Peukert's exponent for lower loads, charging time.
_FULL_LOAD_RUNTIME_S = 240.0
_PEUKERT = 1.585
_CHARGE_TIME_S = 6 * 3600.0
# Volts of a 12 V pack when discharging: empty, range from empty to full, drop at full load, limit
# of "low". On mains it has 13.0 to 13.65 V, by its charge.
_EMPTY_V, _RANGE_V, _SAG_V, _LOW_V = 9.9, 3.0, 0.5, 10.8
_CHARGING_V, _FLOAT_RANGE_V = 13.0, 0.65
# On mains the UPS reports a low battery below this charge.
_LOW_CHARGE = 0.1
_QUICK_TEST_S = 10.0
_RESTORE_DELAY_S = 10.0
_INVERTER_V = 230.0
_FAULT_V = 158.0
_STEP_S = 1.0

_SCRIPT = re.compile(r"((?:[\d.]+[smh]?\+[\d.]+[smh]?,?)+)(?:/([\d.]+[smh]?))?")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}


class UpsState(StrEnum):
    ONLINE = "online"
    ON_BATTERY = "on battery"
    LOW_BATTERY = "low battery"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Script:
    """Mains failures: (start, duration) in seconds, repeated every `repeat` seconds (0: never)."""

    outages: tuple[tuple[float, float], ...] = ()
    repeat: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Script":
        """Parse `15s+20s/3m`: fail after 15 s for 20 s, every 3 minutes. Raises ConfigError."""
        match = _SCRIPT.fullmatch(text.strip()) if text.strip() else None
        if text.strip() and match is None:
            raise ConfigError(f"outages {text!r} are not written like 15s+20s or 15s+20s/3m")
        if match is None:
            return cls()
        pairs = (pair.split("+") for pair in match[1].rstrip(",").split(","))
        outages = tuple((_duration(start), _duration(seconds)) for start, seconds in pairs)
        return cls(outages, _duration(match[2]) if match[2] else 0.0)

    def mains(self, t: float) -> bool:
        """Whether there is mains voltage at second `t`."""
        if self.repeat:
            t %= self.repeat
        return not any(start <= t < start + seconds for start, seconds in self.outages)


def _duration(text: str) -> float:
    unit = text[-1] if text[-1] in _UNIT_SECONDS else ""
    return float(text.removesuffix(unit)) * _UNIT_SECONDS.get(unit, 1)


@dataclass(frozen=True, slots=True)
class UpsView:
    """Measurements and status of the UPS at one time: V, %, Hz, °C."""

    input_voltage: float
    fault_voltage: float
    output_voltage: float
    load: float
    frequency: float
    battery_voltage: float
    temperature: float
    utility_failed: bool
    battery_low: bool
    testing: bool
    shutting_down: bool
    beeper: bool


class Ups:
    """The model. `load`: percent; `drain`: factor of the speed of discharge and charge."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        script: Script | None = None,
        load: float = 28.0,
        drain: float = 1.0,
    ) -> None:
        self._clock = clock or SystemClock()
        self._start = self._clock.monotonic()
        self._script = script or Script()
        self._load = load
        self._drain = drain
        self._grid = Household()
        self._t = 0.0
        self._outage_until = 0.0
        self._mains = True
        self._output = True
        self._fault_voltage: float | None = None
        self._test_until = 0.0
        self._off_at: float | None = None
        self._restore: float | None = None
        self._on_at = math.inf
        self._beeper = True
        self.charge = 1.0

    # Events and commands.

    def outage(self, seconds: float) -> None:
        """Let the mains fail now, for `seconds`."""
        self._outage_until = self._advance() + seconds

    def test(self, seconds: float = _QUICK_TEST_S) -> None:
        """Run on battery for `seconds`, or until the battery is low."""
        t = self._advance()
        if self._mains and self._output:
            self._test_until = t + seconds

    def cancel_test(self) -> None:
        self._test_until = self._advance()

    def shutdown(self, after: float, restore: float | None = _RESTORE_DELAY_S) -> None:
        """Output off in `after` s; on again `restore` s later with mains. None: stay off."""
        self._off_at = self._advance() + after
        self._restore = restore

    def cancel_shutdown(self) -> None:
        """Cancel before the output is off; after it, turn the output on after the restore delay."""
        t = self._advance()
        self._off_at = None
        if not self._output:
            self._on_at = t + _RESTORE_DELAY_S

    def toggle_beeper(self) -> None:
        self._beeper = not self._beeper

    # Status.

    def state(self) -> UpsState:
        self._advance()
        if not self._output:
            return UpsState.OFF
        if self._mains:
            return UpsState.ONLINE
        return UpsState.LOW_BATTERY if self._is_battery_low() else UpsState.ON_BATTERY

    def has_power(self) -> bool:
        """Whether it replies: with neither mains nor output its electronics have no power."""
        self._advance()
        return self._mains or self._output

    def view(self) -> UpsView:
        """The status now. It resets the fault voltage, which then follows the input again."""
        t = self._advance()
        input_v = self._grid.at(t).voltage if self._mains else 3.0 + math.sin(t)
        fault_v, self._fault_voltage = (
            (input_v if self._fault_voltage is None else self._fault_voltage),
            None,
        )
        output_v = (
            (input_v if self._mains and not self._is_testing() else _INVERTER_V)
            if self._output
            else 0
        )
        return UpsView(
            input_voltage=input_v,
            fault_voltage=fault_v,
            output_voltage=output_v,
            load=self._load_now(t),
            frequency=50 + 0.1 * math.sin(t / 41) * self._mains if self._output else 0.0,
            battery_voltage=self._battery_voltage(t),
            temperature=27.5 + math.sin(t / 600),
            utility_failed=not self._mains,
            battery_low=self._is_battery_low(),
            testing=self._is_testing(),
            shutting_down=self._off_at is not None or not self._output,
            beeper=self._beeper,
        )

    def _load_now(self, t: float) -> float:
        wander = 2.5 * math.sin(t / 8.4) + 1.2 * math.sin(t / 1.7)
        return max(self._load + wander, 0.0) if self._output else 0.0

    def _is_testing(self) -> bool:
        return self._t < self._test_until

    def _is_discharging(self) -> bool:
        return self._output and (not self._mains or self._is_testing())

    def _battery_voltage(self, t: float) -> float:
        if not self._is_discharging():
            return _CHARGING_V + _FLOAT_RANGE_V * self.charge
        sag = _SAG_V * self._load_now(t) / 100
        return _EMPTY_V + _RANGE_V * math.sqrt(self.charge) - sag

    def _is_battery_low(self) -> bool:
        if self._is_discharging():
            return self._battery_voltage(self._t) < _LOW_V
        return self.charge < _LOW_CHARGE

    # Simulation in steps.

    def _advance(self) -> float:
        """Simulate the time since the last call; returns the present second."""
        now = self._clock.monotonic() - self._start
        while self._t < now:
            seconds = min(_STEP_S, now - self._t)
            self._t += seconds
            if now - self._t < 1e-9:
                self._t = now
            self._step(seconds)
        return now

    def _step(self, seconds: float) -> None:
        """One step: mains, then a scheduled shutdown or restore, then the battery."""
        t = self._t
        mains = self._script.mains(t) and t >= self._outage_until
        if self._mains and not mains:
            self._fault_voltage = _FAULT_V
            self._test_until = min(self._test_until, t)
        self._mains = mains
        self._apply_shutdown(t)
        self._step_battery(seconds)

    def _apply_shutdown(self, t: float) -> None:
        if self._off_at is not None and t >= self._off_at:
            self._off_at = None
            self._output = False
            self._on_at = math.inf if self._restore is None else t + self._restore
        if not self._output and self._mains and t >= self._on_at:
            self._output = True
            self._on_at = math.inf

    def _step_battery(self, seconds: float) -> None:
        seconds *= self._drain
        if not self._is_discharging():
            if self._mains:
                self.charge = min(self.charge + seconds / _CHARGE_TIME_S, 1.0)
            return
        share = self._load_now(self._t) / 100
        self.charge = max(self.charge - share**_PEUKERT * seconds / _FULL_LOAD_RUNTIME_S, 0.0)
        if self._is_testing() and self._is_battery_low():
            self._test_until = self._t
        if self.charge == 0:
            self._output = False
            self._on_at = self._t + _RESTORE_DELAY_S
