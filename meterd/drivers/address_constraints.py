"""Address constraints: the registers that one request may span, by the map and by exclusions."""

from bisect import bisect_left
from collections.abc import Iterable

from meterd.drivers.registers import RegisterMap, Row

Range = tuple[int, int]


class AddressConstraints:
    """The constraints of one meter. Immutable: what is learned makes a new object.

    `refused` are rows that the meter does not answer. `closed` are gaps (function, first, last)
    between rows that no request may span; an empty one, where last is first - 1, is a border.
    `most` is the register limit that was found, None for the map's.
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
        self._readable = [
            row for row in register_map.rows if not row.alone and row.quantity not in names
        ]
        self._blocked: dict[int, list[Range]] = {}
        self._claimed_ranges: dict[int, list[Range]] = {}

    def without(
        self,
        refused: Iterable[Row] = (),
        closed: Iterable[tuple[int, int, int]] = (),
        most: int | None = None,
    ) -> "AddressConstraints":
        """A copy with further exclusions."""
        fewest = self.most if most is None else min(most, self.most)
        return AddressConstraints(
            self.map, (*self.refused, *refused), (*self.closed, *closed), fewest
        )

    def widened(self, first: int, last: int) -> Range:
        """First and last register of a request for these, aligned as the meter requires."""
        align = self.map.align
        return first // align * align, -(-(last + 1) // align) * align - 1

    def limit(self, function: int, first: int) -> int:
        """The last register that a request from `first` on may have."""
        align = self.map.align
        start = first // align * align
        size = self.most // align * align
        return min(start + size, self._next_blocked(function, start)) - 1

    def fits(self, function: int, first: int, last: int) -> bool:
        """Whether one request may fetch all of these registers."""
        return self.widened(first, last)[1] <= self.limit(function, first)

    def gap(self, function: int, first: int, last: int) -> int:
        """Length of the longest run of registers without a readable row in `first`..`last`."""
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
        return [row for row in self._readable if row.function == function]

    def _next_blocked(self, function: int, start: int) -> int:
        """The first register from `start` on that no request may span."""
        blocked = self._blocked.get(function)
        if blocked is None:
            blocked = self._blocked[function] = self._find_blocked(function)
        i = bisect_left(blocked, start, key=lambda pair: pair[1])
        return max(blocked[i][0], start) if i < len(blocked) else self._end

    def _find_blocked(self, function: int) -> list[Range]:
        """Ranges that no request may span: the map's `unreadable`, gaps, and registers of refused
        rows that no other row needs."""
        needed = {register for row in self.rows(function) for register in _row_registers(row)}
        refused = {
            register
            for row in self.refused
            if row.function == function
            for register in _row_registers(row)
        }
        closed = [
            (first, last)
            for closed_function, first, last in self.closed
            if closed_function == function
        ]
        single = [(register, register) for register in refused - needed]
        return _joined([*self.map.unreadable, *closed, *single])

    def _claimed(self, function: int) -> list[Range]:
        claimed = self._claimed_ranges.get(function)
        if claimed is None:
            spans = [(row.first, row.last) for row in self.rows(function)]
            claimed = self._claimed_ranges[function] = _joined(spans)
        return claimed


def _row_registers(row: Row) -> list[int]:
    """The registers of a row's value, and of its scale if that is read in the same request."""
    if row.terms and not row.apart:
        return [register for _, register in row.places()]
    scale = () if row.near_scale is None else (row.near_scale,)
    return [*range(row.address, row.address + row.words), *scale]


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """The ranges sorted, with overlapping and adjacent ones joined."""
    joined: list[Range] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined
