"""Hints for people which setting may be wrong, derived from how a link's exchanges fail."""

from functools import lru_cache

from meterd.errors import LinkCode, LinkError

# Separates an error's text from its hint.
MARK = "; hint: "
# A request sent within this time (s) of the reply before it may be too early for the device.
SOON = 0.1
# Lost replies, and exchanges with noise in a row, from which a hint is given.
_LOSSES_BEFORE_HINT = 3
_NOISES_BEFORE_HINT = 5
_NOISE_CODES = (LinkCode.GARBLED, LinkCode.FLOOD)
# 0 stands for devices without a unit id (Megatec): they never get the hint about gaps.
_NO_UNIT = frozenset((0,))
_UNIT_SETS_MAX = 1000

_CONNECT_DELAY_HINT = (
    "what is asked right after connecting is never answered: if the device is there, "
    "set connect_delay, for instance to 1s"
)
_GAP_HINT = (
    "it answers, but never what is asked right after an answer: if it needs a pause "
    "between two requests, set gap, for instance to 50ms"
)


_TAKEN_HINT = (
    "it hangs up before it answers anything: does another client hold it, "
    "or is this a port for something else?"
)
_TCP_FRAMER_HINT = "a device that speaks Modbus TCP itself needs no ?framer=rtu"
_SILENT_HINT = "nothing was ever heard here: check the unit's number, the timeout, and "
_SILENT_LINE = "the wires (A and B changed over?), and whether the line is really set to "
_SILENT_GATEWAY = "the wires and the baud rate behind the gateway"
_SILENT_NETWORK = "?framer=rtu where a gateway passes serial frames through"


class LinkDiagnostics:
    """Statistics of failed exchanges on one link, and the hint that follows from them.

    One reply without the pause proves for good that the device needs none. `line` is the setting
    of a serial line ("9600 8N1"), empty for other links: only there noise means a wrong baud rate.
    """

    __slots__ = (
        "_any_frame",
        "_connect_answered",
        "_connect_losses",
        "_early_losses_by_unit",
        "_first",
        "_framer",
        "_line",
        "_noise_before",
        "_noises",
        "prompt",
    )

    def __init__(self, line: str = "", *, framer: str = "socket") -> None:
        self.prompt = _NO_UNIT
        """Unit ids that answered a request sent within SOON seconds of their reply before."""
        self._line = line
        self._framer = framer
        self._first = False
        self._any_frame = False
        self._connect_losses = 0
        self._connect_answered = False
        self._early_losses_by_unit: dict[int, int] | None = None
        self._noises = 0
        self._noise_before = 0

    def opened(self) -> None:
        """The next request is the first on a new connection."""
        self._first = True

    def answered(self, unit: int, *, soon: bool) -> None:
        """A whole frame of `unit` came, an exception included.

        `soon`: the request was sent within SOON seconds of the same unit's reply before.
        """
        self._connect_answered = self._connect_answered or self._first
        self._first = False
        self._any_frame = True
        self._noises = 0
        if soon:
            self.prompt = _with_unit(self.prompt, unit)

    def lost(
        self, error: LinkError, unit: int, *, soon: bool, noise: int, rest: bool = False
    ) -> LinkError:
        """An exchange failed with `error`: returns it, with a hint appended if there is one.

        `soon` as in `answered`; `noise`: the link's counter of noise; `rest`: whether bytes
        that make no frame are left in the buffer.
        """
        first, self._first = self._first, False
        noisy = rest or error.code in _NOISE_CODES or noise > self._noise_before
        self._noise_before = noise
        self._any_frame = self._any_frame or noisy
        hint = self._noise_hint(noisy)
        if error.code == LinkCode.TIMEOUT and not noisy:
            hint = hint or self._pause_hint(unit, first=first, soon=soon)
            hint = hint or self._silence_hint(unit)
        if error.code == LinkCode.CLOSED and first:
            hint = hint or _TAKEN_HINT
            if self._framer == "rtu" and not self._line:
                hint = f"{hint} Besides, {_TCP_FRAMER_HINT}"
        return type(error)(f"{error}{MARK}{hint}", code=error.code) if hint else error

    def _noise_hint(self, noisy: bool) -> str:
        self._noises = self._noises + 1 if noisy else 0
        if not self._line or self._noises < _NOISES_BEFORE_HINT:
            return ""
        return f"what comes is no answer: is the line really set to {self._line}?"

    def _pause_hint(self, unit: int, *, first: bool, soon: bool) -> str:
        if first and not self._connect_answered:
            self._connect_losses += 1
        if unit not in self.prompt and self._early_losses(unit, soon) >= _LOSSES_BEFORE_HINT:
            return _GAP_HINT
        return _CONNECT_DELAY_HINT if self._connect_losses >= _LOSSES_BEFORE_HINT else ""

    def _silence_hint(self, unit: int) -> str:
        if self._any_frame or not unit:
            return ""
        if self._line:
            return f"{_SILENT_HINT}{_SILENT_LINE}{self._line}"
        if self._framer == "socket":
            return _SILENT_HINT + _SILENT_NETWORK
        return f"{_SILENT_HINT}{_SILENT_GATEWAY}; {_TCP_FRAMER_HINT}"

    def _early_losses(self, unit: int, soon: bool) -> int:
        """Count of this unit's replies lost right after one that came, this one if `soon`."""
        if self._early_losses_by_unit is None:
            self._early_losses_by_unit = {}
        losses = self._early_losses_by_unit[unit] = self._early_losses_by_unit.get(unit, 0) + soon
        return losses


@lru_cache(maxsize=_UNIT_SETS_MAX)
def _with_unit(units: frozenset[int], unit: int) -> frozenset[int]:
    """The union, cached: links with the same units share one set."""
    return units | {unit}


def hint(text: str) -> str:
    """The hint in an error's text, its mark included; empty if it has none."""
    _, mark, rest = text.partition(MARK)
    return mark + rest
