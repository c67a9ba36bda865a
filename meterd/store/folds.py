"""How the samples of a bucket become one point, also where a bucket is met in pieces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from meterd.store.tracks import Times, Track, Values


class Piece(NamedTuple):
    """What is known of buckets, in time order; a bucket may stand twice, in neighbours."""

    starts: Times
    n: Values
    total: Values
    low: Values
    high: Values
    last: Values

    def take(self, chosen: "NDArray[np.bool_] | NDArray[np.intp]") -> "Piece":
        starts, n, total, low, high, last = self
        return Piece(
            starts[chosen], n[chosen], total[chosen], low[chosen], high[chosen], last[chosen]
        )


_Point: TypeAlias = Callable[[Piece], Values]

_POINTS: dict[str, _Point] = {
    "avg": lambda piece: piece.total / piece.n,
    "min": lambda piece: piece.low,
    "max": lambda piece: piece.high,
    "last": lambda piece: piece.last,
    "sum": lambda piece: piece.total,
    "count": lambda piece: piece.n,
}


@dataclass(slots=True)
class Buckets:
    """The buckets of one series, `step` ms wide, [t, t + step), named by their start."""

    step: int
    pieces: list[Piece] = field(default_factory=list)

    def add(self, track: Track) -> None:
        """Samples, younger than all before; none of them null."""
        if len(track.times):
            ones = np.ones(len(track.times))
            values = track.values
            starts = track.times - track.times % self.step
            self.pieces.append(_shrunk(Piece(starts, ones, values, values, values, values)))

    def add_piece(self, piece: Piece) -> None:
        """Aggregates of what is younger than all before; starts may be any time in a bucket."""
        if len(piece.starts):
            starts = piece.starts - piece.starts % self.step
            self.pieces.append(_shrunk(piece._replace(starts=starts)))

    def points(self, agg: str) -> list[tuple[int, float]]:
        """(start, value) of each bucket with samples, in time order."""
        if not self.pieces:
            return []
        whole = _shrunk(_joined(self.pieces))
        values = _POINTS[agg](whole)
        return list(zip(whole.starts.tolist(), values.tolist(), strict=True))


def _joined(pieces: Sequence[Piece]) -> Piece:
    starts = np.concatenate([piece.starts for piece in pieces])
    rest = ([piece[place] for piece in pieces] for place in range(1, len(Piece._fields)))
    n, total, low, high, last = (np.concatenate(part).astype(np.float64) for part in rest)
    return Piece(starts, n, total, low, high, last)


def _shrunk(piece: Piece) -> Piece:
    """Equal neighbours become one."""
    starts = piece.starts
    first = np.flatnonzero(np.concatenate(([True], starts[1:] != starts[:-1])))
    if len(first) == len(starts):
        return piece
    last = np.append(first[1:], len(starts)) - 1
    return Piece(
        starts[first],
        np.add.reduceat(piece.n, first),
        np.add.reduceat(piece.total, first),
        np.minimum.reduceat(piece.low, first),
        np.maximum.reduceat(piece.high, first),
        piece.last[last],
    )
