"""Registers that say which request they answer, so that a foreign or late reply shows itself."""

import itertools

from meterd.sim.register_bank import ExceptionCode, SimulatedRefusal


class StampedBank:
    """A block of registers: number of this answer, address, count, unit, then zeros.

    Answers at least `SHORTEST` registers from addresses below `end`, else exception 2.
    """

    SHORTEST = 4

    def __init__(self, unit: int, numbers: "itertools.count[int]", end: int = 200) -> None:
        self.unit = unit
        self.last = 0
        self._numbers = numbers
        self._end = end

    def read(self, function: int, address: int, count: int) -> list[int]:
        if address + count > self._end:
            raise SimulatedRefusal(ExceptionCode.ADDRESS)
        self.last = next(self._numbers)
        stamp = [self.last & 0xFFFF, address, count, self.unit]
        return (stamp + [0] * count)[:count]


def check(data: bytes, *, after: int, address: int, count: int, unit: int) -> None:
    """Fails if the registers do not answer this request, or were made before it was sent."""
    words = [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
    assert len(words) == count
    assert words[1:4] == [address, count, unit]
    assert words[0] > after
