"""Refusals: which rows of a refused request are at fault, found with few requests.

refused  | a b c d e f g h |     ask the left half
answered | a b c d |             so it is in the right one: do not ask that, halve it
refused          | e f |         ask e, then f only if e was answered; g h is open again
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.registers import Row

Hole = tuple[int, int, int]
"""Function, first and last register between two rows; of no width where last is first - 1."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a search found out, for `Exclusions`.

    `unclear` are those of the `refused` that were never asked by themselves: the search ended
    first. `closed` are holes that a request may not cross. `most` is how
    many registers the meter gives at once if that is less than its map says, else None.
    """

    refused: tuple[Row, ...] = ()
    unclear: tuple[Row, ...] = ()
    closed: tuple[Hole, ...] = ()
    most: int | None = None


@dataclass(frozen=True, slots=True)
class _Piece:
    """rows[low:high] of the search; `bad`: refused, or so it must be as the rest was answered."""

    low: int
    high: int
    bad: bool

    @property
    def size(self) -> int:
        return self.high - self.low


class RefusedRowSearch:
    """Asks about one refused request: read `batch()`, tell `note()`, until there is no batch.

    A search may be given up at any time: rows of which nothing is known then count as refused.
    """

    def __init__(self, constraints: AddressConstraints, rows: Sequence[Row]) -> None:
        """`rows` are those of the request that was refused, in its order."""
        self._map_constraints = constraints
        self._rows = rows
        self._open = [_Piece(0, len(rows), True)]
        self._asked: _Piece | None = None
        self._answered: list[_Piece] = []
        self._no: list[_Piece] = [_Piece(0, len(rows), True)]

    def batch(self) -> Sequence[Row] | None:
        """The rows to ask for next, in one request; None when all is known."""
        unsure = [piece for piece in self._open if piece.size > 1 or not piece.bad]
        if not unsure:
            return None
        # The largest first: where the requests run out, the least is lost.
        piece = max(unsure, key=lambda piece: piece.size)
        self._open.remove(piece)
        if piece.bad:
            middle = (piece.low + piece.high) // 2
            self._asked = _Piece(piece.low, middle, False)
            self._rest = _Piece(middle, piece.high, False)
        else:
            self._asked = self._rest = piece
        return self._rows[self._asked.low : self._asked.high]

    def note(self, answered: bool) -> None:
        """Whether the meter answered the last batch."""
        assert self._asked is not None, "note() follows batch()"  # noqa: S101
        asked, rest, self._asked = self._asked, self._rest, None
        half = rest is not asked
        if answered:
            self._answered.append(asked)
            if half:
                # A single row is never called refused without having been asked.
                self._open.append(_Piece(rest.low, rest.high, rest.size > 1))
            return
        self._no.append(asked)
        self._open.append(_Piece(asked.low, asked.high, True))
        if half:
            self._open.append(rest)

    def findings(self) -> Findings:
        """What is known now."""
        if self._asked is not None:
            low = self._asked.low
            self._open.append(_Piece(low, self._rest.high, True))
            self._asked = None
        refused = sorted(i for piece in self._open for i in range(piece.low, piece.high))
        certain = {piece.low for piece in self._open if piece.bad and piece.size == 1}
        unclear = tuple(self._rows[i] for i in refused if i not in certain)
        rows = tuple(self._rows[i] for i in refused)
        return Findings(rows, unclear, *self._crossings(refused))

    def _crossings(self, refused: Sequence[int]) -> tuple[tuple[Hole, ...], int | None]:
        """What is wrong with requests each of whose rows is fine: `closed` and `most`."""
        closed: dict[Hole, None] = {}
        most = None
        longest = max((self._words(piece) for piece in self._answered), default=0)
        for piece in self._blameless(refused):
            between = self._between(piece)
            holes = [hole for hole in between if hole[1] <= hole[2]]
            if not holes and self._words(piece) > longest:
                most = longest
            else:
                closed |= dict.fromkeys(holes or between)
        return tuple(closed), most

    def _blameless(self, refused: Iterable[int]) -> list[_Piece]:
        """The smallest refused requests each of whose rows was answered in another one."""
        bad = set(refused)
        pure = [piece for piece in self._no if not bad & set(range(piece.low, piece.high))]
        return [
            piece
            for piece in pure
            if not any(piece != o and piece.low <= o.low and o.high <= piece.high for o in pure)
        ]

    def _between(self, piece: _Piece) -> list[Hole]:
        """What lies between the answered requests that make up a refused one."""
        inside = [o for o in self._answered if piece.low <= o.low and o.high <= piece.high]
        found = []
        end = -1
        for part in sorted(inside, key=lambda part: part.low):
            rows = self._rows[part.low : part.high]
            first = min(row.first for row in rows)
            if 0 <= end < first:
                found.append((rows[0].function, end + 1, first - 1))
            end = max(end, *(row.last for row in rows))
        return found

    def _words(self, part: _Piece) -> int:
        rows = self._rows[part.low : part.high]
        first, last = self._map_constraints.widened(
            min(row.first for row in rows), max(row.last for row in rows)
        )
        return last - first + 1
