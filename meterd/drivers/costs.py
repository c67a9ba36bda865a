"""What a request costs on a link, in seconds: by arithmetic first, by measurement later.

serial RTU | gap 3.5 | request 8 | tau | address function count 3 | registers 2n | CRC 2 | gap 3.5 |
"""

import statistics
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from meterd.drivers.blocks import Block
from meterd.wire.link import Link

# Assumed until the link is measured: how long a device thinks before it answers, in seconds,
TURNAROUND = 0.02
# and what one exchange over a local network takes in all.
NETWORK = 0.01

# Modbus over serial line V1.02, 2.5.1.1: frames are kept apart by 3.5 characters of silence.
_SILENCE = 3.5
# Characters around the registers, silence included, and characters of one register. ASCII
# (2.5.2) writes each byte as two and needs no silence.
_RTU = (20.0, 2)
_ASCII = (28.0, 4)
# Bytes of a request and of its reply without the values, in each kind of frame.
_FRAMES = {"rtu": 13, "ascii": 28, "socket": 21}

# A median of the last so many measures: four in ten may be wild without an effect.
_WINDOW = 25
# Measures before they are believed, and different sizes of request that are kept apart.
_ENOUGH = 7
_SIZES = 16
# Requests closer in size than this say nothing about the cost of one register.
_APART = 8
# No wire in use is slower than 1200 baud at 12 bits.
_SLOWEST_REGISTER = 2 * 12 / 1200


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of a request: `fixed`, and `register` for each register that it reads.

    `after` is the part of `fixed` that follows the reply, which no measure of an exchange sees.
    `frame` and `width` are bytes: of both frames without values, and of one register in them.
    """

    fixed: float
    register: float
    after: float = 0.0
    frame: int = _FRAMES["socket"]
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
        """On a serial bus, whose device takes `tau` seconds before it answers."""
        character = (1 + data + (parity != "N") + stop) / baud
        around, width = _ASCII if framer == "ascii" else _RTU
        after = 0.0 if framer == "ascii" else _SILENCE * character
        return cls(around * character + tau, width * character, after, _FRAMES[framer], width)

    @classmethod
    def tcp(cls, fixed: float = NETWORK, *, framer: str = "socket") -> "Costs":
        """Over a network: a register more costs nothing until it is measured."""
        return cls(fixed, 0.0, 0.0, _FRAMES[framer])

    def seconds(self, function: int, count: int) -> float:
        """One request for `count` registers (coils and inputs: bits)."""
        return self.fixed + self.register * units(function, count)

    def size(self, function: int, count: int) -> int:
        """Bytes of such a request and its reply."""
        values = count if function > 2 else -(-count // 8)
        return self.frame + values * (self.width if function > 2 else self.width // 2)


# Where nothing is known of the link, as in checks of a map: 9600 baud is what most meters speak.
ASSUMED = Costs.serial(9600)


def units(function: int, count: int) -> int:
    """How many registers long the values of a reply are: 16 coils travel as one register."""
    return count if function > 2 else -(-count // 16)


class Learner:
    """Learns a link's costs from the exchanges that went well; wild ones do not disturb.

    On a serial bus the wire is known by arithmetic and only the turn-around is learned. Over a
    network both parts are: behind many a gateway there is a slow serial bus.
    """

    __slots__ = ("_measured", "_start", "_total", "_wire")

    def __init__(self, start: Costs, *, wire: bool) -> None:
        """`start` holds until enough was measured; `wire`: whether its `register` is a law."""
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

    def saw(self, registers: int, seconds: float) -> None:
        """One good exchange: how long its reply was, in registers, and what it took."""
        window = self._measured.get(registers)
        if window is None:
            if len(self._measured) == _SIZES:
                del self._measured[next(iter(self._measured))]
            window = self._measured[registers] = array("f")
        if len(window) == _WINDOW:
            del window[0]
        window.append(seconds)
        self._total += 1

    @property
    def is_sure(self) -> bool:
        """Whether enough was measured to be believed."""
        return self._total >= _ENOUGH

    @classmethod
    def joined(cls, learners: Sequence["Learner"]) -> "Learner":
        """One that saw what each of these did: those of the devices on one link, at least one."""
        first = learners[0]
        found = cls(first._start, wire=first._wire)
        for learner in learners:
            for size, times in learner._measured.items():
                for taken in times:
                    found.saw(size, taken)
        return found

    def costs(self) -> Costs:
        """What a request costs by all that is known now."""
        if not self.is_sure:
            return self._start
        register = self._start.register if self._wire else self._slope()
        rest = [
            taken - register * size for size, times in self._measured.items() for taken in times
        ]
        fixed = max(statistics.median(rest), 0.0) + self._start.after
        return replace(self._start, fixed=fixed, register=register)

    def _slope(self) -> float:
        """Seconds a register: the median slope between requests of different size."""
        points = sorted(
            (size, statistics.median(times))
            for size, times in self._measured.items()
            if len(times) >= _ENOUGH
        )
        slopes = [
            (much - little) / (large - small)
            for i, (small, little) in enumerate(points)
            for large, much in points[i + 1 :]
            if large - small >= _APART
        ]
        if not slopes:
            return self._start.register
        return min(max(statistics.median(slopes), 0.0), _SLOWEST_REGISTER)


@dataclass(frozen=True, slots=True)
class PlanReport:
    """A poll in numbers. `load` is the share of the interval that it keeps its bus busy."""

    reads: int
    registers: int
    bytes: int
    seconds: float
    load: float


def seconds(blocks: Iterable[Block], costs: Costs) -> float:
    """What reading these blocks takes."""
    return sum(costs.seconds(block.function, block.words) for block in blocks)


def describe(blocks: Iterable[Block], costs: Costs, interval: float) -> PlanReport:
    """The numbers of a poll each `interval` seconds."""
    parts = list(blocks)
    taken = seconds(parts, costs)
    return PlanReport(
        reads=len(parts),
        registers=sum(part.words for part in parts),
        bytes=sum(costs.size(part.function, part.words) for part in parts),
        seconds=taken,
        load=taken / interval,
    )


def link_costs(link: Link) -> Costs:
    """What requests cost on a link by arithmetic, before any is measured."""
    if "baud" not in link.options:
        return Costs.tcp(framer=link.options["framer"])
    return line_costs(link, link.options)


def line_costs(link: Link, said: Mapping[str, str]) -> Costs:
    """As `link_costs()`, where the serial line of a link is set as these options say.

    They are `baud parity stop bytes framer`.
    """
    costs = Costs.serial(
        int(said["baud"]),
        said["parity"],
        int(said["stop"]),
        data=int(said["bytes"]),
        framer=said["framer"],
    )
    if link.url.startswith("serial:"):
        return costs
    # Behind a gateway: the line's time and the network's, and the frames of the network.
    return replace(costs, fixed=costs.fixed + NETWORK, frame=_FRAMES[said["framer"]])
