"""The _over_time family: what one can say about the samples of a window."""

import math
from collections.abc import Callable

import numpy as np

from meterd.promql.instant_vector import Mask
from meterd.promql.prefix_sums import Quick, long, means, sums, variances
from meterd.promql.result import PromErrorType, QueryError
from meterd.promql.source import Values
from meterd.promql.stats import mean, quantiles, total, variance
from meterd.promql.window import Tile, Window, reduced, tiles

Answer = tuple[Values, Mask]
# Gets a tile and its values (0 in the padding), answers one value a column.
Fold = Callable[[Tile, Values], Values]

FEW = 16  # windows side by side below which numpy costs more than it saves


def _by_tile(shown: Window, fold: Fold) -> Answer:
    out = np.full(len(shown.low), np.nan)
    for tile in tiles(shown):
        data = np.where(tile.inside, shown.values[tile.places], 0.0)
        with np.errstate(all="ignore"):
            out[tile.steps] = fold(tile, data)
    return out, shown.count > 0


def sum_(shown: Window) -> Answer:
    return _quickly(shown, sums, lambda _, data: total(data))


def avg(shown: Window) -> Answer:
    return _quickly(shown, means, lambda tile, data: mean(data, tile.inside, tile.count))


def stdvar(shown: Window) -> Answer:
    return _quickly(shown, variances, lambda tile, data: variance(data, tile.inside, tile.count))


def stddev(shown: Window) -> Answer:
    spread, here = stdvar(shown)
    with np.errstate(all="ignore"):
        return np.sqrt(spread), here


def _quickly(shown: Window, quick: Callable[[Window], Quick], fold: Fold) -> Answer:
    """Long windows from prefix sums, but for those that these cannot tell well enough."""
    if not long(shown):
        return _by_tile(shown, fold)
    values, doubtful = quick(shown)
    here = shown.count > 0
    again = np.flatnonzero(doubtful & here)
    if len(again):
        values[again] = _by_tile(shown.only(again), fold)[0]
    return values, here


def min_(shown: Window) -> Answer:
    return reduced(shown, np.fmin, shown.values), shown.count > 0


def max_(shown: Window) -> Answer:
    return reduced(shown, np.fmax, shown.values), shown.count > 0


def count(shown: Window) -> Answer:
    return shown.count.astype(np.float64), shown.count > 0


def present(shown: Window) -> Answer:
    return np.ones(len(shown.low)), shown.count > 0


def last(shown: Window) -> Answer:
    return _pick(shown, shown.values, shown.high - 1)


def first(shown: Window) -> Answer:
    return _pick(shown, shown.values, shown.low)


def ts_of_last(shown: Window) -> Answer:
    return _pick(shown, shown.times / 1000, shown.high - 1)


def ts_of_first(shown: Window) -> Answer:
    return _pick(shown, shown.times / 1000, shown.low)


def _pick(shown: Window, data: Values, places: np.ndarray) -> Answer:
    if not len(data):
        return np.full(len(places), np.nan), shown.count > 0
    return np.take(data, places, mode="clip"), shown.count > 0


def ts_of_min(shown: Window) -> Answer:
    return _when(shown, reduced(shown, np.fmin, shown.values))


def ts_of_max(shown: Window) -> Answer:
    return _when(shown, reduced(shown, np.fmax, shown.values))


def _when(shown: Window, best: Values) -> Answer:
    """The time (s) of the last sample that is the best one; the last of all if all are NaN."""
    lost = np.isnan(best)

    def place(tile: Tile, data: Values) -> Values:
        hit = tile.inside & ((data == best[tile.steps]) | lost[tile.steps])
        depth = len(hit) - 1 - hit[::-1].argmax(axis=0)
        at = tile.places[depth, np.arange(hit.shape[1])]
        return np.asarray(shown.times[at] / 1000)

    return _by_tile(shown, place)


def changes(shown: Window) -> Answer:
    before, after = shown.values[:-1], shown.values[1:]
    return _events(shown, (before != after) & ~(np.isnan(before) & np.isnan(after)))


def resets(shown: Window) -> Answer:
    return _events(shown, shown.values[1:] < shown.values[:-1])


def _events(shown: Window, between: Mask) -> Answer:
    """How many neighbours within a window are marked; between[i] is about samples i and i + 1."""
    total = np.concatenate(([0], np.cumsum(between)))
    top = len(total) - 1
    found = total[np.clip(shown.high - 1, 0, top)] - total[np.clip(shown.low, 0, top)]
    return np.where(shown.count > 0, found, 0).astype(np.float64), shown.count > 0


def quantile(shown: Window, wanted: Values) -> Answer:
    return _by_tile(
        shown, lambda tile, data: quantiles(data, tile.inside, tile.count, wanted[tile.steps])
    )


def mad(shown: Window) -> Answer:
    """The median of the distances to the median."""

    def fold(tile: Tile, data: Values) -> Values:
        half = np.full(data.shape[1], 0.5)
        middle = quantiles(data, tile.inside, tile.count, half)
        return quantiles(np.abs(data - middle), tile.inside, tile.count, half)

    return _by_tile(shown, fold)


def smoothed(shown: Window, level: Values, trend: Values) -> Answer:
    """Holt's double exponential smoothing; factors are constants between 0 and 1, both excluded.

    Raises QueryError (execution) for other factors.
    """
    here = shown.count >= 2
    for what, factor in (("smoothing", level), ("trend", trend)):
        bad = ((factor <= 0) | (factor >= 1)) & (shown.count > 0)
        if bad.any():
            wanted = f"0 < {what[0]}f < 1, got: {factor[bad][0]:f}"
            raise QueryError(PromErrorType.EXECUTION, f"invalid {what} factor. Expected: {wanted}")
    out = np.full(len(here), np.nan)
    for tile in tiles(shown):
        smooth = _smooth if len(tile.count) > FEW else _smooth_each
        out[tile.steps] = smooth(tile, shown.values, level[tile.steps], trend[tile.steps])
    return out, here


def _smooth_each(tile: Tile, values: Values, level: Values, trend: Values) -> Values:
    """Few long windows go faster one by one."""
    ends = [
        _smooth_one(values[tile.places[:n, k]].tolist(), float(level[k]), float(trend[k]))
        for k, n in enumerate(tile.count.tolist())
    ]
    return np.array(ends)


def _smooth_one(data: list[float], level: float, trend: float) -> float:
    if len(data) < 2:
        return math.nan
    prior, now, slope = 0.0, data[0], data[1] - data[0]
    for row, value in enumerate(data[1:]):
        slope = slope if row == 0 else trend * (now - prior) + (1 - trend) * slope
        prior, now = now, level * value + (1 - level) * (now + slope)
    return now


def _smooth(tile: Tile, values: Values, level: Values, trend: Values) -> Values:
    data = values[tile.places]
    if len(data) < 2:
        return np.full(data.shape[1], np.nan)
    with np.errstate(all="ignore"):
        prior, now, slope = np.zeros_like(data[0]), data[0], data[1] - data[0]
        for row in range(1, len(data)):
            bent = slope if row == 1 else trend * (now - prior) + (1 - trend) * slope
            ahead = level * data[row] + (1 - level) * (now + bent)
            inside = tile.inside[row]
            slope = np.where(inside, bent, slope)
            prior, now = np.where(inside, now, prior), np.where(inside, ahead, now)
    return np.asarray(now)
