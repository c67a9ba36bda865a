"""Aggregation of samples into buckets, also from partial aggregates of one bucket."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from meterd.store.query.series_array import SeriesArray, Times, Values


class PartialAggregate(NamedTuple):
    """Partial aggregates of buckets in time order; neighbours may be of one bucket."""

    starts: Times
    n: Values
    total: Values
    low: Values
    high: Values
    last: Values

    def take(self, chosen: "NDArray[np.bool_] | NDArray[np.intp]") -> "PartialAggregate":
        starts, n, total, low, high, last = self
        return PartialAggregate(
            starts[chosen], n[chosen], total[chosen], low[chosen], high[chosen], last[chosen]
        )


_Point: TypeAlias = Callable[[PartialAggregate], Values]

_POINTS: dict[str, _Point] = {
    "avg": lambda piece: piece.total / piece.n,
    "min": lambda piece: piece.low,
    "max": lambda piece: piece.high,
    "last": lambda piece: piece.last,
    "sum": lambda piece: piece.total,
    "count": lambda piece: piece.n,
}
# Which lane an aggregate is made of, beside n, and how rows of it become one.
_LANES = {"avg": "total", "sum": "total", "min": "low", "max": "high", "last": "last"}
_REDUCED = {"total": np.add, "low": np.minimum, "high": np.maximum}


class BucketEdges:
    """Where buckets begin: at multiples of `step` ms, or at `starts` (Unix ms, rising).

    The series of a device mostly share their times.
    """

    def __init__(self, step: int, starts: Sequence[int] = ()) -> None:
        self.step = step
        self._starts: Times = np.array(starts, np.int64)
        self._times: Times = np.empty(0, np.int64)
        self._found = self._times, np.empty(0, np.intp)

    def of(self, times: Times) -> "tuple[Times, NDArray[np.intp]]":
        """The starts of the buckets that have samples, and each one's first sample."""
        if not np.array_equal(times, self._times):
            starts = self.begin(times)
            first = _changes(starts)
            self._times, self._found = times, (starts[first], first)
        return self._found

    def begin(self, times: Times) -> Times:
        """When the bucket began that each time is in."""
        if not len(self._starts):
            return times // self.step * self.step
        places = np.searchsorted(self._starts, times, side="right") - 1
        return self._starts[np.maximum(places, 0)]


@dataclass(slots=True)
class Buckets:
    """The buckets of one series, [t, t + step), named by their start, as far as `agg` needs them.

    Lanes that it does not need hold anything.
    """

    agg: str
    edges: BucketEdges
    pieces: list[PartialAggregate] = field(default_factory=list)

    def add(self, track: SeriesArray) -> None:
        """Samples, younger than all before; none of them null."""
        if len(track.times):
            starts, first = self.edges.of(track.times)
            n = np.diff(first, append=len(track.times)).astype(np.float64)
            values = track.values
            lanes = PartialAggregate(starts, n, values, values, values, values)
            self.pieces.append(self._folded(lanes, starts, n, first, len(track.times)))

    def add_piece(self, piece: PartialAggregate) -> None:
        """Adds aggregates younger than all before; starts may lie anywhere in a bucket."""
        if len(piece.starts):
            starts = self.edges.begin(piece.starts)
            lanes = [np.asarray(lane, np.float64) for lane in piece[1:]]
            self.pieces.append(self._shrunk(PartialAggregate(starts, *lanes)))

    def points(self) -> list[tuple[int, float]]:
        """(start, value) of each bucket with samples, in time order."""
        if not self.pieces:
            return []
        whole = self.pieces[0] if len(self.pieces) == 1 else self._shrunk(_joined(self.pieces))
        values = _POINTS[self.agg](whole)
        return list(zip(whole.starts.tolist(), values.tolist(), strict=True))

    def _shrunk(self, piece: PartialAggregate) -> PartialAggregate:
        """Equal neighbours become one."""
        starts = piece.starts
        first = _changes(starts)
        if len(first) == len(starts):
            return piece
        n = np.add.reduceat(piece.n, first)
        return self._folded(piece, starts[first], n, first, len(starts))

    def _folded(
        self,
        lanes: PartialAggregate,
        starts: Times,
        n: Values,
        first: "NDArray[np.intp]",
        count: int,
    ) -> PartialAggregate:
        """Rows from each `first` to before the next one, of so many, become one."""
        name = _LANES.get(self.agg)
        if name is None:
            return PartialAggregate(starts, n, n, n, n, n)
        if name == "last":
            one = lanes.last[np.append(first[1:], count) - 1]
        else:
            one = _REDUCED[name].reduceat(getattr(lanes, name), first)
        return PartialAggregate(starts, n, one, one, one, one)


def _joined(pieces: Sequence[PartialAggregate]) -> PartialAggregate:
    return PartialAggregate(*(np.concatenate(lanes) for lanes in zip(*pieces, strict=True)))


def _changes(starts: Times) -> "NDArray[np.intp]":
    """Where another bucket begins."""
    return np.flatnonzero(np.concatenate(([True], starts[1:] != starts[:-1])))
