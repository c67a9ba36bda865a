"""The eight status bits as 0/1 quantities under NUT's status letters.

b7 utility failed  b6 battery low  b5 AVR or bypass  b4 fault
b3 line-interactive  b2 test  b1 shutdown  b0 beeper
"""

from meterd.drivers.megatec.reply_lines import Status, unknown
from meterd.model.sample import Reading

# Output voltage in V below which the output is off; the rest is induced.
_OUTPUT_OFF_MAX_V = 10.0
_OVERLOAD_PERCENT = 100.0
# Upper limits of output / input voltage, and the meaning of b5 below each; NUT's limits.
_REGULATION = ((0.5, ""), (0.95, "trim"), (1.05, "bypass"), (1.5, "boost"))
_REGULATORS = ("trim", "bypass", "boost")
# Letters of each status line, besides the regulators and the beeper.
_LETTERS = ("ol", "ob", "lb", "cal", "test", "off", "alarm", "over")


class Letters:
    """Converts status lines to letters; keeps whether the shutdown bit was ever clear."""

    def __init__(self, *, ignore_shutdown_bit: bool) -> None:
        self._ignore_shutdown_bit = ignore_shutdown_bit
        self._bit_was_clear = False
        self._shutting_down = False

    def reset(self) -> None:
        """The link was reopened: another unit may answer, unless this one was shutting down."""
        self._bit_was_clear = self._bit_was_clear and self._shutting_down

    def shutdown_sent(self, before: Status) -> None:
        """A shutdown command was sent: if its bit was clear before, it counts from now on."""
        if not before.bit(1):
            self._bit_was_clear = self._shutting_down = True

    def quantities(self) -> list[str]:
        """Quantities of `read()`."""
        names = [f"ups.status.{letter}" for letter in (*_LETTERS, *_REGULATORS)]
        return [*names, "ups.beeper"] + ([] if self._ignore_shutdown_bit else ["ups.status.fsd"])

    def read(self, status: Status) -> list[Reading]:
        on_battery = status.bit(7)
        readings = [
            _letter("ol", not on_battery),
            _letter("ob", on_battery),
            _letter("lb", status.bit(6)),
            *_regulation(status),
            # NUT has one word, CAL, for what this protocol calls a test.
            _letter("cal", status.bit(2)),
            _letter("test", status.bit(2)),
            _off(status),
            _letter("alarm", status.bit(4)),
            _over(status),
            Reading("ups.beeper", float(status.bit(0))),
        ]
        if not self._ignore_shutdown_bit:
            readings.append(self._shutdown(status))
        return readings

    def _shutdown(self, status: Status) -> Reading:
        """Some firmware sets b1 permanently, so it counts only once it was seen to rise."""
        if not status.bit(1):
            self._bit_was_clear, self._shutting_down = True, False
            return _letter("fsd", False)
        if not status.bit(7) and _is_off(status):
            # The shutdown is over and mains is back: clients must not shut down again.
            return _letter("fsd", False)
        if not self._bit_was_clear:
            reason = "the shutdown bit was set from the first answer on; see ignore_shutdown_bit"
            return unknown("ups.status.fsd", "1", reason)
        self._shutting_down = True
        return _letter("fsd", True)


def _letter(name: str, on: bool) -> Reading:
    return Reading(f"ups.status.{name}", float(on))


def _is_off(status: Status) -> bool:
    output = status.value("output.voltage")
    return output is not None and output < _OUTPUT_OFF_MAX_V


def _off(status: Status) -> Reading:
    if status.value("output.voltage") is None:
        return unknown("ups.status.off", "1", "the output voltage is not known")
    if _is_off(status) and status.bit(7):
        # The field lags behind the bit at a transfer, and no document says which is right.
        return unknown("ups.status.off", "1", "no output voltage while on battery")
    return _letter("off", _is_off(status))


def _over(status: Status) -> Reading:
    load = status.value("ups.load")
    if load is None:
        return unknown("ups.status.over", "1", "the load is not known")
    return _letter("over", load > _OVERLOAD_PERCENT)


def _regulation(status: Status) -> list[Reading]:
    """b5 means that the output is regulated, the voltages tell how; on battery b5 is undefined."""
    if not status.bit(5) or status.bit(7):
        return [_letter(name, False) for name in _REGULATORS]
    active = _regulator(status.value("output.voltage"), status.value("input.voltage"))
    if active in _REGULATORS:
        return [_letter(name, name == active) for name in _REGULATORS]
    reason = "the bit is set, but the voltages do not say which it means"
    return [unknown(f"ups.status.{name}", "1", reason) for name in _REGULATORS]


def _regulator(output: float | None, source: float | None) -> str:
    if output is None or not source:
        return ""
    ratio = output / source
    return next((name for limit, name in _REGULATION if ratio < limit), "")
