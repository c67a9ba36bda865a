"""rate, increase, delta and their kin: what a window rose by, stretched to the whole range."""

import numpy as np

from meterd.promql.instant_vector import Mask
from meterd.promql.prefix_sums import lines, long
from meterd.promql.source import Times, Values
from meterd.promql.stats import total
from meterd.promql.window import Tile, Window, tiles

Answer = tuple[Values, Mask]
Line = tuple[Values, Values]  # slopes, and values where they were asked for


def rate(shown: Window) -> Answer:
    return _extrapolated(shown, counter=True, per=(shown.ends - shown.starts) / 1000)


def increase(shown: Window) -> Answer:
    return _extrapolated(shown, counter=True)


def delta(shown: Window) -> Answer:
    return _extrapolated(shown, counter=False)


def _at(shown: Window, places: np.ndarray) -> tuple[Values, np.ndarray]:
    """Values and times (ms) at places; any there is for a place that is none."""
    times = np.take(shown.times, places, mode="clip")
    return np.take(shown.values, places, mode="clip"), times


def _extrapolated(shown: Window, *, counter: bool, per: Values | float = 1.0) -> Answer:
    """Last minus first, plus what resets swallowed, times (range reached / time sampled) / per.

    To each edge of the range the line is drawn on if the gap is below 1.1 usual distances, else
    by half a distance; a counter is never drawn on to below zero.
    """
    here = shown.count >= 2
    if not here.any():
        return np.zeros(len(here)), here
    first, first_at = _at(shown, shown.low)
    last, last_at = _at(shown, shown.high - 1)
    with np.errstate(all="ignore"):
        rise = last - first
        if counter:
            swallowed = _swallowed(shown)
            rise = np.where(swallowed == 0, rise, rise + swallowed)  # -0 + 0 would be 0
        sampled = (last_at - first_at) / 1000
        usual = sampled / (shown.count - 1)
        before = (first_at - shown.starts) / 1000
        after = (shown.ends - last_at) / 1000
        before = np.where(before >= usual * 1.1, usual / 2, before)
        after = np.where(after >= usual * 1.1, usual / 2, after)
        if counter:
            to_zero = sampled * (first / rise)
            before = np.where((rise > 0) & (first >= 0) & (to_zero < before), to_zero, before)
        return rise * ((sampled + before + after) / sampled / per), here


def _swallowed(shown: Window) -> Values:
    """The sum of the values that a counter had just before it fell, within each window."""
    values = shown.values
    drops = np.flatnonzero(values[1:] < values[:-1]) + 1
    if not len(drops):
        return np.zeros(len(shown.low))
    low = np.searchsorted(drops, shown.low + 1)
    high = np.searchsorted(drops, shown.high)
    pairs = np.empty(2 * len(low), dtype=np.intp)
    pairs[0::2], pairs[1::2] = low, np.maximum(high, low)
    tops = np.append(values[drops - 1], 0.0)
    return np.where(high > low, np.add.reduceat(tops, pairs)[::2], 0.0)


def irate(shown: Window) -> Answer:
    return _last_two(shown, counter=True)


def idelta(shown: Window) -> Answer:
    return _last_two(shown, counter=False)


def _last_two(shown: Window, *, counter: bool) -> Answer:
    here = shown.count >= 2
    if not here.any():
        return np.zeros(len(here)), here
    last, last_at = _at(shown, shown.high - 1)
    prior, prior_at = _at(shown, shown.high - 2)
    with np.errstate(all="ignore"):
        rise = last - prior
        if not counter:
            return rise, here
        rise = np.where(last < prior, last, rise)
        return rise / ((last_at - prior_at) / 1000), here


def deriv(shown: Window) -> Answer:
    here = shown.count >= 2
    if not here.any():
        return np.zeros(len(here)), here
    slope, _ = _line(shown, np.take(shown.times, shown.low, mode="clip"))
    return slope, here


def predict_linear(shown: Window, ahead: Values) -> Answer:
    slope, there = _line(shown, shown.at)
    with np.errstate(all="ignore"):
        return slope * ahead + there, shown.count >= 2


def _line(shown: Window, origin: Times) -> Line:
    """Least squares: slope a second, and the value at the origin (ms, one a step)."""
    if not long(shown, line=True):
        return _fitted(shown, origin)
    slope, there, doubtful = lines(shown, origin)
    again = np.flatnonzero(doubtful & (shown.count >= 2))
    if len(again):
        slope[again], there[again] = _fitted(shown.only(again), origin[again])
    return slope, there


def _fitted(shown: Window, origin: Times) -> Line:
    slope, there = np.full(len(shown.low), np.nan), np.full(len(shown.low), np.nan)
    for tile in tiles(shown):
        slope[tile.steps], there[tile.steps] = _fit(shown, tile, origin[tile.steps])
    return slope, there


def _fit(shown: Window, tile: Tile, origin: Times) -> Line:
    """Sums with the origin as zero; a level line is level to the last digit."""
    y, n = shown.values[tile.places], tile.count
    with np.errstate(all="ignore"):
        x = np.where(tile.inside, (shown.times[tile.places] - origin) / 1e3, 0.0)
        level = (np.where(tile.inside, y, y[0]) == y[0]).all(axis=0)
        data = np.where(tile.inside, y, 0.0)
        sum_x, sum_y, sum_xy, sum_x2 = (total(each) for each in (x, data, x * data, x * x))
        rise = (sum_xy - sum_x * sum_y / n) / (sum_x2 - sum_x * sum_x / n)
        base = sum_y / n - rise * sum_x / n
        flat = np.where(np.isinf(y[0]), np.nan, 0.0)
        return np.where(level, flat, rise), np.where(level, y[0] + flat, base)
