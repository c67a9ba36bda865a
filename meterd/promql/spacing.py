"""Longer lookbacks for sparse samples, such as those of imported history.

    10:00      10:15      10:30                 a sample each quarter hour: Prometheus' default
      x----      x----      x----               lookback of 5 minutes leaves gaps
      x==========x==========x==========···      three of the preceding steps leave none

Only series without a value at some moment are examined, so that others cost nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from meterd.promql.instant_vector import Mask
from meterd.promql.range_vector import Arrays, NewestSamples
from meterd.promql.source import Labelled, Times, is_stale

STEPS = 3
"""The lookback of a sparse sample in steps, and the number of steps that determine its length."""

LONGEST_STEP_MS = 86_400_000
# Lookbacks tried in turn: long enough to find the STEPS samples that determine the spacing.
_LOOKBACKS_MS = (3 * 3_600_000, 2 * STEPS * LONGEST_STEP_MS)
# A series with STEPS samples within this time is not sparse.
_RECENT_MS = 900_000
_BATCH_ROWS = 16  # rows read together
_READ_MAX_SAMPLES = 1_000_000  # of one query: beyond it the remaining rows keep their gaps

Fetch = Callable[[Sequence[int], Times, Times], Sequence[Arrays]]
"""(series ids, window starts, window ends in ms) -> their samples with start < t <= end."""


def lookbacks(arrays: Arrays, default_lookback: int) -> Times:
    """The lookback of each sample in ms: the default, or STEPS times the step before it.

    The shortest of the three preceding steps counts, so that an outage does not look like sparse
    sampling. With fewer than three samples, the default.
    """
    times, values = arrays
    durations = np.full(len(times), default_lookback, dtype=np.int64)
    data = np.flatnonzero(~is_stale(values))
    if len(data) < STEPS:
        return durations
    steps = np.diff(times[data])
    width = min(STEPS, len(steps))
    shortest = np.lib.stride_tricks.sliding_window_view(steps, width).min(axis=1)
    # The first samples have too few steps before them.
    shortest = np.concatenate((np.repeat(shortest[:1], len(data) - len(shortest)), shortest))
    durations[data] = np.maximum(default_lookback, STEPS * np.minimum(shortest, LONGEST_STEP_MS))
    return durations


@dataclass(frozen=True, slots=True)
class Widening:
    """Fills gaps of a NewestSamples whose rows are the series `ids`, at the moments (Unix ms)."""

    names: Sequence[Labelled]
    ids: Sequence[int]
    moments: Times
    default_lookback: int
    fetch: Fetch

    def apply(self, newest: NewestSamples) -> None:
        """Fills moments whose newest sample is beyond the default lookback, but within its own."""
        rows = [
            row
            for row in np.flatnonzero(newest.missing.any(axis=1)).tolist()
            if self.names[self.ids[row]].extent is not None
        ]
        samples_read = 0
        for first in range(0, len(rows), _BATCH_ROWS):
            for count in self._fill_rows(newest, rows[first : first + _BATCH_ROWS]):
                samples_read += count
                if samples_read > _READ_MAX_SAMPLES:
                    return

    def _fill_rows(self, newest: NewestSamples, rows: list[int]) -> Iterator[int]:
        """Fills some rows with growing lookbacks; yields the number of samples of each read."""
        for lookback in _LOOKBACKS_MS:
            needed = self._missing_within(newest, rows, lookback)
            near_rows = [rows[place] for place in np.flatnonzero(needed.sum(axis=1)).tolist()]
            columns = np.flatnonzero(needed.sum(axis=0))
            moments = self.moments[columns]
            if lookback > _LOOKBACKS_MS[0] and near_rows:
                near_rows = list(self._sparse_rows(near_rows, moments))
            if not near_rows:
                continue
            series = self._read(near_rows, moments - lookback, moments)
            yield sum(len(times) for times, _ in series)
            durations = [lookbacks(arrays, self.default_lookback) for arrays in series]
            newest.fill(near_rows, columns, NewestSamples.of(series, durations, moments))
            pairs = zip(near_rows, durations, strict=True)
            frequent = {
                row for row, row_durations in pairs if not self._may_be_sparse(row_durations)
            }
            rows = [row for row in rows if row not in frequent]

    def _missing_within(self, newest: NewestSamples, rows: Sequence[int], lookback: int) -> Mask:
        """Rows x moments: missing, and the series' extent allows a sample within the lookback."""
        extents = [self.names[self.ids[row]].extent or (0, 0) for row in rows]
        first, last = np.array(extents, dtype=np.int64).reshape(-1, 2).T[:, :, None]
        within = (self.moments >= first) & (self.moments < last + lookback)
        return np.asarray(newest.missing[list(rows)] & within)

    def _may_be_sparse(self, durations: Times) -> bool:
        return len(durations) < STEPS or bool((durations > self.default_lookback).any())

    def _sparse_rows(self, rows: Sequence[int], moments: Times) -> Iterator[int]:
        """The rows with fewer than STEPS samples in the last _RECENT_MS up to the last moment."""
        ends: dict[int, list[int]] = {}
        for row in rows:
            last = (self.names[self.ids[row]].extent or (0, 0))[1]
            ends.setdefault(min(last, int(moments[-1])), []).append(row)
        for end, end_rows in ends.items():
            until = np.array([end], dtype=np.int64)
            for row, (times, _) in zip(
                end_rows, self._read(end_rows, until - _RECENT_MS, until), strict=True
            ):
                if len(times) < STEPS:
                    yield row

    def _read(self, rows: Sequence[int], starts: Times, ends: Times) -> Sequence[Arrays]:
        return self.fetch([self.ids[row] for row in rows], starts, ends)
