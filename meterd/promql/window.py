"""The windows of one series at all steps, and vectorised passes over them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from meterd.promql.source import Times, Values

Indices = NDArray[np.intp]

_TILE_MAX_VALUES = 1 << 18  # 2 MiB of float64: stays in the processor's cache


@dataclass(frozen=True, slots=True)
class Window:
    """Samples of one series and, for each step, the indices [low, high) of those in (start, end].

    `step_times` are the evaluation times (ms); `check_deadline` is called between tiles.
    """

    times: Times
    values: Values
    low: Indices
    high: Indices
    starts: Times
    ends: Times
    step_times: Times
    check_deadline: Callable[[], None]

    @property
    def count(self) -> Indices:
        return self.high - self.low

    def select_steps(self, steps: Indices) -> "Window":
        """The windows of some steps."""
        return replace(
            self,
            low=self.low[steps],
            high=self.high[steps],
            starts=self.starts[steps],
            ends=self.ends[steps],
            step_times=self.step_times[steps],
        )


def stacked(windows: Sequence[Window]) -> Window:
    """Several series at the same steps as one: `low` and `high` have a row for each of them.

    For functions that take nothing but samples at indices within each window.
    """
    offsets = np.cumsum([0, *[len(window.times) for window in windows[:-1]]])[:, None]
    return replace(
        windows[0],
        times=np.concatenate([window.times for window in windows]),
        values=np.concatenate([window.values for window in windows]),
        low=np.array([window.low for window in windows]) + offsets,
        high=np.array([window.high for window in windows]) + offsets,
    )


def make_window(
    times: Times,
    values: Values,
    starts: Times,
    ends: Times,
    step_times: Times,
    pulse: Callable[[], None],
) -> Window:
    low = np.searchsorted(times, starts, side="right")
    high = np.searchsorted(times, ends, side="right")
    return Window(times, values, low, high, starts, ends, step_times, pulse)


@dataclass(frozen=True, slots=True)
class Tile:
    """Some steps' windows as columns: column k holds step k's samples in time order.

    `inside` is False in the padding of shorter windows; `indices` are those in the series.
    """

    steps: slice
    indices: Indices
    inside: NDArray[np.bool_]
    count: Indices


def tiles(window: Window) -> Iterator[Tile]:
    """All windows, in tiles of bounded size; tiles without any sample are left out."""
    steps_per_tile = max(1, _TILE_MAX_VALUES // max(1, int(window.count.max())))
    for first_step in range(0, len(window.low), steps_per_tile):
        steps = slice(first_step, first_step + steps_per_tile)
        count = window.count[steps]
        if not count.any():
            continue
        depths = np.arange(int(count.max()))[:, None]
        places = np.minimum(window.low[steps] + depths, len(window.values) - 1)
        yield Tile(steps, places, depths < count, count)
        window.check_deadline()


def reduce_windows(window: Window, ufunc: np.ufunc, data: Values) -> Values:
    """The ufunc's reduction of data[low:high] for each step; undefined for empty windows."""
    if not len(data):
        return np.full(len(window.low), np.nan)
    padded = np.append(data, data[-1])
    pairs = np.empty(2 * len(window.low), dtype=np.intp)
    pairs[0::2], pairs[1::2] = window.low, window.high
    return np.asarray(ufunc.reduceat(padded, pairs)[::2])


class SharedWindows:
    """The windows of many series at the same steps: searched once for those that share their times.

    That is those whose times are the same object.
    """

    def __init__(
        self, starts: Times, ends: Times, step_times: Times, check_deadline: Callable[[], None]
    ) -> None:
        self._steps = starts, ends, step_times, check_deadline
        # By the id of their times, which live as long as they are kept here.
        self._made: dict[int, Window] = {}

    def of(self, times: Times, values: Values) -> Window:
        made = self._made.get(id(times))
        if made is not None:
            return replace(made, values=values)
        window = self._made[id(times)] = make_window(times, values, *self._steps)
        return window
