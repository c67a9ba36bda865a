"""Aggregations: rows that agree in the labels asked for become one, or the best few stay."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from meterd.promql.budget import Budget
from meterd.promql.encode import number
from meterd.promql.instant_vector import (
    NAME,
    InstantVector,
    Labels,
    Mask,
    empty,
    kept,
    left_out,
    pack,
)
from meterd.promql.nodes import Aggregate
from meterd.promql.result import PromErrorType, QueryError
from meterd.promql.source import Values
from meterd.promql.stats import mean, quantiles, total, variance

_INT64 = 2.0**63

Groups = dict[Labels, list[int]]
# values (0 where absent), where present, how many at each step -> one row
Fold = Callable[[Values, Mask, np.ndarray], Values]


def _best(pick: Callable[..., Values], values: Values, here: Mask) -> Values:
    return pick(np.where(here, values, np.nan), axis=0)


FOLDS: dict[str, Fold] = {
    "sum": lambda values, here, count: total(values),
    "avg": mean,
    "min": lambda values, here, count: _best(np.fmin.reduce, values, here),
    "max": lambda values, here, count: _best(np.fmax.reduce, values, here),
    "count": lambda values, here, count: count.astype(np.float64),
    "group": lambda values, here, count: np.ones(len(count)),
    "stdvar": variance,
    "stddev": lambda values, here, count: np.sqrt(variance(values, here, count)),
}


def groups(node: Aggregate, labels: Sequence[Labels]) -> Groups:
    """Rows by the labels that the aggregation keeps."""
    names = frozenset(node.labels) if node.by else frozenset((*node.labels, NAME))
    keep = kept if node.by else left_out
    found: Groups = {}
    for row, each in enumerate(labels):
        found.setdefault(keep(each, names), []).append(row)
    return found


def folded(frame: InstantVector, grouped: Groups, fold: Fold, budget: Budget) -> InstantVector:
    shape = (len(grouped), frame.values.shape[1])
    values, here = np.empty(shape), np.empty(shape, dtype=np.bool_)
    for place, rows in enumerate(grouped.values()):
        budget.pulse()
        present = frame.here[rows]
        here[place] = present.any(axis=0)
        data = np.where(present, frame.values[rows], 0.0)
        with np.errstate(all="ignore"):
            values[place] = fold(data, present, present.sum(axis=0))
    return InstantVector(list(grouped), values, here)


def quantile(wanted: Values, budget: Budget) -> Fold:
    check_quantile(wanted, budget)

    def fold(values: Values, here: Mask, count: np.ndarray) -> Values:
        return quantiles(values, here, count, wanted)

    return fold


def check_quantile(wanted: Values, budget: Budget) -> None:
    for value in np.unique(wanted[~((wanted >= 0) & (wanted <= 1))]).tolist()[:3]:
        budget.warn(f"quantile value should be between 0 and 1, got {number(value)}")


def top(frame: InstantVector, grouped: Groups, many: Values, *, largest: bool) -> InstantVector:
    """The `many` largest or smallest rows of each group at each step; numbers before NaN.

    At a single step they come in that order.
    """
    limit = _whole(many)
    here = np.zeros_like(frame.here)
    order: list[int] = []
    for rows in grouped.values():
        values, present = frame.values[rows], frame.here[rows]
        key = -values if largest else values
        ranked = np.lexsort((key, np.isnan(values), ~present), axis=0)
        place = np.empty_like(ranked)
        np.put_along_axis(place, ranked, np.arange(len(rows))[:, None], axis=0)
        here[rows] = present & (place < limit)
        order += [rows[row] for row in ranked[:, 0].tolist()]
    best = InstantVector(frame.labels, frame.values, here)
    return best.rows(order) if frame.values.shape[1] == 1 else best


def some(frame: InstantVector, grouped: Groups, many: Values) -> InstantVector:
    """limitk: the first `many` rows of each group that are there."""
    limit = _whole(many)
    here = np.zeros_like(frame.here)
    for rows in grouped.values():
        present = frame.here[rows]
        here[rows] = present & (np.cumsum(present, axis=0) <= limit)
    return InstantVector(frame.labels, frame.values, here)


def share(frame: InstantVector, ratio: Values, budget: Budget) -> InstantVector:
    """limit_ratio: a share of the series, chosen by their labels; -r is what 1 - r leaves out."""
    if np.isnan(ratio).any():
        raise QueryError(PromErrorType.EXECUTION, "Ratio value is NaN")
    beyond = ratio[np.abs(ratio) > 1]
    if len(beyond):
        value, cap = number(beyond[0]), "1" if beyond[0] > 0 else "-1"
        budget.warn(f"ratio value should be between -1 and 1, got {value}, capping to {cap}")
    ratio = np.clip(ratio, -1, 1)
    at = np.array([_spread(labels) for labels in frame.labels])[:, None]
    taken = np.where(ratio >= 0, at < ratio, at >= 1 + ratio)
    return InstantVector(frame.labels, frame.values, frame.here & taken)


def _spread(labels: Labels) -> float:
    """A number in [0, 1) that depends on nothing but the labels."""
    digest = hashlib.blake2b(repr(labels).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / (1 << 48)


def _whole(many: Values) -> np.ndarray:
    """Raises QueryError (execution) for what is no number of rows; below 1 all over is none."""
    if np.isnan(many).any():
        raise QueryError(PromErrorType.EXECUTION, "Parameter value is NaN")
    for beyond, word in ((many >= _INT64, "overflows"), (many <= -_INT64, "underflows")):
        if beyond.any() and many.max() >= 1:
            value = number(float(many[beyond][0]))
            raise QueryError(PromErrorType.EXECUTION, f"Scalar value {value} {word} int64")
    return np.clip(many, 0, 1e9).astype(np.int64)


def count_values(
    frame: InstantVector, node: Aggregate, label: str, budget: Budget
) -> InstantVector:
    """How many rows of a group have each value; the value becomes a label (and may be left out)."""
    if not label:
        raise QueryError(PromErrorType.EXECUTION, f'invalid label name "{label}"')
    names = frozenset((*node.labels, label) if node.by else (*node.labels, NAME))
    keep = kept if node.by else left_out
    bases: Groups = {}
    for row, each in enumerate(frame.labels):
        bases.setdefault(left_out(keep(each, names), frozenset((label,))), []).append(row)
    counts: dict[Labels, np.ndarray] = {}
    for base, rows in bases.items():
        values, table = _tally(frame.values[rows], frame.here[rows], budget)
        for value, count in zip(values.tolist(), table, strict=True):
            key = pack(dict(base) | dict(keep(((label, number(value, plain=True)),), names)))
            counts[key] = counts.get(key, 0) + count
    if not counts:
        return empty(frame.values.shape[1])
    table = np.array(list(counts.values()), dtype=np.float64)
    return InstantVector(list(counts), table, table > 0)


def _tally(values: Values, here: Mask, budget: Budget) -> tuple[Values, np.ndarray]:
    """The distinct values of some rows, and how often each stands at each step."""
    steps = values.shape[1]
    found, which = np.unique(values[here], return_inverse=True)
    budget.spend(len(found) * steps)
    places = which * steps + np.nonzero(here)[1]
    table = np.bincount(places, minlength=len(found) * steps)
    return found, table.reshape(len(found), steps)
