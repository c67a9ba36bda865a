"""Bisection of a refused request: finds the rows that the meter refuses, with few requests.

refused  | a b c d e f g h |     read the left half
answered | a b c d |             so the right half is refused: halve it without reading it
refused          | e f |         read e, then f only if e was answered; g h is unknown again
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.registers import Row

Gap = tuple[int, int, int]
"""A gap: function, first and last register between two rows; empty where last is first - 1."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Result of a search, for `Exclusions`.

    `unclear` are those of the `refused` that were not read alone before the search ended. `closed`
    are gaps that a request must not span. `most` is the meter's register limit if it is below the
    map's, else None.
    """

    refused: tuple[Row, ...] = ()
    unclear: tuple[Row, ...] = ()
    closed: tuple[Gap, ...] = ()
    most: int | None = None


@dataclass(frozen=True, slots=True)
class _Piece:
    """rows[low:high] of the search; `bad`: refused, or must be as the other half was answered."""

    low: int
    high: int
    bad: bool

    @property
    def size(self) -> int:
        return self.high - self.low


class RefusedRowSearch:
    """Search in one refused request: read `batch()`, call `note()`, until there is no batch.

    It may end at any time: rows of which nothing is known then count as refused.
    """

    def __init__(self, constraints: AddressConstraints, rows: Sequence[Row]) -> None:
        """`rows` are those of the request that was refused, in its order."""
        self._constraints = constraints
        self._rows = rows
        self._pending = [_Piece(0, len(rows), True)]
        self._batch_piece: _Piece | None = None
        self._answered: list[_Piece] = []
        self._refused: list[_Piece] = [_Piece(0, len(rows), True)]

    def batch(self) -> Sequence[Row] | None:
        """The rows to read next, in one request; None at the end of the search."""
        undecided = [piece for piece in self._pending if piece.size > 1 or not piece.bad]
        if not undecided:
            return None
        # The largest first, so that few rows are unclear when the budget ends.
        piece = max(undecided, key=lambda piece: piece.size)
        self._pending.remove(piece)
        if piece.bad:
            middle = (piece.low + piece.high) // 2
            self._batch_piece = _Piece(piece.low, middle, False)
            self._rest = _Piece(middle, piece.high, False)
        else:
            self._batch_piece = self._rest = piece
        return self._rows[self._batch_piece.low : self._batch_piece.high]

    def note(self, answered: bool) -> None:
        """Whether the meter answered the last batch."""
        assert self._batch_piece is not None, "note() follows batch()"  # noqa: S101
        batch, rest, self._batch_piece = self._batch_piece, self._rest, None
        half = rest is not batch
        if answered:
            self._answered.append(batch)
            if half:
                # A single row counts as refused only after it was read.
                self._pending.append(_Piece(rest.low, rest.high, rest.size > 1))
            return
        self._refused.append(batch)
        self._pending.append(_Piece(batch.low, batch.high, True))
        if half:
            self._pending.append(rest)

    def findings(self) -> Findings:
        """The result so far."""
        if self._batch_piece is not None:
            low = self._batch_piece.low
            self._pending.append(_Piece(low, self._rest.high, True))
            self._batch_piece = None
        refused = sorted(i for piece in self._pending for i in range(piece.low, piece.high))
        certain = {piece.low for piece in self._pending if piece.bad and piece.size == 1}
        unclear = tuple(self._rows[i] for i in refused if i not in certain)
        rows = tuple(self._rows[i] for i in refused)
        return Findings(rows, unclear, *self._crossings(refused))

    def _crossings(self, refused: Sequence[int]) -> tuple[tuple[Gap, ...], int | None]:
        """`closed` and `most`, from refused requests each of whose rows is answered elsewhere."""
        closed: dict[Gap, None] = {}
        most = None
        longest = max((self._words(piece) for piece in self._answered), default=0)
        for piece in self._unexplained(refused):
            gaps = self._gaps(piece)
            wide_gaps = [gap for gap in gaps if gap[1] <= gap[2]]
            if not wide_gaps and self._words(piece) > longest:
                most = longest
            else:
                closed |= dict.fromkeys(wide_gaps or gaps)
        return tuple(closed), most

    def _unexplained(self, refused: Iterable[int]) -> list[_Piece]:
        """The smallest refused requests each of whose rows was answered in another one."""
        bad = set(refused)
        pieces = [piece for piece in self._refused if not bad & set(range(piece.low, piece.high))]
        return [
            piece
            for piece in pieces
            if not any(piece != o and piece.low <= o.low and o.high <= piece.high for o in pieces)
        ]

    def _gaps(self, piece: _Piece) -> list[Gap]:
        """The gaps between the answered requests that a refused one consists of."""
        inside = [o for o in self._answered if piece.low <= o.low and o.high <= piece.high]
        gaps = []
        end = -1
        for part in sorted(inside, key=lambda part: part.low):
            rows = self._rows[part.low : part.high]
            first = min(row.first for row in rows)
            if 0 <= end < first:
                gaps.append((rows[0].function, end + 1, first - 1))
            end = max(end, *(row.last for row in rows))
        return gaps

    def _words(self, part: _Piece) -> int:
        rows = self._rows[part.low : part.high]
        first, last = self._constraints.widened(
            min(row.first for row in rows), max(row.last for row in rows)
        )
        return last - first + 1
