"""Samples for selectors: fetched in bounded pieces, cut into the windows of all steps at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from meterd.promql.budget import Budget
from meterd.promql.instant_vector import InstantVector, Labels, Mask
from meterd.promql.source import SeriesSource, Times, Values, is_stale
from meterd.promql.window import Places

Arrays = tuple[Times, Values]

_PIECE = 2_000_000  # samples asked of the source at once
_PIECES = 256  # of one reach at most, however long it is
_OPENING = 20_000  # samples that can be read in the time that one more reading costs
_UNKNOWN_INTERVAL = 1_000  # ms between samples where a series does not say


@dataclass(frozen=True, slots=True)
class RangeVector:
    """Range vectors: each series' samples, and the windows (starts, ends] of all steps in ms."""

    labels: list[Labels]
    series: Sequence[Arrays]
    starts: Times
    ends: Times


def fetch(
    source: SeriesSource,
    budget: Budget,
    ids: Sequence[int],
    starts: Times,
    ends: Times,
    interval: int,
) -> list[Arrays]:
    """Samples of all windows (starts, ends], both ascending. Raises QueryError on the limits."""
    if not ids:
        return []
    pace = interval or _UNKNOWN_INTERVAL
    left = budget.limits.max_samples - budget.samples
    reaches = _reaches(starts, ends, len(ids) / pace, left)
    longest = max(end - start for start, end in reaches)
    each = max(1, _PIECE // max(1, longest // pace))
    found: list[Arrays] = []
    for place in range(0, len(ids), each):
        some = ids[place : place + each]
        found += _joined(
            [
                _fetch(source, budget, some, start, end)
                for start, end in _pieces(reaches, max(pace * _PIECE, longest // _PIECES))
            ]
        )
    return found


def _fetch(
    source: SeriesSource, budget: Budget, ids: Sequence[int], start: int, end: int
) -> Sequence[Arrays]:
    got = source.fetch(ids, start, end)
    budget.spend(sum(len(times) for times, _ in got))
    return got


def _reaches(starts: Times, ends: Times, rate: float, left: int) -> list[tuple[int, int]]:
    """What to read: all from first to last, or only the windows if that is cheaper.

    rate is samples a ms of all series together; left is how many samples may still be loaded.
    """
    first, last = int(starts[0]), int(ends[-1])
    breaks = np.flatnonzero(starts[1:] > ends[:-1])
    covered = int((ends - starts).max()) * (len(breaks) + 1)
    whole = (last - first) * rate
    if whole <= min(left, (len(breaks) + 1) * _OPENING + covered * rate):
        return [(first, last)]
    heads = starts[np.concatenate(([0], breaks + 1))].tolist()
    tails = ends[np.concatenate((breaks, [len(ends) - 1]))].tolist()
    return list(zip(heads, tails, strict=True))


def _pieces(reaches: Sequence[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    for start, end in reaches:
        for at in range(start, end, length):
            yield at, min(end, at + length)


def _joined(parts: list[Sequence[Arrays]]) -> list[Arrays]:
    if len(parts) == 1:
        return list(parts[0])
    return [
        (np.concatenate([t for t, _ in each]), np.concatenate([v for _, v in each]))
        for each in zip(*parts, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class NewestSamples:
    """The newest sample of each row at each moment: rows x moments.

    `here`: it is not older than the lookback, and no stale mark. `lacking`: not even a mark is.
    """

    values: Values
    when: Times
    here: Mask
    lacking: Mask

    @classmethod
    def of(
        cls, series: Sequence[Arrays], lookbacks: Sequence["int | Times"], moments: Times
    ) -> "NewestSamples":
        """A lookback is in ms: one of the series, or one of each of its samples.

        A stale mark ends a series: there is no value until its next sample.
        """
        shape = (len(series), len(moments))
        values = np.full(shape, np.nan)
        when = np.zeros(shape, dtype=np.int64)
        fresh = np.zeros(shape, dtype=np.bool_)
        for row, ((times, data), lookback) in enumerate(zip(series, lookbacks, strict=True)):
            if not len(times):
                continue
            place = np.searchsorted(times, moments, side="right") - 1
            time = np.take(times, place, mode="clip")
            stands = lookback
            if isinstance(stands, np.ndarray):
                stands = np.take(stands, place, mode="clip")
            fresh[row] = (place >= 0) & (time > moments - stands)
            values[row] = np.take(data, place, mode="clip")
            when[row] = time
        return cls(values, when, fresh & ~is_stale(values), ~fresh)

    def fill(self, rows: Sequence[int], places: Places, other: "NewestSamples") -> None:
        """Takes over another's values for these rows and moments, where these have none."""
        chosen = np.ix_(np.asarray(rows, dtype=np.intp), places)
        lacking = self.lacking[chosen]
        for mine, theirs in (
            (self.values, other.values),
            (self.when, other.when),
            (self.here, other.here),
            (self.lacking, other.lacking),
        ):
            mine[chosen] = np.where(lacking, theirs, mine[chosen])

    def frame(self, labels: list[Labels]) -> tuple[InstantVector, Times]:
        """The rows that have a value at all, and the times of their samples (ms)."""
        some = np.flatnonzero(self.here.any(axis=1)).tolist()
        return InstantVector(labels, self.values, self.here).rows(some), self.when[some]


def unmarked(series: Sequence[Arrays]) -> list[Arrays]:
    """Windows hold data only: stale marks are left out."""
    cleaned = []
    for times, values in series:
        stale = is_stale(values)
        cleaned.append((times[~stale], values[~stale]) if stale.any() else (times, values))
    return cleaned
