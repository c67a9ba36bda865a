"""Sums of long overlapping windows as differences of running sums, told with their doubt.

Running sums are kept in two doubles each (the sum, and what its roundings lost), so that the
difference is as good as adding the window up with compensation. Where it might not be (huge
values beside small ones, sums that cancel), the window is marked as doubtful.
"""

import numpy as np

from meterd.promql.frame import Mask
from meterd.promql.source import Values
from meterd.promql.window import Places, Window

Quick = tuple[Values, Mask]

_LONG = 100_000  # samples in all windows together from which on running sums pay
_EPS = 2.0**-53


def long(shown: Window) -> bool:
    return int(shown.count.sum()) > _LONG and bool(np.isfinite(shown.values).all())


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
