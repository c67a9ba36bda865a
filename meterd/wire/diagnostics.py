"""What a person might set otherwise, guessed from how a link's exchanges fail."""

from functools import lru_cache

from meterd.errors import LinkCode, LinkError

# Stands between what went wrong and what may help.
MARK = "; hint: "
# A request that comes so soon after the answer before it may be too soon, in seconds.
SOON = 0.1
# So often in a row is no accident, and so often noise is no disturbance.
_LOSSES = 3
_NOISES = 5
_NONSENSE = (LinkCode.GARBLED, LinkCode.FLOOD)
# Of devices without an address nothing is said: 0 is none of the stations.
_NOBODY = frozenset((0,))
_SETS = 1000

_CONNECT = (
    "what is asked right after connecting is never answered: if the device is there, "
    "set connect_delay, for instance to 1s"
)
_GAP = (
    "it answers, but never what is asked right after an answer: if it needs a pause "
    "between two requests, set gap, for instance to 50ms"
)


_TAKEN = (
    "it hangs up before it answers anything: does another client hold it, "
    "or is this a port for something else?"
)
_TCP_ITSELF = "a device that speaks Modbus TCP itself needs no ?framer=rtu"
_UNHEARD = "nothing was ever heard here: check the unit's number, the timeout, and "
_UNHEARD_LINE = "the wires (A and B changed over?), and whether the line is really set to "
_UNHEARD_GATEWAY = "the wires and the baud rate behind the gateway"
_UNHEARD_NETWORK = "?framer=rtu where a gateway passes serial frames through"


class LinkDiagnostics:
    """Of one link. What was answered once proves for good that a pause is not needed.

    `line` says how a serial line is set, and is empty where there is none: a wrong baud rate
    shows as noise there.
    """

    __slots__ = (
        "_connects",
        "_first",
        "_first_losses",
        "_framer",
        "_heard",
        "_line",
        "_losses",
        "_noise_before",
        "_noises",
        "prompt",
    )

    def __init__(self, line: str = "", *, framer: str = "socket") -> None:
        self.prompt = _NOBODY
        """Stations that answered a request which came soon after their answer before."""
        self._line = line
        self._framer = framer
        self._first = False
        self._heard = False
        self._first_losses = 0
        self._connects = False
        self._losses: dict[int, int] | None = None
        self._noises = 0
        self._noise_before = 0

    def opened(self) -> None:
        """The next request is the first on a new connection."""
        self._first = True

    def answered(self, station: int, *, soon: bool) -> None:
        """A whole frame came, be it a no. `soon`: the station had just answered before."""
        self._connects = self._connects or self._first
        self._first = False
        self._heard = True
        self._noises = 0
        if soon:
            self.prompt = _with(self.prompt, station)

    def lost(
        self, error: LinkError, station: int, *, soon: bool, noise: int, rest: bool = False
    ) -> LinkError:
        """The same error, with a hint if there is one.

        `soon` as above; `noise`: what was counted as such up to now; `rest`: whether bytes
        came that nobody could use.
        """
        first, self._first = self._first, False
        noisy = rest or error.code in _NONSENSE or noise > self._noise_before
        self._noise_before = noise
        self._heard = self._heard or noisy
        hint = self._of_noise(noisy)
        if error.code == LinkCode.TIMEOUT and not noisy:
            hint = hint or self._of_haste(station, first=first, soon=soon)
            hint = hint or self._of_silence(station)
        if error.code == LinkCode.CLOSED and first:
            hint = hint or _TAKEN
            if self._framer == "rtu" and not self._line:
                hint = f"{hint} Besides, {_TCP_ITSELF}"
        return type(error)(f"{error}{MARK}{hint}", code=error.code) if hint else error

    def _of_noise(self, noisy: bool) -> str:
        self._noises = self._noises + 1 if noisy else 0
        if not self._line or self._noises < _NOISES:
            return ""
        return f"what comes is no answer: is the line really set to {self._line}?"

    def _of_haste(self, station: int, *, first: bool, soon: bool) -> str:
        if first and not self._connects:
            self._first_losses += 1
        if station not in self.prompt and self._hasty(station, soon) >= _LOSSES:
            return _GAP
        return _CONNECT if self._first_losses >= _LOSSES else ""

    def _of_silence(self, station: int) -> str:
        if self._heard or not station:
            return ""
        if self._line:
            return f"{_UNHEARD}{_UNHEARD_LINE}{self._line}"
        if self._framer == "socket":
            return _UNHEARD + _UNHEARD_NETWORK
        return f"{_UNHEARD}{_UNHEARD_GATEWAY}; {_TCP_ITSELF}"

    def _hasty(self, station: int, soon: bool) -> int:
        """How often this one was lost right after its answer before, `soon`: now again."""
        if self._losses is None:
            self._losses = {}
        losses = self._losses[station] = self._losses.get(station, 0) + soon
        return losses


@lru_cache(maxsize=_SETS)
def _with(stations: frozenset[int], station: int) -> frozenset[int]:
    """One set for all links on which the same ones are known."""
    return stations | {station}


def hint(text: str) -> str:
    """The hint in an error's text, its mark included; empty if it has none."""
    _, mark, rest = text.partition(MARK)
    return mark + rest
