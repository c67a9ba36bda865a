"""Instant commands by their NUT names: the bytes of each, and the status bit that confirms it.

> S.5R0003\\r      output off in half a minute (`.2` to `.9`, `01` to `10`), on after 3 minutes
> T10\\r           test the battery for ten minutes
"""

from collections.abc import Mapping
from dataclasses import dataclass

from meterd.drivers.megatec.options import MegatecOptions
from meterd.drivers.megatec.reply_lines import Status
from meterd.errors import DeviceCode, DeviceError

_LOW, _FAILED = 6, 7
_BEEPER, _SHUTDOWN, _TEST = 0, 1, 2
_MINUTE_S, _TENTH_MINUTE_S = 60, 6


@dataclass(frozen=True, slots=True)
class InstantCommand:
    """One command. `bit` is the status bit that it sets (`sets`), clears, or flips (None).

    `discharges`: it discharges the battery, so it needs mains and a battery that is not low.
    """

    command: str
    bit: int
    sets: bool | None
    discharges: bool = False

    def check(self, status: Status) -> None:
        """Raises DeviceError where a test could drop the load: on battery, or with a low one."""
        if self.discharges and status.bit(_FAILED):
            text = "the battery is not tested while the unit runs from it; wait for the mains"
            raise DeviceError(text, code=DeviceCode.ON_BATTERY)
        if self.discharges and status.bit(_LOW):
            text = "the battery is low, and a test could drop the load; let it charge first"
            raise DeviceError(text, code=DeviceCode.BATTERY_LOW)

    def shows(self, before: Status, after: Status) -> bool:
        """Whether the status confirms the command: some units refuse it and act all the same."""
        changed = before.bit(self.bit) != after.bit(self.bit)
        return changed and (self.sets is None or after.bit(self.bit) == self.sets)

    @property
    def shuts_down(self) -> bool:
        return self.bit == _SHUTDOWN and self.sets is True


def instant_commands(options: MegatecOptions) -> Mapping[str, InstantCommand]:
    """The commands by NUT name, with the configured delays."""
    off, on = _off_delay(options.offdelay), round(options.ondelay / _MINUTE_S)
    # R0000 means never: a return without delay has no R.
    back = f"R{on:04d}" if on else ""
    cancel = InstantCommand("C", _SHUTDOWN, sets=False)
    minutes = round(options.testtime / _MINUTE_S)
    return {
        "beeper.toggle": InstantCommand("Q", _BEEPER, sets=None),
        # The document's shortest delay is .2, but 00 works on most units.
        "load.off": InstantCommand("S00R0000", _SHUTDOWN, sets=True),
        # C cancels a shutdown before the output is off, and turns the output on after that.
        "load.on": cancel,
        "shutdown.return": InstantCommand(f"S{off}{back}", _SHUTDOWN, sets=True),
        "shutdown.stayoff": InstantCommand(f"S{off}R0000", _SHUTDOWN, sets=True),
        "shutdown.stop": cancel,
        "test.battery.start": InstantCommand(f"T{minutes:02d}", _TEST, sets=True, discharges=True),
        "test.battery.start.deep": InstantCommand("TL", _TEST, sets=True, discharges=True),
        "test.battery.start.quick": InstantCommand("T", _TEST, sets=True, discharges=True),
        "test.battery.stop": InstantCommand("CT", _TEST, sets=False),
    }


def _off_delay(seconds: float) -> str:
    """The delay of S: tenths of a minute below one minute, whole minutes from there on."""
    if seconds < _MINUTE_S:
        return f".{round(seconds / _TENTH_MINUTE_S)}"
    return f"{round(seconds / _MINUTE_S):02d}"
