"""How long a sample stands where samples come rarely, as those of imported history do.

    10:00      10:15      10:30                 a sample each quarter hour: Prometheus' five
      x----      x----      x----               minutes leave gaps
      x==========x==========x==========···      three of the steps before it leave none

Only series that have no value at some moment are looked at, so that others cost nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from meterd.promql.instant_vector import Mask
from meterd.promql.range_vector import Arrays, NewestSamples
from meterd.promql.source import Labelled, Times, is_stale

STEPS = 3
"""A sample stands for so many steps; so many steps tell how long they are."""

LONGEST_STEP_MS = 86_400_000
# How far back: where a sample still stands, as many must be found as tell how long.
_REACHES_MS = (3 * 3_600_000, 2 * STEPS * LONGEST_STEP_MS)
# Where this time up to a moment holds so many samples, they do not come rarely.
_END_MS = 900_000
_MOST_ROWS = 16  # looked at together
_MOST_SAMPLES = 1_000_000  # read of all of them: then the rest is left as it is

Fetch = Callable[[Sequence[int], Times, Times], Sequence[Arrays]]
"""Series by number, starts and ends of windows (ms): their samples with start < t <= end."""


def lookbacks(arrays: Arrays, usual: int) -> Times:
    """How long each sample stands, in ms: `usual`, or three of the shortest step before it.

    The shortest of three, so that an outage does not pass for a rare sample; fewer than three
    samples tell nothing.
    """
    times, values = arrays
    found = np.full(len(times), usual, dtype=np.int64)
    told = np.flatnonzero(~is_stale(values))
    if len(told) < STEPS:
        return found
    steps = np.diff(times[told])
    wide = min(STEPS, len(steps))
    shortest = np.lib.stride_tricks.sliding_window_view(steps, wide).min(axis=1)
    # The first samples have too few steps before them.
    shortest = np.concatenate((np.repeat(shortest[:1], len(told) - len(shortest)), shortest))
    found[told] = np.maximum(usual, STEPS * np.minimum(shortest, LONGEST_STEP_MS))
    return found


@dataclass(frozen=True, slots=True)
class Widening:
    """Series by number, in the order of the rows of `newest`, at some moments (ms)."""

    names: Sequence[Labelled]
    ids: Sequence[int]
    moments: Times
    usual: int
    fetch: Fetch

    def apply(self, newest: NewestSamples) -> None:
        """Fills moments at which a sample is older than usual, but not for its own spacing."""
        rows = [
            row
            for row in np.flatnonzero(newest.lacking.any(axis=1)).tolist()
            if self.names[self.ids[row]].extent is not None
        ]
        read = 0
        for first in range(0, len(rows), _MOST_ROWS):
            for count in self._some(newest, rows[first : first + _MOST_ROWS]):
                read += count
                if read > _MOST_SAMPLES:
                    return

    def _some(self, newest: NewestSamples, rows: list[int]) -> Iterator[int]:
        """Yields how many samples were read."""
        for reach in _REACHES_MS:
            need = self._need(newest, rows, reach)
            near = [rows[place] for place in np.flatnonzero(need.sum(axis=1)).tolist()]
            places = np.flatnonzero(need.sum(axis=0))
            asked = self.moments[places]
            if reach > _REACHES_MS[0] and near:
                near = list(self._rare(near, asked))
            if not near:
                continue
            series = self._read(near, asked - reach, asked)
            yield sum(len(times) for times, _ in series)
            stands = [lookbacks(arrays, self.usual) for arrays in series]
            newest.fill(near, places, NewestSamples.of(series, stands, asked))
            pairs = zip(near, stands, strict=True)
            often = {row for row, stand in pairs if not self._may_be_rare(stand)}
            rows = [row for row in rows if row not in often]

    def _need(self, newest: NewestSamples, rows: Sequence[int], reach: int) -> Mask:
        """Rows x moments: whether there may be a sample not longer before than the reach."""
        extents = [self.names[self.ids[row]].extent or (0, 0) for row in rows]
        first, last = np.array(extents, dtype=np.int64).reshape(-1, 2).T[:, :, None]
        may = (self.moments >= first) & (self.moments < last + reach)
        return np.asarray(newest.lacking[list(rows)] & may)

    def _may_be_rare(self, stand: Times) -> bool:
        return len(stand) < STEPS or bool((stand > self.usual).any())

    def _rare(self, rows: Sequence[int], asked: Times) -> Iterator[int]:
        """Those that have not many samples in the last minutes before the last moment."""
        ends: dict[int, list[int]] = {}
        for row in rows:
            last = (self.names[self.ids[row]].extent or (0, 0))[1]
            ends.setdefault(min(last, int(asked[-1])), []).append(row)
        for end, some in ends.items():
            until = np.array([end], dtype=np.int64)
            for row, (times, _) in zip(some, self._read(some, until - _END_MS, until), strict=True):
                if len(times) < STEPS:
                    yield row

    def _read(self, rows: Sequence[int], starts: Times, ends: Times) -> Sequence[Arrays]:
        return self.fetch([self.ids[row] for row in rows], starts, ends)
