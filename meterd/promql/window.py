"""The windows of one series at all steps, and ways to go over them without a loop over steps."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from meterd.promql.source import Times, Values

Places = NDArray[np.intp]

_TILE = 1 << 18  # values laid out at once: stays in the cache of the processor


@dataclass(frozen=True, slots=True)
class Window:
    """Samples of one series and, for each step, the places [low, high) within (start, end].

    `at` are the steps' own times; `pulse` is called between pieces of long work.
    """

    times: Times
    values: Values
    low: Places
    high: Places
    starts: Times
    ends: Times
    at: Times
    pulse: Callable[[], None]

    @property
    def count(self) -> Places:
        return self.high - self.low

    def only(self, steps: Places) -> "Window":
        """The windows of some steps."""
        return replace(
            self,
            low=self.low[steps],
            high=self.high[steps],
            starts=self.starts[steps],
            ends=self.ends[steps],
            at=self.at[steps],
        )


def window(
    times: Times,
    values: Values,
    starts: Times,
    ends: Times,
    at: Times,
    pulse: Callable[[], None],
) -> Window:
    low = np.searchsorted(times, starts, side="right")
    high = np.searchsorted(times, ends, side="right")
    return Window(times, values, low, high, starts, ends, at, pulse)


@dataclass(frozen=True, slots=True)
class Tile:
    """Some steps' windows side by side: column k holds step k's samples, top first.

    `inside` is False in the padding below shorter windows; `places` are places in the series.
    """

    steps: slice
    places: Places
    inside: NDArray[np.bool_]
    count: Places


def tiles(shown: Window) -> Iterator[Tile]:
    """All windows, in pieces of bounded size; pieces with no sample at all are left out."""
    room = max(1, _TILE // max(1, int(shown.count.max())))
    for done in range(0, len(shown.low), room):
        steps = slice(done, done + room)
        count = shown.count[steps]
        if not count.any():
            continue
        offsets = np.arange(int(count.max()))[:, None]
        places = np.minimum(shown.low[steps] + offsets, len(shown.values) - 1)
        yield Tile(steps, places, offsets < count, count)
        shown.pulse()


def reduced(shown: Window, ufunc: np.ufunc, data: Values) -> Values:
    """ufunc over data[low:high] for each step; what empty windows give has no meaning."""
    if not len(data):
        return np.full(len(shown.low), np.nan)
    padded = np.append(data, data[-1])
    pairs = np.empty(2 * len(shown.low), dtype=np.intp)
    pairs[0::2], pairs[1::2] = shown.low, shown.high
    return np.asarray(ufunc.reduceat(padded, pairs)[::2])
