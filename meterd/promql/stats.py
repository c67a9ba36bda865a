"""Sums, means, spreads and quantiles down the columns of an array, with Prometheus' roundings.

Everywhere `inside` tells what counts, `count` how much that is a column, and data is 0 elsewhere.
"""

import numpy as np
from numpy.typing import NDArray

from meterd.promql.instant_vector import Mask
from meterd.promql.source import Values

Counts = NDArray[np.intp]


def neumaier(rows: Values) -> tuple[Values, Values]:
    """Sums down the rows with their compensation, rounding for rounding as Prometheus does.

    The plain running sums are what cumsum gives; what each addition lost follows from them, and
    the losses are summed in the same order. Where a sum is not finite the compensation is 0.
    """
    if not len(rows):
        return np.zeros(rows.shape[1:]), np.zeros(rows.shape[1:])
    with np.errstate(all="ignore"):
        sums = np.cumsum(rows, axis=0)
        before, after, added = sums[:-1], sums[1:], rows[1:]
        larger = np.abs(before) >= np.abs(added)
        lost = np.where(larger, (before - after) + added, (added - after) + before)
        loss = np.cumsum(lost, axis=0)[-1] if len(lost) else np.zeros_like(sums[-1])
    return sums[-1], np.where(np.isfinite(sums[-1]), loss, 0.0)


def total(rows: Values) -> Values:
    sums, loss = neumaier(rows)
    return np.asarray(sums + loss)


def mean(rows: Values, inside: Mask, count: Counts) -> Values:
    """A sum that overflows is taken again from values already divided."""
    with np.errstate(all="ignore"):
        sums, loss = neumaier(rows)
        means = np.asarray(sums / count + loss / count)
        over = ~np.isfinite(sums)
        if over.any():
            parts = np.where(inside, rows / count, 0.0)[:, over]
            means[over] = parts.sum(axis=0)
    return means


def variance(data: Values, inside: Mask, count: Counts) -> Values:
    """Of the whole population; NaN where a value is not finite."""
    with np.errstate(all="ignore"):
        apart = np.where(inside, data - mean(data, inside, count), 0.0)
        spread = total(apart * apart) / count
    return np.where(np.isfinite(data).all(axis=0), spread, np.nan)


def quantiles(data: Values, inside: Mask, count: Counts, wanted: Values) -> Values:
    """NaN is the least of all values; wanted is one a column.

    Below 0 is -Inf, above 1 +Inf, and NaN of none or for NaN.
    """
    lost = (np.isnan(data) & inside).sum(axis=0)
    ordered = np.where(np.isnan(data), -np.inf, data)
    ordered = np.sort(np.where(inside, ordered, np.inf), axis=0)
    rank = np.where(np.isnan(wanted), 0.0, np.clip(wanted, 0, 1)) * (np.maximum(count, 1) - 1)
    lower = np.floor(rank).astype(np.intp)
    upper = np.minimum(lower + 1, np.maximum(count, 1) - 1)
    columns = np.arange(data.shape[1])
    weight = rank - lower
    below = np.where(lower < lost, np.nan, ordered[lower, columns])
    above = np.where(upper < lost, np.nan, ordered[upper, columns])
    with np.errstate(all="ignore"):
        out = below * (1 - weight) + above * weight
    out = np.where(wanted < 0, -np.inf, np.where(wanted > 1, np.inf, out))
    return np.where(np.isnan(wanted) | (count == 0), np.nan, out)
