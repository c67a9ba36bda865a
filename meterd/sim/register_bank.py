"""The registers of one unit, and which requests it refuses."""

from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum, StrEnum
from typing import Protocol

from meterd.drivers.registers import RegisterMap
from meterd.model.clock import Clock, SystemClock
from meterd.sim.registers import Image, Value, encode

# How often a meter renews its registers, seconds.
REFRESH = 0.2
_BITS = (1, 2)
_BIT_LIMIT = 2000


class RefusedRequest(IntEnum):
    """Exception codes of the Modbus application protocol."""

    FUNCTION = 1
    ADDRESS = 2
    COUNT = 3
    BUSY = 6
    NO_UNIT = 11


class RefusalRule(Exception):  # noqa: N818 (an answer, not a mishap)
    """The unit answers with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


class Strictness(StrEnum):
    """Which addresses a unit answers: listed rows only, the holes that its map lets a read
    bridge as well, or everything (holes read 0)."""

    ROWS = "rows"
    SPANS = "spans"
    ANY = "any"


class Bank(Protocol):
    """One unit's registers."""

    def read(self, function: int, address: int, count: int) -> list[int]:
        """`count` words (coils: 0 or 1) from `address` on. Raises RefusedRequest."""


class FixedBank:
    """Registers that somebody wrote down: `{function: {address: word}}`."""

    def __init__(self, words: Mapping[int, Mapping[int, int]], max_registers: int = 125) -> None:
        self.words = words
        self._limit = max_registers

    def read(self, function: int, address: int, count: int) -> list[int]:
        _check(self.words, self._limit, function, count)
        held = self.words[function]
        wanted = range(address, address + count)
        if not all(register in held for register in wanted):
            raise RefusalRule(RefusedRequest.ADDRESS)
        return [held[register] for register in wanted]


class MeterBank:
    """The registers of a meter of one model, renewed each `refresh` seconds from `values(t)`."""

    def __init__(
        self,
        register_map: RegisterMap,
        values: Callable[[float], Mapping[str, Value]],
        *,
        clock: Clock | None = None,
        strictness: Strictness = Strictness.SPANS,
        refresh: float = REFRESH,
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
        """What the registers hold now."""
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
            raise RefusalRule(RefusedRequest.ADDRESS)
        words = image.words.get(function, {})
        return [words.get(register, 0) for register in range(address, last + 1)]


def _check(functions: Mapping[int, object], limit: int, function: int, count: int) -> None:
    if function not in functions:
        raise RefusalRule(RefusedRequest.FUNCTION)
    if not 1 <= count <= (_BIT_LIMIT if function in _BITS else limit):
        raise RefusalRule(RefusedRequest.COUNT)


def _readable(
    register_map: RegisterMap, strictness: Strictness
) -> dict[int, list[tuple[int, int]]]:
    """By function the [first, last] ranges that one request may lie in."""
    found: dict[int, list[tuple[int, int]]] = {}
    for function, low, high in sorted(_spans(register_map)):
        ranges = found.setdefault(function, [])
        first, last = _span(register_map, low, high, strictness)
        bridge = register_map.bridge if strictness is Strictness.SPANS else 0
        if ranges and first - ranges[-1][1] - 1 <= bridge:
            ranges[-1] = (ranges[-1][0], max(last, ranges[-1][1]))
        else:
            ranges.append((first, last))
    if strictness is Strictness.ANY:
        found = {function: [(0, 0xFFFF)] for function in found}
    return {function: _without(ranges, register_map) for function, ranges in found.items()}


def _spans(register_map: RegisterMap) -> Iterator[tuple[int, int, int]]:
    """Function, first and last register of each value, and of what it has apart."""
    for row in register_map.rows:
        if not row.alone:
            yield row.function, row.first, row.last
        yield from row.remote_runs()


def _span(register_map: RegisterMap, first: int, last: int, strict: Strictness) -> tuple[int, int]:
    """A row's registers, widened to what the meter insists on."""
    align = 1 if strict is Strictness.ROWS else register_map.align
    return first // align * align, -(-(last + 1) // align) * align - 1


def _without(ranges: list[tuple[int, int]], register_map: RegisterMap) -> list[tuple[int, int]]:
    """The ranges with what is unreadable cut out."""
    for low, high in register_map.unreadable:
        cut = []
        for first, last in ranges:
            cut += [(first, min(last, low - 1)), (max(first, high + 1), last)]
        ranges = [(first, last) for first, last in cut if first <= last]
    return ranges
