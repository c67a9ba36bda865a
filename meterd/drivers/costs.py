"""Cost model of requests on a link, in seconds: computed at first, measured later.

serial RTU | gap 3.5 | request 8 | tau | address function count 3 | registers 2n | CRC 2 | gap 3.5 |
"""

import statistics
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from meterd.drivers.blocks import Block
from meterd.wire.link import Link

# Seconds, assumed until the link is measured: a device's time between request and reply,
TURNAROUND = 0.02
# and the whole of an exchange over a local network.
NETWORK = 0.01

# Modbus over serial line V1.02, 2.5.1.1: frames are kept apart by 3.5 characters of silence.
_FRAME_GAP_CHARACTERS = 3.5
# Characters around the registers, silence included, and characters of one register. ASCII
# (2.5.2) writes each byte as two and needs no silence.
_RTU_CHARACTERS = (20.0, 2)
_ASCII_CHARACTERS = (28.0, 4)
# Bytes of a request and of its reply without the values, in each kind of frame.
_FRAME_BYTES = {"rtu": 13, "ascii": 28, "socket": 21}

# Measurements per median: up to 40 % of outliers have no effect.
_MEDIAN_WINDOW = 25
# Measurements needed, and different request sizes that are kept.
_MEASUREMENTS_MIN = 7
_SIZES_MAX = 16
# Registers by which two sizes must differ for the cost of one register to be derived.
_SIZE_DIFFERENCE_MIN = 8
# No wire in use is slower than 1200 baud at 12 bits.
_REGISTER_MAX_S = 2 * 12 / 1200


@dataclass(frozen=True, slots=True)
class Costs:
    """Duration of a request in seconds: `fixed`, plus `register` for each register that it reads.

    `after` is the part of `fixed` that follows the reply, which the measured duration lacks.
    `frame` and `width` are bytes: of both frames without values, and of one register.
    """

    fixed: float
    register: float
    after: float = 0.0
    frame: int = _FRAME_BYTES["socket"]
    width: int = 2

    @classmethod
    def serial(
        cls,
        baud: int,
        parity: str = "N",
        stop: int = 1,
        tau: float = TURNAROUND,
        *,
        data: int = 8,
        framer: str = "rtu",
    ) -> "Costs":
        """On a serial bus with a device whose turnaround is `tau` seconds."""
        character = (1 + data + (parity != "N") + stop) / baud
        overhead, width = _ASCII_CHARACTERS if framer == "ascii" else _RTU_CHARACTERS
        after = 0.0 if framer == "ascii" else _FRAME_GAP_CHARACTERS * character
        return cls(
            overhead * character + tau, width * character, after, _FRAME_BYTES[framer], width
        )

    @classmethod
    def tcp(cls, fixed: float = NETWORK, *, framer: str = "socket") -> "Costs":
        """Over a network: a register more costs nothing until it is measured."""
        return cls(fixed, 0.0, 0.0, _FRAME_BYTES[framer])

    def seconds(self, function: int, count: int) -> float:
        """One request for `count` registers (coils and inputs: bits)."""
        return self.fixed + self.register * units(function, count)

    def size(self, function: int, count: int) -> int:
        """Bytes of such a request and its reply."""
        values = count if function > 2 else -(-count // 8)
        return self.frame + values * (self.width if function > 2 else self.width // 2)


# For an unknown link, as in checks of a map: 9600 baud is the default of most meters.
ASSUMED = Costs.serial(9600)


def units(function: int, count: int) -> int:
    """Length of a reply's values in registers: 16 coils take the place of one."""
    return count if function > 2 else -(-count // 16)


class Learner:
    """Estimates a link's costs from successful exchanges by medians, which ignore outliers.

    On a serial bus the time on the wire is computed and only the turnaround is measured. Over a
    network both parts are: there may be a gateway with a slow serial bus.
    """

    __slots__ = ("_measured", "_start", "_total", "_wire")

    def __init__(self, start: Costs, *, wire: bool) -> None:
        """`start` holds until enough was measured; `wire`: whether its `register` is exact."""
        self._start = start
        self._wire = wire
        self._measured: dict[int, array[float]] = {}
        self._total = 0

    @classmethod
    def serial(cls, start: Costs) -> "Learner":
        """For a bus whose baud rate is known: learns `fixed`."""
        return cls(start, wire=True)

    @classmethod
    def tcp(cls, start: Costs) -> "Learner":
        """For a network: learns `fixed` and `register`."""
        return cls(start, wire=False)

    def add(self, registers: int, seconds: float) -> None:
        """Add a successful exchange: its reply's length in registers, and its duration."""
        window = self._measured.get(registers)
        if window is None:
            if len(self._measured) == _SIZES_MAX:
                del self._measured[next(iter(self._measured))]
            window = self._measured[registers] = array("f")
        if len(window) == _MEDIAN_WINDOW:
            del window[0]
        window.append(seconds)
        self._total += 1

    @property
    def is_sure(self) -> bool:
        """Whether there are enough measurements to use them."""
        return self._total >= _MEASUREMENTS_MIN

    @classmethod
    def joined(cls, learners: Sequence["Learner"]) -> "Learner":
        """A learner with the measurements of all these (one or more), of devices on one link."""
        first = learners[0]
        joint = cls(first._start, wire=first._wire)
        for source in learners:
            for size, times in source._measured.items():
                for duration in times:
                    joint.add(size, duration)
        return joint

    def costs(self) -> Costs:
        """The costs by the measurements, or `start` while there are too few."""
        if not self.is_sure:
            return self._start
        register = self._start.register if self._wire else self._slope()
        fixed_parts = [
            duration - register * size
            for size, times in self._measured.items()
            for duration in times
        ]
        fixed = max(statistics.median(fixed_parts), 0.0) + self._start.after
        return replace(self._start, fixed=fixed, register=register)

    def _slope(self) -> float:
        """Seconds per register: the median slope between requests of different sizes."""
        points = sorted(
            (size, statistics.median(times))
            for size, times in self._measured.items()
            if len(times) >= _MEASUREMENTS_MIN
        )
        slopes = [
            (longer - shorter) / (large - small)
            for i, (small, shorter) in enumerate(points)
            for large, longer in points[i + 1 :]
            if large - small >= _SIZE_DIFFERENCE_MIN
        ]
        if not slopes:
            return self._start.register
        return min(max(statistics.median(slopes), 0.0), _REGISTER_MAX_S)


@dataclass(frozen=True, slots=True)
class PlanReport:
    """Cost of a poll. `load` is the part of the interval for which it occupies the bus."""

    reads: int
    registers: int
    bytes: int
    seconds: float
    load: float


def seconds(blocks: Iterable[Block], costs: Costs) -> float:
    """Seconds to read these blocks."""
    return sum(costs.seconds(block.function, block.words) for block in blocks)


def describe(blocks: Iterable[Block], costs: Costs, interval: float) -> PlanReport:
    """The cost of a poll with these blocks, done every `interval` seconds."""
    parts = list(blocks)
    duration = seconds(parts, costs)
    return PlanReport(
        reads=len(parts),
        registers=sum(part.words for part in parts),
        bytes=sum(costs.size(part.function, part.words) for part in parts),
        seconds=duration,
        load=duration / interval,
    )


def link_costs(link: Link) -> Costs:
    """Computed costs of requests on a link, for the time before any is measured."""
    if "baud" not in link.options:
        return Costs.tcp(framer=link.options["framer"])
    return line_costs(link, link.options)


def line_costs(link: Link, options: Mapping[str, str]) -> Costs:
    """As `link_costs()`, for a serial line with the options `baud parity stop bytes framer`."""
    costs = Costs.serial(
        int(options["baud"]),
        options["parity"],
        int(options["stop"]),
        data=int(options["bytes"]),
        framer=options["framer"],
    )
    if link.url.startswith("serial:"):
        return costs
    # Behind a gateway: the durations of line and network, and the framing of the network.
    return replace(costs, fixed=costs.fixed + NETWORK, frame=_FRAME_BYTES[options["framer"]])
