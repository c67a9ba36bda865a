"""histogram_quantile and histogram_fraction over classic buckets (series with a label le)."""

import math
import re
from collections.abc import Callable, Iterator

import numpy as np

from meterd.promql.budget import Budget
from meterd.promql.instant_vector import NAME, InstantVector, Labels, Mask, get, left_out, united
from meterd.promql.source import Values

_DROPPED = frozenset(("le", NAME))
_NUMBER = re.compile(
    r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|inf|infinity|nan)", re.IGNORECASE
)
_TOLERANCE = 1e-12  # differences below it are roundings, not counts that fall
_SEE = "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile"

# bounds (b), counts (b x columns), the columns' steps -> one value a column
Fold = Callable[[Values, Values, np.ndarray], Values]


def quantile(frame: InstantVector, wanted: Values, budget: Budget) -> InstantVector:
    def fold(bounds: Values, counts: Values, steps: np.ndarray) -> Values:
        return _quantile(bounds, counts, wanted[steps])

    return _folded(frame, fold, budget)


def fraction(frame: InstantVector, lower: Values, upper: Values, budget: Budget) -> InstantVector:
    """The share of observations between two bounds."""

    def fold(bounds: Values, counts: Values, steps: np.ndarray) -> Values:
        return _fraction(bounds, counts, lower[steps], upper[steps])

    return _folded(frame, fold, budget)


def _folded(frame: InstantVector, fold: Fold, budget: Budget) -> InstantVector:
    groups = _grouped(frame, budget)
    shape = (len(groups), frame.values.shape[1])
    values, here = np.full(shape, np.nan), np.zeros(shape, dtype=np.bool_)
    for place, buckets in enumerate(groups.values()):
        budget.pulse()
        rows = [row for _, row in sorted(buckets)]
        bounds = np.array([bound for bound, _ in sorted(buckets)])
        here[place] = frame.here[rows].any(axis=0)
        for present, steps in _alike(frame.here[rows]):
            data = frame.values[rows][present][:, steps]
            edges, counts = _merged(bounds[present], data)
            if math.isinf(edges[-1]):
                counts, fell = _monotonic(counts)
                _tell(budget, fell, get(frame.labels[rows[0]], NAME))
            values[place, steps] = fold(edges, counts, steps)
    return united(list(groups), values, here)


def _alike(here: Mask) -> Iterator[tuple[Mask, np.ndarray]]:
    """Steps at which the same rows are there, which are one calculation."""
    kinds, which = np.unique(here, axis=1, return_inverse=True)
    for kind in range(kinds.shape[1]):
        if kinds[:, kind].any():
            yield kinds[:, kind], np.flatnonzero(which.ravel() == kind)


def _grouped(frame: InstantVector, budget: Budget) -> dict[Labels, list[tuple[float, int]]]:
    groups: dict[Labels, list[tuple[float, int]]] = {}
    for row, labels in enumerate(frame.labels):
        bound = get(labels, "le")
        if not _NUMBER.fullmatch(bound):
            what = f'bucket label "le" is missing or has a malformed value of "{bound}"'
            named = get(labels, NAME)
            budget.warn(what + (f' for metric name "{named}"' if named else ""))
            continue
        groups.setdefault(left_out(labels, _DROPPED), []).append((float(bound), row))
    return groups


def _tell(budget: Budget, fell: bool, name: str) -> None:
    if fell:
        what = "input to histogram_quantile needed to be fixed for monotonicity"
        budget.inform(f'{what} (see {_SEE}) for metric name "{name}"')


def _merged(bounds: Values, counts: Values) -> tuple[Values, Values]:
    """Buckets spelled in two ways (1 and 1.0) are one."""
    edges, first = np.unique(bounds, return_index=True)
    if len(edges) == len(bounds):
        return bounds, counts
    return edges, np.add.reduceat(counts, first, axis=0)


def _monotonic(counts: Values) -> tuple[Values, bool]:
    """Counts that never fall from bucket to bucket, and whether one fell by more than rounding."""
    out = counts.copy()
    highest, fell = counts[0], False
    for row in range(1, len(counts)):
        now = counts[row]
        with np.errstate(all="ignore"):
            scale = np.abs(now) + np.abs(highest)
            near = np.abs(now - highest) < _TOLERANCE * np.minimum(scale, np.finfo(float).max)
        lower = (now < highest) & ~near
        fell = fell or bool(lower.any())
        out[row] = highest = np.where(near | lower, highest, now)
    return out, fell


def _quantile(bounds: Values, counts: Values, wanted: Values) -> Values:
    """Linear within the bucket that holds the rank."""
    out = np.full(len(wanted), np.nan)
    if not (math.isinf(bounds[-1]) and bounds[-1] > 0) or len(bounds) < 2:
        pass
    else:
        out = _ranked(bounds, counts, wanted)
    out = np.where(wanted < 0, -np.inf, np.where(wanted > 1, np.inf, out))
    return np.where(np.isnan(wanted), np.nan, out)


def _ranked(bounds: Values, counts: Values, wanted: Values) -> Values:
    columns = np.arange(len(wanted))
    rank = wanted * counts[-1]
    reached = counts[:-1] >= rank
    bucket = np.where(reached.any(axis=0), reached.argmax(axis=0), len(bounds) - 1)
    under = np.maximum(bucket - 1, 0)
    first = bucket == 0
    start = np.where(first, 0.0, bounds[under])
    below = np.where(first, 0.0, counts[under, columns])
    with np.errstate(all="ignore"):
        share = (rank - below) / (counts[bucket, columns] - below)
        out = start + (bounds[bucket] - start) * share
    out = np.where(first & (bounds[0] <= 0), bounds[0], out)
    out = np.where(bucket == len(bounds) - 1, bounds[-2], out)
    return np.where(counts[-1] == 0, np.nan, out)


def _fraction(bounds: Values, counts: Values, lower: Values, upper: Values) -> Values:
    if not (math.isinf(bounds[-1]) and bounds[-1] > 0):
        return np.full(len(lower), np.nan)
    share = [
        (_below(bounds, counts[:, column], high) - _below(bounds, counts[:, column], low))
        / counts[-1, column]
        if counts[-1, column] and high > low
        else (0.0 if counts[-1, column] else math.nan)
        for column, (low, high) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True))
    ]
    bad = np.isnan(lower) | np.isnan(upper)
    return np.where(bad, np.nan, np.array(share, dtype=np.float64))


def _below(bounds: Values, counts: Values, value: float) -> float:
    """How many observations lie below a value, linear within its bucket."""
    if math.isnan(value):
        return math.nan
    place = int(np.searchsorted(bounds, value, side="left"))
    if place >= len(bounds) - 1:
        return float(counts[-1] if math.isinf(value) else counts[-2] if len(counts) > 1 else 0.0)
    if not place and bounds[0] <= 0:  # it reaches down to -Inf: nothing to draw a line through
        return float(counts[0]) if math.isfinite(value) else 0.0
    low = bounds[place - 1] if place else 0.0
    held = counts[place - 1] if place else 0.0
    if value <= low or bounds[place] == low:
        return float(held if value <= low else counts[place])
    return float(held + (counts[place] - held) * (value - low) / (bounds[place] - low))
