"""Sums, means, variances and regressions of long overlapping windows by prefix sums.

A prefix sum is kept in two doubles (the sum, and its accumulated rounding error), so that a
difference is as exact as the compensated sum of the window. Where it might not be (huge values
beside small ones, cancellation), the window is flagged, and the caller computes it directly.
"""

import numpy as np

from meterd.promql.instant_vector import Mask
from meterd.promql.source import Times, Values
from meterd.promql.window import Indices, Window

CheckedValues = tuple[Values, Mask]

_MIN_SAMPLES = 100_000  # samples in all windows together from which prefix sums are faster
_REGRESSION_MIN_SAMPLES = 10_000  # the same for regressions, which need four sums
_EPS = 2.0**-53  # unit roundoff of float64


def is_long(window: Window, *, line: bool = False) -> bool:
    min_samples = _REGRESSION_MIN_SAMPLES if line else _MIN_SAMPLES
    return int(window.count.sum()) > min_samples and bool(np.isfinite(window.values).all())


def sums(window: Window) -> CheckedValues:
    return _window_sums(window.values, window.low, window.high)


def means(window: Window) -> CheckedValues:
    totals, doubtful = sums(window)
    return totals / np.maximum(window.count, 1), doubtful


def variances(window: Window) -> CheckedValues:
    """Population variances, from squared deviations from the series' mean."""
    count = np.maximum(window.count, 1)
    with np.errstate(all="ignore"):
        deviations = window.values - window.values.mean()
        squares = deviations * deviations
        first, sums_doubtful = _window_sums(deviations, window.low, window.high)
        second, squares_doubtful = _window_sums(squares, window.low, window.high)
        variance = second / count - (first / count) ** 2
        cancelled = 8 * _EPS * float(squares.max()) > 1e-10 * variance
    return variance, sums_doubtful | squares_doubtful | cancelled | ~np.isfinite(variance)


def regressions(window: Window, origin: Times) -> tuple[Values, Values, Mask]:
    """Least squares: slope per second, value at the origin (ms), and which windows are doubtful.

    Times and values are relative to the middle of the whole series, so in a short window most
    digits cancel.
    """
    count = np.maximum(window.count, 1)
    zero, level = int(window.times[len(window.times) // 2]), float(window.values.mean())
    x, y = (window.times - zero) / 1e3, window.values - level
    window_sums = [_window_sums(series, window.low, window.high) for series in (x, y, x * y, x * x)]
    (sum_x, _), (sum_y, _), (sum_xy, _), (sum_x2, _) = window_sums
    with np.errstate(all="ignore"):
        variance = sum_x2 - sum_x * sum_x / count
        covariance = sum_xy - sum_x * sum_y / count
        slope = covariance / variance
        intercept = level + (sum_y - slope * sum_x) / count + slope * ((origin - zero) / 1e3)
        rounding = 8 * _EPS * float(np.abs(x).max())
        cancelled = count * rounding * float(np.abs(y).max()) > 1e-9 * np.abs(covariance)
        cancelled |= count * rounding * float(np.abs(x).max()) > 1e-9 * variance
    return slope, intercept, cancelled | ~np.isfinite(slope)


def _window_sums(values: Values, low: Indices, high: Indices) -> CheckedValues:
    with np.errstate(all="ignore"):
        running = np.concatenate(([0.0], np.cumsum(values)))
        before, after = running[:-1], running[1:]
        larger = np.abs(before) >= np.abs(values)
        rounding = np.where(larger, (before - after) + values, (values - after) + before)
        losses = np.concatenate(([0.0], np.cumsum(rounding)))
        top, bottom = running[high], running[low]
        difference = top - bottom
        round_trip = difference - top
        rest = (top - (difference - round_trip)) - (bottom + round_trip)
        totals = difference + (rest + (losses[high] - losses[low]))
        bound = len(values) * _EPS * float(np.abs(losses).max())
        return totals, ~(bound <= _EPS / 4 * np.abs(totals))
