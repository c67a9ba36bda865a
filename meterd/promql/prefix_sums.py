"""Sums of long overlapping windows as differences of running sums, told with their doubt.

Running sums are kept in two doubles each (the sum, and what its roundings lost), so that the
difference is as good as adding the window up with compensation. Where it might not be (huge
values beside small ones, sums that cancel), the window is marked as doubtful.
"""

import numpy as np

from meterd.promql.instant_vector import Mask
from meterd.promql.source import Times, Values
from meterd.promql.window import Places, Window

Quick = tuple[Values, Mask]

_LONG = 100_000  # samples in all windows together from which on running sums pay
_LONG_LINES = 10_000  # the same for lines, which need four sums
_EPS = 2.0**-53


def long(shown: Window, *, line: bool = False) -> bool:
    enough = _LONG_LINES if line else _LONG
    return int(shown.count.sum()) > enough and bool(np.isfinite(shown.values).all())


def sums(shown: Window) -> Quick:
    return _between(shown.values, shown.low, shown.high)


def means(shown: Window) -> Quick:
    totals, doubtful = sums(shown)
    return totals / np.maximum(shown.count, 1), doubtful


def variances(shown: Window) -> Quick:
    """From squares of the distances to the series' mean; doubtful where little of them is left."""
    count = np.maximum(shown.count, 1)
    with np.errstate(all="ignore"):
        apart = shown.values - shown.values.mean()
        squares = apart * apart
        first, vague = _between(apart, shown.low, shown.high)
        second, dim = _between(squares, shown.low, shown.high)
        spread = second / count - (first / count) ** 2
        lost = 8 * _EPS * float(squares.max()) > 1e-10 * spread
    return spread, vague | dim | lost | ~np.isfinite(spread)


def lines(shown: Window, origin: Times) -> tuple[Values, Values, Mask]:
    """Least squares: slope a second, the value at the origin (ms), and where both are in doubt.

    Distances are taken from the middle of the whole series, so much cancels in a short window.
    """
    count = np.maximum(shown.count, 1)
    zero, level = int(shown.times[len(shown.times) // 2]), float(shown.values.mean())
    x, y = (shown.times - zero) / 1e3, shown.values - level
    parts = [_between(each, shown.low, shown.high) for each in (x, y, x * y, x * x)]
    (sum_x, _), (sum_y, _), (sum_xy, _), (sum_x2, _) = parts
    with np.errstate(all="ignore"):
        spread = sum_x2 - sum_x * sum_x / count
        common = sum_xy - sum_x * sum_y / count
        slope = common / spread
        there = level + (sum_y - slope * sum_x) / count + slope * ((origin - zero) / 1e3)
        reach = 8 * _EPS * float(np.abs(x).max())
        lost = count * reach * float(np.abs(y).max()) > 1e-9 * np.abs(common)
        lost |= count * reach * float(np.abs(x).max()) > 1e-9 * spread
    return slope, there, lost | ~np.isfinite(slope)


def _between(values: Values, low: Places, high: Places) -> Quick:
    with np.errstate(all="ignore"):
        running = np.concatenate(([0.0], np.cumsum(values)))
        before, after = running[:-1], running[1:]
        larger = np.abs(before) >= np.abs(values)
        lost = np.where(larger, (before - after) + values, (values - after) + before)
        losses = np.concatenate(([0.0], np.cumsum(lost)))
        top, bottom = running[high], running[low]
        apart = top - bottom
        back = apart - top
        rest = (top - (apart - back)) - (bottom + back)
        totals = apart + (rest + (losses[high] - losses[low]))
        bound = len(values) * _EPS * float(np.abs(losses).max())
        return totals, ~(bound <= _EPS / 4 * np.abs(totals))
