"""histogram_quantile and histogram_fraction over classic buckets (series with a label `le`)."""

import math
import re
from collections.abc import Callable, Iterator

import numpy as np

from meterd.promql.budget import Budget
from meterd.promql.instant_vector import (
    NAME,
    InstantVector,
    Labels,
    Mask,
    drop_labels,
    label_value,
    merge_rows,
)
from meterd.promql.source import Values

_BUCKET_LABELS = frozenset(("le", NAME))
_NUMBER = re.compile(
    r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|inf|infinity|nan)", re.IGNORECASE
)
_TOLERANCE = 1e-12  # relative: smaller decreases between buckets are rounding errors
_DOCS_URL = "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile"

# (bounds: b, cumulative counts: b x columns, step indices of the columns) -> a value per column
Fold = Callable[[Values, Values, np.ndarray], Values]


def quantile(vector: InstantVector, ranks: Values, budget: Budget) -> InstantVector:
    def fold(bounds: Values, counts: Values, steps: np.ndarray) -> Values:
        return _quantile(bounds, counts, ranks[steps])

    return _per_group(vector, fold, budget)


def fraction(vector: InstantVector, lower: Values, upper: Values, budget: Budget) -> InstantVector:
    """histogram_fraction: the share of observations between two bounds."""

    def fold(bounds: Values, counts: Values, steps: np.ndarray) -> Values:
        return _fraction(bounds, counts, lower[steps], upper[steps])

    return _per_group(vector, fold, budget)


def _per_group(vector: InstantVector, fold: Fold, budget: Budget) -> InstantVector:
    groups = _group_buckets(vector, budget)
    shape = (len(groups), vector.values.shape[1])
    values, present = np.full(shape, np.nan), np.zeros(shape, dtype=np.bool_)
    for group, buckets in enumerate(groups.values()):
        budget.check_deadline()
        rows = [row for _, row in sorted(buckets)]
        bounds = np.array([bound for bound, _ in sorted(buckets)])
        present[group] = vector.present[rows].any(axis=0)
        for bucket_present, steps in _steps_by_presence(vector.present[rows]):
            data = vector.values[rows][bucket_present][:, steps]
            edges, counts = _merge_buckets(bounds[bucket_present], data)
            if math.isinf(edges[-1]):
                counts, fell = _monotonic(counts)
                _note_repair(budget, fell, label_value(vector.labels[rows[0]], NAME))
            values[group, steps] = fold(edges, counts, steps)
    return merge_rows(list(groups), values, present)


def _steps_by_presence(present: Mask) -> Iterator[tuple[Mask, np.ndarray]]:
    """Groups steps by which rows are present: each group is computed at once."""
    patterns, pattern_index = np.unique(present, axis=1, return_inverse=True)
    for pattern in range(patterns.shape[1]):
        if patterns[:, pattern].any():
            yield patterns[:, pattern], np.flatnonzero(pattern_index.ravel() == pattern)


def _group_buckets(vector: InstantVector, budget: Budget) -> dict[Labels, list[tuple[float, int]]]:
    groups: dict[Labels, list[tuple[float, int]]] = {}
    for row, labels in enumerate(vector.labels):
        bound = label_value(labels, "le")
        if not _NUMBER.fullmatch(bound):
            message = f'bucket label "le" is missing or has a malformed value of "{bound}"'
            name = label_value(labels, NAME)
            budget.warn(message + (f' for metric name "{name}"' if name else ""))
            continue
        groups.setdefault(drop_labels(labels, _BUCKET_LABELS), []).append((float(bound), row))
    return groups


def _note_repair(budget: Budget, repaired: bool, name: str) -> None:
    if repaired:
        message = "input to histogram_quantile needed to be fixed for monotonicity"
        budget.inform(f'{message} (see {_DOCS_URL}) for metric name "{name}"')


def _merge_buckets(bounds: Values, counts: Values) -> tuple[Values, Values]:
    """Adds up buckets whose `le` is the same number, such as 1 and 1.0."""
    edges, first = np.unique(bounds, return_index=True)
    if len(edges) == len(bounds):
        return bounds, counts
    return edges, np.add.reduceat(counts, first, axis=0)


def _monotonic(counts: Values) -> tuple[Values, bool]:
    """Counts made monotonic over the buckets, and whether one fell by more than rounding."""
    repaired_counts = counts.copy()
    highest, repaired = counts[0], False
    for row in range(1, len(counts)):
        current = counts[row]
        with np.errstate(all="ignore"):
            scale = np.abs(current) + np.abs(highest)
            rounding = np.abs(current - highest) < _TOLERANCE * np.minimum(
                scale, np.finfo(float).max
            )
        lower = (current < highest) & ~rounding
        repaired = repaired or bool(lower.any())
        repaired_counts[row] = highest = np.where(rounding | lower, highest, current)
    return repaired_counts, repaired


def _quantile(bounds: Values, counts: Values, ranks: Values) -> Values:
    """The quantiles as in Prometheus: interpolated in the bucket of the rank, NaN without +Inf."""
    values = np.full(len(ranks), np.nan)
    if not (math.isinf(bounds[-1]) and bounds[-1] > 0) or len(bounds) < 2:
        pass
    else:
        values = _interpolate(bounds, counts, ranks)
    values = np.where(ranks < 0, -np.inf, np.where(ranks > 1, np.inf, values))
    return np.where(np.isnan(ranks), np.nan, values)


def _interpolate(bounds: Values, counts: Values, ranks: Values) -> Values:
    columns = np.arange(len(ranks))
    rank = ranks * counts[-1]
    reached = counts[:-1] >= rank
    bucket = np.where(reached.any(axis=0), reached.argmax(axis=0), len(bounds) - 1)
    previous = np.maximum(bucket - 1, 0)
    first = bucket == 0
    start = np.where(first, 0.0, bounds[previous])
    below = np.where(first, 0.0, counts[previous, columns])
    with np.errstate(all="ignore"):
        fraction = (rank - below) / (counts[bucket, columns] - below)
        values = start + (bounds[bucket] - start) * fraction
    values = np.where(first & (bounds[0] <= 0), bounds[0], values)
    values = np.where(bucket == len(bounds) - 1, bounds[-2], values)
    return np.where(counts[-1] == 0, np.nan, values)


def _fraction(bounds: Values, counts: Values, lower: Values, upper: Values) -> Values:
    if not (math.isinf(bounds[-1]) and bounds[-1] > 0):
        return np.full(len(lower), np.nan)
    fractions = [
        (
            _count_below(bounds, counts[:, column], high)
            - _count_below(bounds, counts[:, column], low)
        )
        / counts[-1, column]
        if counts[-1, column] and high > low
        else (0.0 if counts[-1, column] else math.nan)
        for column, (low, high) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True))
    ]
    undefined = np.isnan(lower) | np.isnan(upper)
    return np.where(undefined, np.nan, np.array(fractions, dtype=np.float64))


def _count_below(bounds: Values, counts: Values, value: float) -> float:
    """The number of observations below a value, linearly interpolated in its bucket."""
    if math.isnan(value):
        return math.nan
    bucket = int(np.searchsorted(bounds, value, side="left"))
    if bucket >= len(bounds) - 1:
        return float(counts[-1] if math.isinf(value) else counts[-2] if len(counts) > 1 else 0.0)
    if not bucket and bounds[0] <= 0:  # from -Inf: nothing to interpolate
        return float(counts[0]) if math.isfinite(value) else 0.0
    lower = bounds[bucket - 1] if bucket else 0.0
    below = counts[bucket - 1] if bucket else 0.0
    if value <= lower or bounds[bucket] == lower:
        return float(below if value <= lower else counts[bucket])
    return float(below + (counts[bucket] - below) * (value - lower) / (bounds[bucket] - lower))
