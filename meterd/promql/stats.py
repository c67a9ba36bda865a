"""Sums, means, variances and quantiles of an array's columns, rounded exactly as in Prometheus.

`inside` masks the values that count, `count` is their number per column; data is 0 elsewhere.
"""

import numpy as np
from numpy.typing import NDArray

from meterd.promql.instant_vector import Mask
from meterd.promql.source import Values

Counts = NDArray[np.intp]


def neumaier(rows: Values) -> tuple[Values, Values]:
    """Kahan-Neumaier sums of the columns and their compensation, bit for bit as in Prometheus.

    cumsum gives the plain running sums; the rounding error of each addition follows from them,
    and the errors are summed in the same order. Where a sum is not finite the compensation is 0.
    """
    if not len(rows):
        return np.zeros(rows.shape[1:]), np.zeros(rows.shape[1:])
    with np.errstate(all="ignore"):
        sums = np.cumsum(rows, axis=0)
        before, after, added = sums[:-1], sums[1:], rows[1:]
        larger = np.abs(before) >= np.abs(added)
        losses = np.where(larger, (before - after) + added, (added - after) + before)
        compensation = np.cumsum(losses, axis=0)[-1] if len(losses) else np.zeros_like(sums[-1])
    return sums[-1], np.where(np.isfinite(sums[-1]), compensation, 0.0)


def total(rows: Values) -> Values:
    sums, compensation = neumaier(rows)
    return np.asarray(sums + compensation)


def mean(rows: Values, inside: Mask, count: Counts) -> Values:
    """Means of the columns; where the sum overflows, the sum of the values divided by the count."""
    with np.errstate(all="ignore"):
        sums, compensation = neumaier(rows)
        means = np.asarray(sums / count + compensation / count)
        overflowed = ~np.isfinite(sums)
        if overflowed.any():
            parts = np.where(inside, rows / count, 0.0)[:, overflowed]
            means[overflowed] = parts.sum(axis=0)
    return means


def variance(data: Values, inside: Mask, count: Counts) -> Values:
    """Population variances of the columns; NaN where a value is not finite."""
    with np.errstate(all="ignore"):
        deviations = np.where(inside, data - mean(data, inside, count), 0.0)
        variances = total(deviations * deviations) / count
    return np.where(np.isfinite(data).all(axis=0), variances, np.nan)


def quantiles(data: Values, inside: Mask, count: Counts, ranks: Values) -> Values:
    """The quantile `ranks[column]` of each column, linearly interpolated; NaN sorts first.

    A rank below 0 gives -Inf, above 1 +Inf; NaN for a NaN rank or an empty column.
    """
    nan_counts = (np.isnan(data) & inside).sum(axis=0)
    ordered = np.where(np.isnan(data), -np.inf, data)
    ordered = np.sort(np.where(inside, ordered, np.inf), axis=0)
    positions = np.where(np.isnan(ranks), 0.0, np.clip(ranks, 0, 1)) * (np.maximum(count, 1) - 1)
    lower = np.floor(positions).astype(np.intp)
    upper = np.minimum(lower + 1, np.maximum(count, 1) - 1)
    columns = np.arange(data.shape[1])
    weight = positions - lower
    below = np.where(lower < nan_counts, np.nan, ordered[lower, columns])
    above = np.where(upper < nan_counts, np.nan, ordered[upper, columns])
    with np.errstate(all="ignore"):
        values = below * (1 - weight) + above * weight
    values = np.where(ranks < 0, -np.inf, np.where(ranks > 1, np.inf, values))
    return np.where(np.isnan(ranks) | (count == 0), np.nan, values)
