"""Range vectors, and reads of samples from the source in bounded batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from meterd.promql.budget import Budget
from meterd.promql.instant_vector import InstantVector, Labels, Mask
from meterd.promql.source import FoldingSource, SeriesSource, Times, Values, is_stale
from meterd.promql.window import Indices

Arrays = tuple[Times, Values]

_READ_MAX_SAMPLES = 2_000_000  # expected samples of one read
_RANGE_MAX_READS = 256  # reads of one time range, however long it is
_READ_COST_SAMPLES = 20_000  # samples read in the time that the overhead of one more read takes
_DEFAULT_INTERVAL_MS = 1_000  # sampling interval of a series that declares none


@dataclass(frozen=True, slots=True)
class RangeVector:
    """Each series' samples, and the windows (start, end] of all steps in Unix ms."""

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
    *,
    stale_marks: bool = True,
) -> list[Arrays]:
    """The samples of each series within the windows (start, end], both ascending.

    `interval` in ms is the shortest sampling interval, 0 if unknown: it sizes the reads.
    Raises QueryError beyond the budget.
    """
    if not ids:
        return []
    interval_ms = interval or _DEFAULT_INTERVAL_MS
    samples_left = budget.limits.max_samples - budget.samples
    ranges = _read_ranges(starts, ends, len(ids) / interval_ms, samples_left)
    longest = max(end - start for start, end in ranges)
    series_per_read = max(1, _READ_MAX_SAMPLES // max(1, longest // interval_ms))
    arrays: list[Arrays] = []
    for first in range(0, len(ids), series_per_read):
        batch = ids[first : first + series_per_read]
        arrays += _concatenate(
            [
                _fetch(source, budget, batch, start, end, stale_marks=stale_marks)
                for start, end in _split_ranges(
                    ranges, max(interval_ms * _READ_MAX_SAMPLES, longest // _RANGE_MAX_READS)
                )
            ]
        )
    return arrays


def _fetch(
    source: SeriesSource,
    budget: Budget,
    ids: Sequence[int],
    start: int,
    end: int,
    *,
    stale_marks: bool,
) -> Sequence[Arrays]:
    if not stale_marks and isinstance(source, FoldingSource):
        arrays = source.samples(ids, start, end)
    else:
        arrays = source.fetch(ids, start, end)
        if not stale_marks:
            arrays = drop_stale_marks(arrays)
    budget.spend(sum(len(times) for times, _ in arrays))
    return arrays


def _read_ranges(
    starts: Times, ends: Times, rate: float, samples_left: int
) -> list[tuple[int, int]]:
    """The time ranges to read: first start to last end, or only the windows where that is cheaper.

    `rate` is samples per ms of all series together, `samples_left` what the budget still allows.
    """
    first, last = int(starts[0]), int(ends[-1])
    gaps = np.flatnonzero(starts[1:] > ends[:-1])
    covered_ms = int((ends - starts).max()) * (len(gaps) + 1)
    whole_samples = (last - first) * rate
    if whole_samples <= min(samples_left, (len(gaps) + 1) * _READ_COST_SAMPLES + covered_ms * rate):
        return [(first, last)]
    first_starts = starts[np.concatenate(([0], gaps + 1))].tolist()
    last_ends = ends[np.concatenate((gaps, [len(ends) - 1]))].tolist()
    return list(zip(first_starts, last_ends, strict=True))


def _split_ranges(ranges: Sequence[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    for start, end in ranges:
        for first in range(start, end, length):
            yield first, min(end, first + length)


def _concatenate(parts: list[Sequence[Arrays]]) -> list[Arrays]:
    if len(parts) == 1:
        return list(parts[0])
    return [
        (np.concatenate([t for t, _ in pieces]), np.concatenate([v for _, v in pieces]))
        for pieces in zip(*parts, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class NewestSamples:
    """The newest sample of each row at each moment: arrays of rows x moments.

    `present`: it is within the lookback, and no stale marker. `missing`: there is neither a
    sample nor a stale marker within the lookback. `times` are Unix ms.
    """

    values: Values
    times: Times
    present: Mask
    missing: Mask

    @classmethod
    def of(
        cls, series: Sequence[Arrays], lookbacks: Sequence["int | Times"], moments: Times
    ) -> "NewestSamples":
        """A lookback is in ms: one for the series, or one for each of its samples.

        A stale marker ends a series: it has no value until its next sample.
        """
        shape = (len(series), len(moments))
        values = np.full(shape, np.nan)
        sample_times = np.zeros(shape, dtype=np.int64)
        fresh = np.zeros(shape, dtype=np.bool_)
        for row, ((times, data), lookback) in enumerate(zip(series, lookbacks, strict=True)):
            if not len(times):
                continue
            index = np.searchsorted(times, moments, side="right") - 1
            time = np.take(times, index, mode="clip")
            sample_lookback = lookback
            if isinstance(sample_lookback, np.ndarray):
                sample_lookback = np.take(sample_lookback, index, mode="clip")
            fresh[row] = (index >= 0) & (time > moments - sample_lookback)
            values[row] = np.take(data, index, mode="clip")
            sample_times[row] = time
        return cls(values, sample_times, fresh & ~is_stale(values), ~fresh)

    def fill(self, rows: Sequence[int], moments: Indices, other: "NewestSamples") -> None:
        """Fills the given rows x moments from `other`, where samples are missing."""
        chosen = np.ix_(np.asarray(rows, dtype=np.intp), moments)
        missing = self.missing[chosen]
        for own, others in (
            (self.values, other.values),
            (self.times, other.times),
            (self.present, other.present),
            (self.missing, other.missing),
        ):
            own[chosen] = np.where(missing, others, own[chosen])

    def instant_vector(self, labels: list[Labels]) -> tuple[InstantVector, Times]:
        """The rows with a value at any moment, and the times of their samples (ms)."""
        rows = np.flatnonzero(self.present.any(axis=1)).tolist()
        return InstantVector(labels, self.values, self.present).rows(rows), self.times[rows]


def drop_stale_marks(series: Sequence[Arrays]) -> list[Arrays]:
    """The series without their stale markers: range vectors hold samples only."""
    kept = []
    for times, values in series:
        stale = is_stale(values)
        kept.append((times[~stale], values[~stale]) if stale.any() else (times, values))
    return kept
