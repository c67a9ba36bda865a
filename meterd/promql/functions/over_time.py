"""The *_over_time functions, changes, resets and double exponential smoothing over windows."""

import math
from collections.abc import Callable

import numpy as np

from meterd.promql.instant_vector import Mask
from meterd.promql.prefix_sums import CheckedValues, is_long, means, sums, variances
from meterd.promql.result import PromErrorType, QueryError
from meterd.promql.source import Values
from meterd.promql.stats import mean, quantiles, total, variance
from meterd.promql.window import Tile, Window, reduce_windows, tiles

WindowValues = tuple[Values, Mask]
# (tile, its values with 0 in the padding) -> one value per column
Fold = Callable[[Tile, Values], Values]

MIN_VECTORISED = 16  # windows side by side: below it numpy's overhead is larger than its gain


def _by_tile(window: Window, fold: Fold) -> WindowValues:
    values = np.full(len(window.low), np.nan)
    for tile in tiles(window):
        data = np.where(tile.inside, window.values[tile.indices], 0.0)
        with np.errstate(all="ignore"):
            values[tile.steps] = fold(tile, data)
    return values, window.count > 0


def sum_(window: Window) -> WindowValues:
    return _from_prefix_sums(window, sums, lambda _, data: total(data))


def avg(window: Window) -> WindowValues:
    return _from_prefix_sums(window, means, lambda tile, data: mean(data, tile.inside, tile.count))


def stdvar(window: Window) -> WindowValues:
    return _from_prefix_sums(
        window, variances, lambda tile, data: variance(data, tile.inside, tile.count)
    )


def stddev(window: Window) -> WindowValues:
    variances, present = stdvar(window)
    with np.errstate(all="ignore"):
        return np.sqrt(variances), present


def _from_prefix_sums(
    window: Window, fast: Callable[[Window], CheckedValues], fold: Fold
) -> WindowValues:
    """Long windows by prefix sums, short and doubtful ones directly by `fold`."""
    if not is_long(window):
        return _by_tile(window, fold)
    values, doubtful = fast(window)
    present = window.count > 0
    recomputed = np.flatnonzero(doubtful & present)
    if len(recomputed):
        values[recomputed] = _by_tile(window.select_steps(recomputed), fold)[0]
    return values, present


def min_(window: Window) -> WindowValues:
    return reduce_windows(window, np.fmin, window.values), window.count > 0


def max_(window: Window) -> WindowValues:
    return reduce_windows(window, np.fmax, window.values), window.count > 0


def count(window: Window) -> WindowValues:
    return window.count.astype(np.float64), window.count > 0


def present(window: Window) -> WindowValues:
    return np.ones(len(window.low)), window.count > 0


def last(window: Window) -> WindowValues:
    return _samples_at(window, window.values, window.high - 1)


def first(window: Window) -> WindowValues:
    return _samples_at(window, window.values, window.low)


def ts_of_last(window: Window) -> WindowValues:
    return _samples_at(window, window.times / 1000, window.high - 1)


def ts_of_first(window: Window) -> WindowValues:
    return _samples_at(window, window.times / 1000, window.low)


def _samples_at(window: Window, data: Values, indices: np.ndarray) -> WindowValues:
    if not len(data):
        return np.full(len(indices), np.nan), window.count > 0
    return np.take(data, indices, mode="clip"), window.count > 0


def ts_of_min(window: Window) -> WindowValues:
    return _time_of(window, reduce_windows(window, np.fmin, window.values))


def ts_of_max(window: Window) -> WindowValues:
    return _time_of(window, reduce_windows(window, np.fmax, window.values))


def _time_of(window: Window, extremes: Values) -> WindowValues:
    """The time (s) of the last sample with the extreme value; of the last sample if all are NaN."""
    all_nan = np.isnan(extremes)

    def last_match(tile: Tile, data: Values) -> Values:
        matches = tile.inside & ((data == extremes[tile.steps]) | all_nan[tile.steps])
        depth = len(matches) - 1 - matches[::-1].argmax(axis=0)
        indices = tile.indices[depth, np.arange(matches.shape[1])]
        return np.asarray(window.times[indices] / 1000)

    return _by_tile(window, last_match)


def changes(window: Window) -> WindowValues:
    before, after = window.values[:-1], window.values[1:]
    return _count_events(window, (before != after) & ~(np.isnan(before) & np.isnan(after)))


def resets(window: Window) -> WindowValues:
    return _count_events(window, window.values[1:] < window.values[:-1])


def _count_events(window: Window, events: Mask) -> WindowValues:
    """The number of events within each window; events[i] is between samples i and i + 1."""
    cumulative = np.concatenate(([0], np.cumsum(events)))
    last_index = len(cumulative) - 1
    counts = (
        cumulative[np.clip(window.high - 1, 0, last_index)]
        - cumulative[np.clip(window.low, 0, last_index)]
    )
    return np.where(window.count > 0, counts, 0).astype(np.float64), window.count > 0


def quantile(window: Window, ranks: Values) -> WindowValues:
    return _by_tile(
        window, lambda tile, data: quantiles(data, tile.inside, tile.count, ranks[tile.steps])
    )


def mad(window: Window) -> WindowValues:
    """mad_over_time: the median absolute deviation."""

    def fold(tile: Tile, data: Values) -> Values:
        ranks = np.full(data.shape[1], 0.5)
        medians = quantiles(data, tile.inside, tile.count, ranks)
        return quantiles(np.abs(data - medians), tile.inside, tile.count, ranks)

    return _by_tile(window, fold)


def double_exponential_smoothing(window: Window, level: Values, trend: Values) -> WindowValues:
    """Holt's double exponential smoothing; factors lie between 0 and 1, both excluded.

    Raises QueryError (execution) for other factors.
    """
    present = window.count >= 2
    for factor_name, factor in (("smoothing", level), ("trend", trend)):
        invalid = ((factor <= 0) | (factor >= 1)) & (window.count > 0)
        if invalid.any():
            expected = f"0 < {factor_name[0]}f < 1, got: {factor[invalid][0]:f}"
            raise QueryError(
                PromErrorType.EXECUTION, f"invalid {factor_name} factor. Expected: {expected}"
            )
    values = np.full(len(present), np.nan)
    for tile in tiles(window):
        smooth = _smooth if len(tile.count) > MIN_VECTORISED else _smooth_each
        values[tile.steps] = smooth(tile, window.values, level[tile.steps], trend[tile.steps])
    return values, present


def _smooth_each(tile: Tile, values: Values, level: Values, trend: Values) -> Values:
    """Smooths window by window, which is faster for few long windows."""
    smoothed = [
        _smooth_one(values[tile.indices[:n, k]].tolist(), float(level[k]), float(trend[k]))
        for k, n in enumerate(tile.count.tolist())
    ]
    return np.array(smoothed)


def _smooth_one(data: list[float], level: float, trend: float) -> float:
    if len(data) < 2:
        return math.nan
    prior, current, slope = 0.0, data[0], data[1] - data[0]
    for row, value in enumerate(data[1:]):
        slope = slope if row == 0 else trend * (current - prior) + (1 - trend) * slope
        prior, current = current, level * value + (1 - level) * (current + slope)
    return current


def _smooth(tile: Tile, values: Values, level: Values, trend: Values) -> Values:
    data = values[tile.indices]
    if len(data) < 2:
        return np.full(data.shape[1], np.nan)
    with np.errstate(all="ignore"):
        prior, current, slope = np.zeros_like(data[0]), data[0], data[1] - data[0]
        for row in range(1, len(data)):
            next_slope = slope if row == 1 else trend * (current - prior) + (1 - trend) * slope
            next_value = level * data[row] + (1 - level) * (current + next_slope)
            inside = tile.inside[row]
            slope = np.where(inside, next_slope, slope)
            prior, current = np.where(inside, current, prior), np.where(inside, next_value, current)
    return np.asarray(current)
