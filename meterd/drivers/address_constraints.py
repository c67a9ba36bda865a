"""Address constraints: which registers one request may touch, by the map and by refusals so far."""

from bisect import bisect_left
from collections.abc import Iterable

from meterd.drivers.registers import RegisterMap, Row

Range = tuple[int, int]


class AddressConstraints:
    """The limits of one meter. Never changed: what is learned makes a new one.

    `refused` are rows that the meter will not answer. `closed` are (function, first, last)
    ranges between rows that it was found not to let a request cross; one of no width, where last
    is first - 1, is a border. `most` is how many
    registers it gives at once, if that is known better than the map knows it.
    """

    def __init__(
        self,
        register_map: RegisterMap,
        refused: Iterable[Row] = (),
        closed: Iterable[tuple[int, int, int]] = (),
        most: int | None = None,
    ) -> None:
        self.map = register_map
        self.most = register_map.max_registers if most is None else most
        self._end = 0x20000 if register_map.wide else 0x10000
        self.refused = tuple(refused)
        self.closed = tuple(closed)
        names = {row.quantity for row in self.refused}
        self._good = [
            row for row in register_map.rows if not row.alone and row.quantity not in names
        ]
        self._shut: dict[int, list[Range]] = {}
        self._known: dict[int, list[Range]] = {}

    def without(
        self,
        refused: Iterable[Row] = (),
        closed: Iterable[tuple[int, int, int]] = (),
        most: int | None = None,
    ) -> "AddressConstraints":
        """The same meter, of which more is known."""
        fewest = self.most if most is None else min(most, self.most)
        return AddressConstraints(
            self.map, (*self.refused, *refused), (*self.closed, *closed), fewest
        )

    def widened(self, first: int, last: int) -> Range:
        """First and last register of the request that the meter takes for these."""
        align = self.map.align
        return first // align * align, -(-(last + 1) // align) * align - 1

    def limit(self, function: int, first: int) -> int:
        """The last register that a request may reach which has to begin at `first`."""
        align = self.map.align
        start = first // align * align
        size = self.most // align * align
        return min(start + size, self._wall(function, start)) - 1

    def fits(self, function: int, first: int, last: int) -> bool:
        """Whether one request may fetch all of these registers."""
        return self.widened(first, last)[1] <= self.limit(function, first)

    def hole(self, function: int, first: int, last: int) -> int:
        """The longest run in `first`..`last` of registers that no readable row claims."""
        longest = 0
        for low, high in self._claimed(function):
            if high < first:
                continue
            if low > last:
                break
            longest = max(longest, low - first)
            first = high + 1
        return max(longest, last + 1 - first)

    def rows(self, function: int) -> list[Row]:
        """The rows of this function that may share a request, none of them refused."""
        return [row for row in self._good if row.function == function]

    def _wall(self, function: int, start: int) -> int:
        """The first register from `start` on that no request may touch."""
        shut = self._shut.get(function)
        if shut is None:
            shut = self._shut[function] = self._find_shut(function)
        i = bisect_left(shut, start, key=lambda pair: pair[1])
        return max(shut[i][0], start) if i < len(shut) else self._end

    def _find_shut(self, function: int) -> list[Range]:
        """What the map calls unreadable, and what was refused, unless a good row needs it."""
        needed = {register for row in self.rows(function) for register in _needed(row)}
        refused = {
            register
            for row in self.refused
            if row.function == function
            for register in _needed(row)
        }
        closed = [(first, last) for where, first, last in self.closed if where == function]
        single = [(register, register) for register in refused - needed]
        return _merged([*self.map.unreadable, *closed, *single])

    def _claimed(self, function: int) -> list[Range]:
        known = self._known.get(function)
        if known is None:
            spans = [(row.first, row.last) for row in self.rows(function)]
            known = self._known[function] = _merged(spans)
        return known


def _needed(row: Row) -> list[int]:
    """The registers that hold the value, and those beside them that are read with it."""
    if row.terms and not row.apart:
        return [register for _, register in row.places()]
    scale = () if row.near_scale is None else (row.near_scale,)
    return [*range(row.address, row.address + row.words), *scale]


def _merged(ranges: Iterable[Range]) -> list[Range]:
    """Sorted, and none of them touching the next."""
    found: list[Range] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found
