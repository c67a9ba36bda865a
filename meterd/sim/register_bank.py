"""Register banks: the registers of one unit, and the exceptions for requests it refuses."""

from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum, StrEnum
from typing import Protocol

from meterd.drivers.registers import RegisterMap
from meterd.model.clock import Clock, SystemClock
from meterd.sim.registers import Image, Value, encode

# Seconds after which a meter updates its registers.
REFRESH_S = 0.2
_BIT_FUNCTIONS = (1, 2)
_BITS_MAX = 2000


class ExceptionCode(IntEnum):
    """Exception codes of the Modbus application protocol."""

    FUNCTION = 1
    ADDRESS = 2
    COUNT = 3
    BUSY = 6
    NO_UNIT = 11


class SimulatedRefusal(Exception):  # noqa: N818 (a reply, no failure)
    """The unit replies with the exception `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


class Strictness(StrEnum):
    """Which addresses a unit serves: only rows of its map; also gaps between rows that the map
    lets a read bridge; or all. Gaps read as 0."""

    ROWS = "rows"
    SPANS = "spans"
    ANY = "any"


class Bank(Protocol):
    """One unit's registers."""

    def read(self, function: int, address: int, count: int) -> list[int]:
        """`count` words (coils: 0 or 1) from `address` on. Raises SimulatedRefusal."""


class FixedBank:
    """Constant registers: `{function: {address: word}}`."""

    def __init__(self, words: Mapping[int, Mapping[int, int]], max_registers: int = 125) -> None:
        self.words = words
        self._limit = max_registers

    def read(self, function: int, address: int, count: int) -> list[int]:
        _check(self.words, self._limit, function, count)
        words = self.words[function]
        addresses = range(address, address + count)
        if not all(register in words for register in addresses):
            raise SimulatedRefusal(ExceptionCode.ADDRESS)
        return [words[register] for register in addresses]


class MeterBank:
    """The registers of a meter of one model, updated every `refresh` seconds from `values(t)`."""

    def __init__(
        self,
        register_map: RegisterMap,
        values: Callable[[float], Mapping[str, Value]],
        *,
        clock: Clock | None = None,
        strictness: Strictness = Strictness.SPANS,
        refresh: float = REFRESH_S,
    ) -> None:
        self._map = register_map
        self._values = values
        self._clock = clock or SystemClock()
        self._start = self._clock.monotonic()
        self._refresh = refresh
        self._readable = _readable(register_map, strictness)
        self._image: Image | None = None
        self._time = 0.0

    def image(self) -> Image:
        """The contents of the registers now."""
        t = self._clock.monotonic() - self._start
        if self._image is None or t - self._time >= self._refresh:
            self._image, self._time = encode(self._map, self._values(t)), t
        return self._image

    def read(self, function: int, address: int, count: int) -> list[int]:
        image = self.image()
        if (alone := image.alone.get((function, address, count))) is not None:
            return list(alone)
        _check(self._readable, self._map.max_registers, function, count)
        last = address + count - 1
        ranges = self._readable[function]
        if not any(low <= address and last <= high for low, high in ranges):
            raise SimulatedRefusal(ExceptionCode.ADDRESS)
        words = image.words.get(function, {})
        return [words.get(register, 0) for register in range(address, last + 1)]


def _check(functions: Mapping[int, object], limit: int, function: int, count: int) -> None:
    if function not in functions:
        raise SimulatedRefusal(ExceptionCode.FUNCTION)
    if not 1 <= count <= (_BITS_MAX if function in _BIT_FUNCTIONS else limit):
        raise SimulatedRefusal(ExceptionCode.COUNT)


def _readable(
    register_map: RegisterMap, strictness: Strictness
) -> dict[int, list[tuple[int, int]]]:
    """Function -> the [first, last] ranges within which a request must lie."""
    readable: dict[int, list[tuple[int, int]]] = {}
    for function, low, high in sorted(_spans(register_map)):
        ranges = readable.setdefault(function, [])
        first, last = _span(register_map, low, high, strictness)
        bridge = register_map.bridge if strictness is Strictness.SPANS else 0
        if ranges and first - ranges[-1][1] - 1 <= bridge:
            ranges[-1] = (ranges[-1][0], max(last, ranges[-1][1]))
        else:
            ranges.append((first, last))
    if strictness is Strictness.ANY:
        readable = {function: [(0, 0xFFFF)] for function in readable}
    return {
        function: _without_unreadable(ranges, register_map) for function, ranges in readable.items()
    }


def _spans(register_map: RegisterMap) -> Iterator[tuple[int, int, int]]:
    """Function, first and last register of each row, and of its registers elsewhere."""
    for row in register_map.rows:
        if not row.alone:
            yield row.function, row.first, row.last
        yield from row.remote_runs()


def _span(register_map: RegisterMap, first: int, last: int, strict: Strictness) -> tuple[int, int]:
    """A row's first and last register, widened to the alignment of the meter."""
    align = 1 if strict is Strictness.ROWS else register_map.align
    return first // align * align, -(-(last + 1) // align) * align - 1


def _without_unreadable(
    ranges: list[tuple[int, int]], register_map: RegisterMap
) -> list[tuple[int, int]]:
    """The ranges without the unreadable ones of the map."""
    for low, high in register_map.unreadable:
        remaining = []
        for first, last in ranges:
            remaining += [(first, min(last, low - 1)), (max(first, high + 1), last)]
        ranges = [(first, last) for first, last in remaining if first <= last]
    return ranges
