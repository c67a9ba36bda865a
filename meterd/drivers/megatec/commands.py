"""The instant commands under NUT's names: the bytes of each, and what shows that it was taken.

> S.5R0003\\r      output off in half a minute (`.2` to `.9`, `01` to `10`), on after 3 minutes
> T10\\r           test the battery for ten minutes
"""

from collections.abc import Mapping
from dataclasses import dataclass

from meterd.drivers.megatec.lines import Status
from meterd.drivers.megatec.options import MegatecOptions
from meterd.errors import DeviceCode, DeviceError

_LOW, _FAILED = 6, 7
_BEEPER, _SHUTDOWN, _TEST = 0, 1, 2
_MINUTE, _TENTH = 60, 6


@dataclass(frozen=True, slots=True)
class InstantCommand:
    """One command. `bit` is the status bit that it sets (`sets`), clears, or flips (None).

    `strains`: it needs mains and a battery that is not low.
    """

    command: str
    bit: int
    sets: bool | None
    strains: bool = False

    def check(self, status: Status) -> None:
        """Raises DeviceError where it could drop the load: a test on a battery in need."""
        if self.strains and status.bit(_FAILED):
            text = "the battery is not tested while the unit runs from it; wait for the mains"
            raise DeviceError(text, code=DeviceCode.ON_BATTERY)
        if self.strains and status.bit(_LOW):
            text = "the battery is low, and a test could drop the load; let it charge first"
            raise DeviceError(text, code=DeviceCode.BATTERY_LOW)

    def shows(self, before: Status, after: Status) -> bool:
        """Whether the unit did it, whatever it answered: some say no and act."""
        changed = before.bit(self.bit) != after.bit(self.bit)
        return changed and (self.sets is None or after.bit(self.bit) == self.sets)

    @property
    def shuts_down(self) -> bool:
        return self.bit == _SHUTDOWN and self.sets is True


def orders(options: MegatecOptions) -> Mapping[str, InstantCommand]:
    """By NUT's name, with the delays that the configuration says."""
    off, on = _off(options.offdelay), round(options.ondelay / _MINUTE)
    # R0000 means for ever: a return without a pause is one without R.
    back = f"R{on:04d}" if on else ""
    cancel = InstantCommand("C", _SHUTDOWN, sets=False)
    minutes = round(options.testtime / _MINUTE)
    return {
        "beeper.toggle": InstantCommand("Q", _BEEPER, sets=None),
        # The document begins at .2, but 00 works widely.
        "load.off": InstantCommand("S00R0000", _SHUTDOWN, sets=True),
        # One command for both: before the output is off it cancels, after that it turns it on.
        "load.on": cancel,
        "shutdown.return": InstantCommand(f"S{off}{back}", _SHUTDOWN, sets=True),
        "shutdown.stayoff": InstantCommand(f"S{off}R0000", _SHUTDOWN, sets=True),
        "shutdown.stop": cancel,
        "test.battery.start": InstantCommand(f"T{minutes:02d}", _TEST, sets=True, strains=True),
        "test.battery.start.deep": InstantCommand("TL", _TEST, sets=True, strains=True),
        "test.battery.start.quick": InstantCommand("T", _TEST, sets=True, strains=True),
        "test.battery.stop": InstantCommand("CT", _TEST, sets=False),
    }


def _off(seconds: float) -> str:
    """Below a minute in tenths of it, from there on in whole ones."""
    if seconds < _MINUTE:
        return f".{round(seconds / _TENTH)}"
    return f"{round(seconds / _MINUTE):02d}"
