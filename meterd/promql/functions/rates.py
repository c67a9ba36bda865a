"""rate, increase, delta, irate, idelta, deriv and predict_linear."""

import numpy as np

from meterd.promql.instant_vector import Mask
from meterd.promql.prefix_sums import is_long, regressions
from meterd.promql.source import Times, Values
from meterd.promql.stats import total
from meterd.promql.window import Tile, Window, tiles

WindowValues = tuple[Values, Mask]
Regression = tuple[Values, Values]  # slopes per second, and intercepts: values at the origin


def rate(window: Window) -> WindowValues:
    return _extrapolated_rate(window, is_counter=True, divisor=(window.ends - window.starts) / 1000)


def increase(window: Window) -> WindowValues:
    return _extrapolated_rate(window, is_counter=True)


def delta(window: Window) -> WindowValues:
    return _extrapolated_rate(window, is_counter=False)


def _samples_at(window: Window, indices: np.ndarray) -> tuple[Values, np.ndarray]:
    """Values and times (ms) at indices; those out of bounds are clipped."""
    times = np.take(window.times, indices, mode="clip")
    return np.take(window.values, indices, mode="clip"), times


def _extrapolated_rate(
    window: Window, *, is_counter: bool, divisor: Values | float = 1.0
) -> WindowValues:
    """Prometheus' extrapolatedRate: (last - first + reset correction) extrapolated to the range.

    The result is divided by `divisor` (the range in s for rate). Towards each edge of the range
    the slope is extended over the whole gap if that is below 1.1 mean spacings, else by half a
    spacing; a counter is never extrapolated below zero.
    """
    present = window.count >= 2
    if not present.any():
        return np.zeros(present.shape), present
    first, first_time = _samples_at(window, window.low)
    last, last_time = _samples_at(window, window.high - 1)
    with np.errstate(all="ignore"):
        rise = last - first
        if is_counter:
            correction = _reset_correction(window)
            rise = np.where(correction == 0, rise, rise + correction)  # -0 + 0 would be 0
        sampled = (last_time - first_time) / 1000
        spacing = sampled / (window.count - 1)
        before = (first_time - window.starts) / 1000
        after = (window.ends - last_time) / 1000
        before = np.where(before >= spacing * 1.1, spacing / 2, before)
        after = np.where(after >= spacing * 1.1, spacing / 2, after)
        if is_counter:
            to_zero = sampled * (first / rise)
            before = np.where((rise > 0) & (first >= 0) & (to_zero < before), to_zero, before)
        return rise * ((sampled + before + after) / sampled / divisor), present


def _reset_correction(window: Window) -> Values:
    """The sum of a counter's values just before each reset within each window."""
    values = window.values
    drops = np.flatnonzero(values[1:] < values[:-1]) + 1
    if not len(drops):
        return np.zeros(window.low.shape)
    low = np.searchsorted(drops, window.low.ravel() + 1)
    high = np.searchsorted(drops, window.high.ravel())
    pairs = np.empty(2 * len(low), dtype=np.intp)
    pairs[0::2], pairs[1::2] = low, np.maximum(high, low)
    peaks = np.append(values[drops - 1], 0.0)
    lost = np.where(high > low, np.add.reduceat(peaks, pairs)[::2], 0.0)
    return lost.reshape(window.low.shape)


def irate(window: Window) -> WindowValues:
    return _last_two(window, is_counter=True)


def idelta(window: Window) -> WindowValues:
    return _last_two(window, is_counter=False)


def _last_two(window: Window, *, is_counter: bool) -> WindowValues:
    present = window.count >= 2
    if not present.any():
        return np.zeros(len(present)), present
    last, last_time = _samples_at(window, window.high - 1)
    prior, prior_time = _samples_at(window, window.high - 2)
    with np.errstate(all="ignore"):
        rise = last - prior
        if not is_counter:
            return rise, present
        rise = np.where(last < prior, last, rise)
        return rise / ((last_time - prior_time) / 1000), present


def deriv(window: Window) -> WindowValues:
    present = window.count >= 2
    if not present.any():
        return np.zeros(len(present)), present
    slope, _ = _regression(window, np.take(window.times, window.low, mode="clip"))
    return slope, present


def predict_linear(window: Window, ahead: Values) -> WindowValues:
    slope, intercept = _regression(window, window.step_times)
    with np.errstate(all="ignore"):
        return slope * ahead + intercept, window.count >= 2


def _regression(window: Window, origin: Times) -> Regression:
    """Least squares: slope per second, and the value at the origin (ms, one per step)."""
    if not is_long(window, line=True):
        return _fit_tiles(window, origin)
    slope, intercept, doubtful = regressions(window, origin)
    recomputed = np.flatnonzero(doubtful & (window.count >= 2))
    if len(recomputed):
        slope[recomputed], intercept[recomputed] = _fit_tiles(
            window.select_steps(recomputed), origin[recomputed]
        )
    return slope, intercept


def _fit_tiles(window: Window, origin: Times) -> Regression:
    slope, intercept = np.full(len(window.low), np.nan), np.full(len(window.low), np.nan)
    for tile in tiles(window):
        slope[tile.steps], intercept[tile.steps] = _fit(window, tile, origin[tile.steps])
    return slope, intercept


def _fit(window: Window, tile: Tile, origin: Times) -> Regression:
    """Prometheus' linearRegression relative to the origin; constant values give slope 0 exactly."""
    y, n = window.values[tile.indices], tile.count
    with np.errstate(all="ignore"):
        x = np.where(tile.inside, (window.times[tile.indices] - origin) / 1e3, 0.0)
        level = (np.where(tile.inside, y, y[0]) == y[0]).all(axis=0)
        data = np.where(tile.inside, y, 0.0)
        sum_x, sum_y, sum_xy, sum_x2 = (total(terms) for terms in (x, data, x * data, x * x))
        slope = (sum_xy - sum_x * sum_y / n) / (sum_x2 - sum_x * sum_x / n)
        intercept = sum_y / n - slope * sum_x / n
        zero = np.where(np.isinf(y[0]), np.nan, 0.0)
        return np.where(level, zero, slope), np.where(level, y[0] + zero, intercept)
