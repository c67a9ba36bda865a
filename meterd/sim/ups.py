"""A line-interactive UPS of 600 VA as a model: mains, battery, output, tests and shutdowns.

online --mains fail--> on battery --battery sinks--> low battery --empty--> off
   ^------------------- mains return, charging ------------------------------'
"""

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from meterd.errors import ConfigError
from meterd.model.clock import Clock, SystemClock
from meterd.sim.household import Household

# The battery: seconds that it lasts at full load, the exponent of how much longer it lasts at
# less (Peukert), and seconds to charge it.
_FULL_LOAD = 240.0
_PEUKERT = 1.585
_CHARGE_TIME = 6 * 3600.0
# Volts of a 12 V pack: empty, how far above that a full one is under load, what full load costs,
# and where the UPS calls it low; on mains it is charged with 13.0 to 13.65 V.
_EMPTY, _SPAN, _SAG, _LOW = 9.9, 3.0, 0.5, 10.8
_CHARGING, _FLOAT_SPAN = 13.0, 0.65
# After a long outage a UPS goes on calling the battery low until it holds this much.
_LOW_CHARGE = 0.1
_QUICK_TEST = 10.0
_REST = 10.0
_OUTPUT = 230.0
_FAULT_VOLTAGE = 158.0
_STEP = 1.0

_SCRIPT = re.compile(r"((?:[\d.]+[smh]?\+[\d.]+[smh]?,?)+)(?:/([\d.]+[smh]?))?")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class UpsState(StrEnum):
    ONLINE = "online"
    ON_BATTERY = "on battery"
    LOW_BATTERY = "low battery"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Script:
    """When the mains fail: (start, duration) in seconds; all of it again each `repeat` seconds."""

    outages: tuple[tuple[float, float], ...] = ()
    repeat: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Script":
        """`15s+20s/3m`: fail after 15 s for 20 s, again every 3 minutes. Raises ConfigError."""
        found = _SCRIPT.fullmatch(text.strip()) if text.strip() else None
        if text.strip() and found is None:
            raise ConfigError(f"outages {text!r} are not written like 15s+20s or 15s+20s/3m")
        if found is None:
            return cls()
        pairs = (pair.split("+") for pair in found[1].rstrip(",").split(","))
        outages = tuple((_duration(start), _duration(seconds)) for start, seconds in pairs)
        return cls(outages, _duration(found[2]) if found[2] else 0.0)

    def mains(self, t: float) -> bool:
        """Whether there is mains voltage at second `t`."""
        if self.repeat:
            t %= self.repeat
        return not any(start <= t < start + seconds for start, seconds in self.outages)


def _duration(text: str) -> float:
    unit = text[-1] if text[-1] in _SECONDS else ""
    return float(text.removesuffix(unit)) * _SECONDS.get(unit, 1)


@dataclass(frozen=True, slots=True)
class UpsView:
    """What the UPS measures and knows at one time: V, %, Hz, °C."""

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
    """The model. `load` is in percent; `drain` makes battery and charger that much faster."""

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
        self._glitch: float | None = None
        self._test_until = 0.0
        self._off_at: float | None = None
        self._restore: float | None = None
        self._on_at = math.inf
        self._beeper = True
        self.charge = 1.0

    # What happens to it.

    def outage(self, seconds: float) -> None:
        """The mains fail now, for so long."""
        self._outage_until = self._advance() + seconds

    def test(self, seconds: float = _QUICK_TEST) -> None:
        """Run from the battery for a while; ends by itself when the battery is low."""
        t = self._advance()
        if self._mains and self._output:
            self._test_until = t + seconds

    def cancel_test(self) -> None:
        self._test_until = self._advance()

    def shutdown(self, after: float, restore: float | None = _REST) -> None:
        """Output off in `after` s; on again `restore` s later if there is mains. None: stay off."""
        self._off_at = self._advance() + after
        self._restore = restore

    def cancel_shutdown(self) -> None:
        """Before the output is off: keep it. After: turn it on, when it has rested."""
        t = self._advance()
        self._off_at = None
        if not self._output:
            self._on_at = t + _REST

    def toggle_beeper(self) -> None:
        self._beeper = not self._beeper

    # What it shows.

    def state(self) -> UpsState:
        self._advance()
        if not self._output:
            return UpsState.OFF
        if self._mains:
            return UpsState.ONLINE
        return UpsState.LOW_BATTERY if self._battery_low() else UpsState.ON_BATTERY

    def awake(self) -> bool:
        """With neither mains nor output its electronics have no power: it does not answer."""
        self._advance()
        return self._mains or self._output

    def view(self) -> UpsView:
        """Now. Looking at it once lets the fault voltage follow the input again."""
        t = self._advance()
        inlet = self._grid.at(t).voltage if self._mains else 3.0 + math.sin(t)
        fault, self._glitch = (inlet if self._glitch is None else self._glitch), None
        outlet = (inlet if self._mains and not self._testing() else _OUTPUT) if self._output else 0
        return UpsView(
            input_voltage=inlet,
            fault_voltage=fault,
            output_voltage=outlet,
            load=self._load_now(t),
            frequency=50 + 0.1 * math.sin(t / 41) * self._mains if self._output else 0.0,
            battery_voltage=self._volts(t),
            temperature=27.5 + math.sin(t / 600),
            utility_failed=not self._mains,
            battery_low=self._battery_low(),
            testing=self._testing(),
            shutting_down=self._off_at is not None or not self._output,
            beeper=self._beeper,
        )

    def _load_now(self, t: float) -> float:
        wander = 2.5 * math.sin(t / 8.4) + 1.2 * math.sin(t / 1.7)
        return max(self._load + wander, 0.0) if self._output else 0.0

    def _testing(self) -> bool:
        return self._t < self._test_until

    def _discharging(self) -> bool:
        return self._output and (not self._mains or self._testing())

    def _volts(self, t: float) -> float:
        if not self._discharging():
            return _CHARGING + _FLOAT_SPAN * self.charge
        sag = _SAG * self._load_now(t) / 100
        return _EMPTY + _SPAN * math.sqrt(self.charge) - sag

    def _battery_low(self) -> bool:
        if self._discharging():
            return self._volts(self._t) < _LOW
        return self.charge < _LOW_CHARGE

    # How it goes on.

    def _advance(self) -> float:
        """Live through the time since the last look; returns the second it is now."""
        now = self._clock.monotonic() - self._start
        while self._t < now:
            seconds = min(_STEP, now - self._t)
            self._t += seconds
            if now - self._t < 1e-9:
                self._t = now
            self._live(seconds)
        return now

    def _live(self, seconds: float) -> None:
        """One step: the mains first, then what was ordered, then the battery."""
        t = self._t
        mains = self._script.mains(t) and t >= self._outage_until
        if self._mains and not mains:
            self._glitch = _FAULT_VOLTAGE
            self._test_until = min(self._test_until, t)
        self._mains = mains
        self._obey(t)
        self._use_battery(seconds)

    def _obey(self, t: float) -> None:
        if self._off_at is not None and t >= self._off_at:
            self._off_at = None
            self._output = False
            self._on_at = math.inf if self._restore is None else t + self._restore
        if not self._output and self._mains and t >= self._on_at:
            self._output = True
            self._on_at = math.inf

    def _use_battery(self, seconds: float) -> None:
        seconds *= self._drain
        if not self._discharging():
            if self._mains:
                self.charge = min(self.charge + seconds / _CHARGE_TIME, 1.0)
            return
        share = self._load_now(self._t) / 100
        self.charge = max(self.charge - share**_PEUKERT * seconds / _FULL_LOAD, 0.0)
        if self._testing() and self._battery_low():
            self._test_until = self._t
        if self.charge == 0:
            self._output = False
            self._on_at = self._t + _REST
